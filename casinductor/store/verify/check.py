"""Check: whether a store holds what its manifests say, by structure or down to every byte.

Invariant: nothing is changed, and every problem names the object, what is wrong with it and which
caches need it. A failure of the store to answer is an error, never a finding.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from casinductor.deadline import UNLIMITED
from casinductor.errors import Damaged, InvalidName, ObjectMissing, StoreUnavailable
from casinductor.store.format import names
from casinductor.store.format.manifest import Group
from casinductor.store.format.names import CacheId
from casinductor.store.format.outline import Outline, decode
from casinductor.store.format.pack import Footer, read_footer
from casinductor.store.index.manifests import ManifestId
from casinductor.store.index.places import FrameRef, Located, Losses, Plan
from casinductor.store.index.union import removed, versions
from casinductor.store.read.fetch import fetch
from casinductor.store.store import Store
from casinductor.store.verify.schedule import VerificationLog

#: Told the bytes read and the bytes to be read.


@dataclass
class Problem:
    """One damaged object. ``kind``: ``format``, ``manifest``, ``pack`` (missing or of another
    size), ``footer``, ``index`` (a manifest and a footer differ), ``frame`` or ``mark`` (another
    worker met bad data there); ``offset``: of a frame in its pack.
    """

    kind: str
    name: str
    what: str
    caches: list[str] = field(default_factory=list)
    offset: int | None = None

    def sentence(self) -> str:
        needed = f" (needed by {', '.join(self.caches[:4])})" if self.caches else ""
        at = f" at byte {self.offset}" if self.offset is not None else ""
        return f"{self.name}{at}: {self.what}{needed}"


@dataclass
class CheckReport:
    """What was looked at and what is wrong. ``packs_read`` were verified down to every blob;
    ``unreferenced`` packs, ``removed`` manifests and ``condemned`` objects wait for a collection;
    ``orphaned`` counts, by cache, groups that only unreferenced packs tell of.
    """

    problems: list[Problem] = field(default_factory=list)
    manifests: int = 0
    packs: int = 0
    blobs: int = 0
    packs_read: int = 0
    bytes_read: int = 0
    unreferenced: int = 0
    removed: int = 0
    condemned: int = 0
    orphaned: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check(
    store: Store,
    *,
    data: float = 0.0,
    seconds: float | None = None,
    memory: VerificationLog | None = None,
) -> CheckReport:
    """Check the structure, and read packs that hold the share ``data`` (0 to 1) of all bytes.

    Those that were read longest ago come first; after ``seconds`` no further frame is read.
    Raises what the store raises when it fails to answer.
    """
    return Inspection(store, memory or VerificationLog(None)).run(data, seconds)


class Inspection:
    """One check of a store; keeps the footers that it read. Use once."""

    def __init__(self, store: Store, memory: VerificationLog) -> None:
        self.store = store
        self.memory = memory
        self.report = CheckReport()
        self.unread: list[ManifestId] = []
        self.there: dict[str, int] = {}
        self.footers: dict[str, Footer] = {}
        self._users: dict[str, set[str]] = {}

    def run(self, data: float, seconds: float | None) -> CheckReport:
        start = time.perf_counter()
        self.store.require_there()
        self._format()
        self._manifests()
        self.there = self.store.packs()
        condemned = self.store.marks.condemned()
        named = self.store.catalog.packs.referenced()
        self._packs(named)
        self._marks(named)
        report = self.report
        report.packs, report.condemned = len(self.there), len(condemned)
        report.unreferenced = len(self.there.keys() - named)
        self._orphans(self.there.keys() - named - condemned)
        self._data(named, data, start + seconds if seconds is not None else None)
        self.memory.forget_others(set(self.there))
        report.seconds = time.perf_counter() - start
        return report

    def _add(
        self, kind: str, name: str, what: str, caches: set[str], at: int | None = None
    ) -> None:
        self.report.problems.append(Problem(kind, name, what, sorted(caches), at))

    def _format(self) -> None:
        problem = self.store.format_problem()
        if problem is not None:
            self._add("format", names.FORMAT, problem, set())

    def _manifests(self) -> None:
        refreshed = self.store.refresh()
        self.report.manifests = refreshed.listed
        self.unread = refreshed.unread
        for (cache, ulid), what in zip(refreshed.unread, refreshed.damage, strict=True):
            self._add("manifest", cache.manifest(ulid), what, {str(cache)})
        self._users = self.store.catalog.packs.users()
        caches = self.store.catalog.manifests.replacing()
        self.report.removed = sum(len(removed(self.store.catalog, cache)) for cache in caches)

    def _packs(self, named: set[str]) -> None:
        sizes = self.store.catalog.packs.sizes()
        every = sorted(named | self.there.keys())
        for number, ulid in enumerate(every):
            self.store.watch("looking at packs", number, len(every), "packs")
            try:
                self._pack(ulid, sizes.get(ulid))
            except ObjectMissing:
                self._add("pack", names.pack(ulid), "is missing", self._users.get(ulid, set()))
            except Damaged as error:
                if ulid in named:
                    self._add("footer", names.pack(ulid), str(error), self._users.get(ulid, set()))
        for ulid in sorted(named & self.footers.keys()):
            if self._disagrees(ulid):
                what = "a manifest names frames or blobs that its footer does not"
                self._add("index", names.pack(ulid), what, self._users.get(ulid, set()))

    def _pack(self, ulid: str, size: int | None) -> None:
        actual = self.store.backend.size(names.pack(ulid))
        if size is not None and actual != size:
            raise Damaged(f"has {actual} bytes instead of {size}")
        footer = read_footer(self.store.backend, ulid, actual)
        self.footers[ulid] = footer
        self.report.blobs += len(footer.size)

    def _disagrees(self, ulid: str) -> bool:
        footer = self.footers[ulid]
        frames = {tuple(frame) for frame in footer.frames}
        return bool(self.store.catalog.packs.frames(ulid) - frames)

    def _orphans(self, loose: set[str]) -> None:
        """Count groups that only unreferenced packs tell of."""
        for ulid in sorted(loose & self.footers.keys()):
            outline = self.outline(ulid)
            if outline is None:
                continue
            count = len(lacking(self.store, outline))
            if count:
                cache = f"{outline.gpu}/{outline.key}"
                self.report.orphaned[cache] = self.report.orphaned.get(cache, 0) + count

    def outline(self, ulid: str) -> Outline | None:
        """What a pack says about groups, if anything that can be used."""
        footer = self.footers[ulid]
        if not footer.outline:
            return None
        try:
            return decode(footer.outline, footer.hashes, f"pack {ulid}")
        except Damaged:
            return None

    def _marks(self, named: set[str]) -> None:
        for mark in self.store.marks.in_quarantine():
            if mark.ulid in named and mark.ulid in self.there:
                what = "a worker could not read this"
                users = self._users.get(mark.ulid, set())
                self._add("mark", names.pack(mark.ulid), what, users, mark.offset)

    def _data(self, named: set[str], share: float, until: float | None) -> None:
        readable = named & self.footers.keys()
        wanted = share * sum(self.there[ulid] for ulid in readable)
        done = 0
        for ulid in self.memory.oldest_first(readable):
            if done >= wanted or (until is not None and time.perf_counter() >= until):
                return
            if not self._read(ulid, until):
                return
            done += self.there[ulid]
            self.store.watch("reading packs", done, max(done, int(wanted)), "B")

    def _read(self, ulid: str, until: float | None) -> bool:
        """Verify every blob of a pack; False if the time was up before the end."""
        plan, losses = plan_of(self.footers[ulid]), Losses()
        for opened in fetch(self.store.backend, plan, losses, UNLIMITED):
            self.report.bytes_read += opened.stored
            if until is not None and time.perf_counter() >= until:
                break
        else:
            self.report.packs_read += 1
            if not losses.spots and not losses.failures:
                self.memory.note(ulid)
            return self._note(ulid, losses)
        self._note(ulid, losses)
        return False

    def _note(self, ulid: str, losses: Losses) -> bool:
        if losses.failures:
            raise StoreUnavailable(losses.failures[0])
        for frame, reason in sorted(losses.frames.items()):
            self._add("frame", names.pack(ulid), reason, self._users.get(ulid, set()), frame.offset)
        for pack in losses.packs:
            self._add("pack", names.pack(pack), "is missing", self._users.get(pack, set()))
        return True


def lacking(store: Store, outline: Outline) -> list[Group]:
    """The groups of an outline whose very version no manifest of their cache has."""
    try:
        cache = CacheId(outline.gpu, outline.key)
    except InvalidName:
        return []
    there = {
        (v.id, v.content)
        for v in versions(store.catalog, cache, even_removed=True, even_hidden=True)
    }
    return [group for group in outline.groups if (group.id, group.content) not in there]


def plan_of(footer: Footer) -> Plan:
    """Everything in a pack, by its own footer."""
    plan: Plan = defaultdict(list)
    references = [FrameRef(footer.ulid, *frame) for frame in footer.frames]
    for spot in footer.spots():
        plan[references[spot.frame]].append(Located(spot.hash, spot.offset, spot.size))
    return plan
