"""Sync: publish what a local directory has and its cache lacks.

Invariant: only groups that are whole and at rest are published, each once per cache however many
workers made it; what is acknowledged is durable and cannot be lost by any other worker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from casinductor.deadline import Deadline
from casinductor.errors import StoreUnavailable
from casinductor.inductor import triton
from casinductor.inductor.directory import Found, Unstable, Walk, read_stable, walk
from casinductor.inductor.entries import Entry, read_entry
from casinductor.inductor.fingerprint import Fingerprint, refusal, requirement
from casinductor.inductor.graphs import Graphs
from casinductor.inductor.layout import RANK, Kind, complete, shareable_mode
from casinductor.inductor.relations import Relations
from casinductor.pieces import about, cut
from casinductor.reports import Progress, SyncReport, no_progress
from casinductor.store.draft import Draft, NewGroup
from casinductor.store.fetch import Unusable
from casinductor.store.frame import blake3_digest
from casinductor.store.health import bad_packs, lost_versions
from casinductor.store.manifest import Artifact, content_of
from casinductor.store.names import CacheId
from casinductor.store.pack import BREAK, Blob
from casinductor.store.publish import Published, conflicts, packs_of, publish
from casinductor.store.relatives import read_relatives
from casinductor.store.store import Findings, Store
from casinductor.store.union import Union, paths, resolve, versions
from casinductor.worker.ownership import brought, read_records
from casinductor.worker.snapshot import Snapshot

_NAMED = 64
_ATTEMPTS = 32  # beside collectors that spare nothing six were too few; the deadline holds
_ENTRIES = (Kind.FXGRAPH, Kind.AOTAUTOGRAD)
#: Entries are read before the Triton folders, as they say which of those they bundle.
_READ_ORDER = {**RANK, Kind.TRITON: 7, Kind.MODULE: 8}


@dataclass
class Candidate:
    """A group of the local directory that may have to be published."""

    id: str
    kind: Kind
    files: list[Found]
    replaces: list[bytes] = field(default_factory=list)
    entry: Entry | None = None
    artifacts: list[Artifact] = field(default_factory=list)
    hashes: list[tuple[str, int, bytes]] = field(default_factory=list)
    dropped: bool = False

    @property
    def order(self) -> tuple[int, str]:
        return _READ_ORDER[self.kind], self.files[0].path


class Synchronization:
    """One sync of ``root`` into ``cache``; use once.

    ``snapshot``: what lay there when the cache was loaded; None publishes all there is.
    ``keep_equivalent`` stores every entry, also those equal by key and guards; ``found``: a walk of
    ``root`` a moment ago.
    """

    def __init__(
        self,
        store: Store,
        cache: CacheId,
        root: str,
        snapshot: Snapshot | None,
        worker: Fingerprint,
        deadline: Deadline,
        *,
        keep_equivalent: bool = False,
        own_record: str = "",
        progress: Progress = no_progress,
        found: Walk | None = None,
    ) -> None:
        self.progress = progress
        self.store = store
        self.cache = cache
        self.root = root
        self.snapshot = snapshot
        self.worker = worker
        self.deadline = deadline
        self.keep_equivalent = keep_equivalent
        self.report = SyncReport(str(cache))
        self.findings = Findings()
        self.unusable = Unusable()
        self._own_record = own_record
        self._noted = False
        self._found = found
        self._walk = Walk()
        self._seen = Union()
        self._graphs = Graphs(root, self._walk)
        self._groups: dict[str, list[Found]] = {}
        self._claimed: set[str] = set()  # one directory may hold equivalent entries
        self._packs: dict[int, set[tuple[str, int]]] = {}  # of each manifest, when last looked
        self._relied: set[int] = set()  # manifests whose groups need not be published again

    def run(self) -> tuple[SyncReport, Snapshot | None]:
        """Publish; returns the report and, where there was one, the snapshot as of now.

        Raises what the store's operations raise; then nothing was acknowledged.
        """
        self._walk = walk(self.root) if self._found is None else self._found
        self._graphs = Graphs(self.root, self._walk)
        report = self.report
        report.files_seen, report.junk = self._walk.seen, self._walk.junk
        report.unknown = len(self._walk.unknown)
        report.unknown_paths = self._walk.unknown[:_NAMED]
        touched = self._touched()
        self._look()
        for attempt in range(_ATTEMPTS):
            report.attempts = attempt + 1
            published = self._publish(touched)
            self._count(published)
            if not published.conflicts:
                break
            self.unusable.packs |= published.conflicts
            self.store.refresh(self.cache.gpu, self.cache.key, self.findings, self.deadline)
        else:
            raise StoreUnavailable(
                f"{self.cache}: collectors removed what was published {_ATTEMPTS} times in a row"
            )
        report.damage += self.findings.damage
        if not self._noted:
            self.store.note_use(self.cache)
        return report, self._next_snapshot(touched)

    def _look(self) -> None:
        """Learn what the store has of this cache and which of it cannot be relied on.

        The mark of use comes first: a collector that condemned, unseen by this listing, what the
        cache has already, looks for such marks after it and keeps what is used.
        """
        try:
            if self.store.format_problem() is None:
                self.store.note_use(self.cache)
                self._noted = True
            self.unusable = self.store.unusable()
        except StoreUnavailable:
            self.store.prepare_to_write()  # a store that does not exist yet
        self.store.recheck(self.cache, self.findings, self.deadline)
        self.store.refresh(self.cache.gpu, self.cache.key, self.findings, self.deadline)
        self.unusable.packs |= bad_packs(self.store, self.cache, glance=True)

    def _union(self) -> Union:
        found = versions(self.store.catalog, self.cache)
        lost = lost_versions(self.store.catalog, found, self.unusable, elsewhere=False)
        condemned = self.unusable.manifests
        intact = (v for v in found if v.row not in lost and v.published not in condemned)
        return resolve(intact, lambda demands: refusal(demands, self.worker))

    def _touched(self) -> dict[str, bool]:
        """The paths this cache may publish, and whether each came or changed since the load."""
        snapshot, found = self.snapshot, self._walk.files
        if snapshot is None:
            return dict.fromkeys(found, False)
        touched: dict[str, bool] = {}
        records = read_records(self.root)
        others = [record for name, record in records.items() if name != self._own_record]
        for path, file in found.items():
            if snapshot.changed(path, file):
                if (
                    path not in snapshot.own
                    and brought(others, file.path, file.stamp)
                    and not file.atime > file.stamp.mtime
                ):
                    self.report.foreign += 1
                else:
                    touched[path] = True
            elif path in snapshot.own or snapshot.used(file):
                touched[path] = False
            else:
                self.report.foreign += 1
        if self.report.foreign:
            self._follow(touched)
        return touched

    def _follow(self, touched: dict[str, bool]) -> None:
        """Take along what the graphs to publish rely on, though another cache brought it."""
        found = self._walk.files
        graphs = [path for path in touched if found[path].place.kind is Kind.FXGRAPH]
        more = Relations(self.root, self._walk).relied_on(graphs) - touched.keys()
        touched.update(dict.fromkeys(more, False))
        self.report.foreign -= len(more)

    def _publish(self, touched: dict[str, bool]) -> Published:
        union = self._seen = self._union()
        self._packs, self._relied = packs_of(self.store, self.cache), set()
        candidates = self._candidates(touched, union)
        if not candidates:
            return Published(conflicts=conflicts(self.store, self._relied_packs()))
        self.store.prepare_to_write()
        worth = _bytes(candidates)
        read_relatives(self.store, self.cache, self.findings, self.deadline, worth)
        draft = Draft(self.store, self.cache.gpu, self.unusable)
        return publish(
            self.store,
            self.cache,
            draft,
            self._blobs(candidates, union, draft),
            lambda: [self._group(c) for c in candidates if _really_new(c)],
            root=self.root,
            producer={"fingerprint": self.worker.as_dict()},
            relied=self._relied_packs,
        )

    def _relied_packs(self) -> set[tuple[str, int]]:
        """What the groups need that this sync leaves to manifests of others, whose authors may die
        before their own handshake; as of the union, as the catalog may have moved on since.
        """
        named = set().union(*(self._packs.get(row, ()) for row in self._relied))
        return {pack for pack in named if pack[0] not in self.unusable.packs}  # none needs those

    def _candidates(self, touched: dict[str, bool], union: Union) -> list[Candidate]:
        """The groups to look into, in the order in which they are read."""
        groups: dict[tuple[Kind, str], list[Found]] = defaultdict(list)
        for path in touched:
            place = self._walk.files[path].place
            if place.kind is not None:
                groups[place.kind, place.group].append(self._walk.files[path])
        entry_ids = self._entry_ids(union)
        self.report.groups_seen = len(groups)
        self.report.equivalent = 0
        chosen = []
        for (kind, name), members in groups.items():
            everyone = self._siblings(kind, name, members)
            candidate = Candidate(entry_ids.get(name, name), kind, everyone)
            if not self._wanted(candidate, touched, union):
                continue
            if self._whole(candidate):
                chosen.append(candidate)
            else:
                self.report.unstable += len(everyone)
        return sorted(chosen, key=lambda candidate: candidate.order)

    def _siblings(self, kind: Kind, name: str, members: list[Found]) -> list[Found]:
        """A group is published whole, with those of its files that were not touched."""
        if kind in _ENTRIES or self.snapshot is None:
            return members
        if not self._groups:
            for file in self._walk.files.values():
                self._groups.setdefault(file.place.group, []).append(file)
        return self._groups[name]

    def _entry_ids(self, union: Union) -> dict[str, str]:
        """The group ids of entries that the cache holds, by path."""
        rows = self.store.catalog.db.execute(
            "SELECT a.path, g.gid, g.id FROM artifact a JOIN grp g ON g.id = a.grp"
            " JOIN manifest m ON m.id = g.manifest"
            " WHERE m.gpu = ? AND m.key = ? AND g.kind IN (?, ?)",
            (self.cache.gpu, self.cache.key, *(kind.value for kind in _ENTRIES)),
        )
        return {path: gid for path, gid, _ in rows if gid in union.groups}

    def _wanted(self, candidate: Candidate, touched: dict[str, bool], union: Union) -> bool:
        """Whether the cache lacks this group, as far as can be told without reading it."""
        live = union.groups.get(candidate.id)
        if live is None:
            return True
        snapshot = self.snapshot
        known = snapshot.contents.get(candidate.id) if snapshot is not None else None
        if known is not None and self._changed(candidate, touched):
            candidate.replaces = [known]
            return True
        self.report.equivalent += 1
        self._relied.add(live.manifest)
        return False

    def _changed(self, candidate: Candidate, touched: dict[str, bool]) -> bool:
        """Whether this worker had the cache's version and changed it, or completed it by a file
        that a hit needs and that whoever made it had not.
        """
        own = self.snapshot.own if self.snapshot is not None else set()
        return any(
            touched.get(file.path) and (file.path in own or file.place.needed)
            for file in candidate.files
        )

    def _whole(self, candidate: Candidate) -> bool:
        names = {file.path.rpartition("/")[2]: file for file in candidate.files}
        if not complete(candidate.kind, {name: file.mode for name, file in names.items()}):
            return False
        for file in candidate.files:
            if triton.is_group_file(file.path):
                try:
                    data = read_stable(self.root, file)
                except Unstable:
                    return False
                if triton.missing_children(data, set(names)):
                    return False
        return True

    def _blobs(self, candidates: list[Candidate], union: Union, draft: Draft) -> Iterator[Blob]:
        """Read the candidates and hand out the blobs to store, a default restore's first."""
        total, done = _bytes(candidates), 0
        for first in (True, False):
            yield BREAK
            for candidate in candidates:
                for file in candidate.files:
                    if candidate.dropped:
                        break
                    if self._needed(candidate, file) is first:
                        self.deadline.check()
                        yield from self._read(candidate, file, union, draft, first)
                        done += file.stamp.size
                        self.progress(done, total)

    def _needed(self, candidate: Candidate, file: Found) -> bool:
        bundled = candidate.id.rpartition("/")[2] in self._graphs.bundled()
        return not bundled if candidate.kind is Kind.TRITON else file.place.needed

    def _read(
        self, candidate: Candidate, file: Found, union: Union, draft: Draft, needed: bool
    ) -> Iterator[Blob]:
        try:
            data = read_stable(self.root, file)
        except Unstable:
            candidate.dropped = True
            self.report.unstable += len(candidate.files)
            return
        if triton.is_group_file(file.path):
            data = triton.portable(file.path, data)
        cuts: list[int] = []
        if candidate.kind in _ENTRIES:
            self._read_entry(candidate, file, data, union)
            if candidate.dropped:
                return
            cuts = candidate.entry.cuts if candidate.entry else []
        pieces = cut(data, cuts)
        digest = pieces[0].hash if len(pieces) == 1 else blake3_digest(data)
        indexes, fresh = draft.place(pieces)
        mode = shareable_mode(file.mode)
        whole = digest if len(pieces) != 1 else b""
        candidate.artifacts.append(Artifact(file.path, mode, len(data), whole, needed, indexes))
        candidate.hashes.append((file.path, mode, digest))
        self.report.bytes_new += sum(len(blob.data) for blob in fresh)
        yield from fresh

    def _read_entry(self, candidate: Candidate, file: Found, data: bytes, union: Union) -> None:
        """Learn an entry's key and guards; drop it if the cache has one that is as good."""
        parent = file.path.rpartition("/")[0]
        entry = read_entry(candidate.kind.value, parent.rpartition("/")[2], data)
        candidate.entry = entry
        if candidate.kind is Kind.FXGRAPH:
            self._graphs.learn(file.path, entry)
        if candidate.replaces:
            return
        if entry.guards is None:
            self.report.opaque += 1
        elif not self.keep_equivalent:
            guards = blake3_digest(entry.guards.encode()).hex()[:16]
            candidate.id = f"{candidate.kind.value}/{entry.key}#{guards}"
        live = union.groups.get(candidate.id)
        if live is not None:
            self._relied.add(live.manifest)
        if live is not None or candidate.id in self._claimed:
            self.report.equivalent += 1
            candidate.dropped = True
        self._claimed.add(candidate.id)

    def _group(self, candidate: Candidate) -> NewGroup:
        return NewGroup(
            candidate.id,
            candidate.kind.value,
            RANK[candidate.kind],
            content_of(candidate.hashes),
            self._demands(candidate),
            candidate.artifacts,
            candidate.replaces,
            about(candidate.entry),
        )

    def _demands(self, candidate: Candidate) -> dict[str, Any]:
        """What a worker must have to load the group; what cannot be read demands everything."""
        entry = candidate.entry
        machine_code, on_device, device = candidate.kind is Kind.CPP, False, None
        if entry is not None and entry.guards is None:
            machine_code, on_device = True, True
        elif entry is not None:
            device, on_device = entry.device, bool(entry.bundled)
            machine_code = entry.compiles_cpp or any(map(self._graphs.compiles_cpp, entry.fx_keys))
        return dict(
            requirement(self.worker, machine_code=machine_code, device=device, on_device=on_device)
        )

    def _count(self, published: Published) -> None:
        report, manifest = self.report, published.manifest
        report.bytes_uploaded += published.bytes
        if manifest is None:
            return
        report.manifest = manifest.ulid
        report.groups_added = max(report.groups_added, len(manifest.groups))
        added = [artifact for group in manifest.groups for artifact in group.artifacts]
        report.files_added = max(report.files_added, len(added))
        report.bytes_added = max(report.bytes_added, sum(a.size for a in added))
        self._claimed.clear()

    def _next_snapshot(self, touched: dict[str, bool]) -> Snapshot | None:
        """After a sync, everything it considered is the cache's own."""
        if self.snapshot is None:
            return None
        union = self._union() if self.report.manifest else self._seen
        contents = {group: v.content for group, v in union.groups.items()}
        fresh = Snapshot(self.root, contents=contents, keeps_atime=self.snapshot.keeps_atime)
        fresh.stamps = {path: file.stamp for path, file in self._walk.files.items()}
        fresh.own = set(touched)
        fresh.group_of = paths(self.store.catalog, union.groups.values())
        return fresh


def _really_new(candidate: Candidate) -> bool:
    """Whether a candidate that was read is to be published: it may only have been touched."""
    if candidate.dropped or not candidate.artifacts:
        return False
    return content_of(candidate.hashes) not in candidate.replaces


def _bytes(candidates: list[Candidate]) -> int:
    return sum(file.stamp.size for candidate in candidates for file in candidate.files)
