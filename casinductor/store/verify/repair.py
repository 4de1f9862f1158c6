"""Repair: make a damaged store whole again, and say what could not be saved.

Invariant: nothing is given up that this process has not itself failed to read; a damaged manifest
is copied to ``quarantine/`` before it goes, damaged packs stay until a collection; what is whole is
published anew, handshake included, before anything that holds it is deleted.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from casinductor.errors import CasinductorError, Damaged, NameTaken, ObjectMissing
from casinductor.store.format import names
from casinductor.store.format.names import CacheId, Mark
from casinductor.store.grace import Wait, grace_of, pause
from casinductor.store.index.places import Unusable
from casinductor.store.maintain.rewrite import Terms, require_keys, rewrite
from casinductor.store.read.health import verify_suspects
from casinductor.store.store import Store
from casinductor.store.verify.check import CheckReport, Inspection
from casinductor.store.verify.rebuild import Rebuilder
from casinductor.store.verify.schedule import VerificationLog
from casinductor.util.human import counted


@dataclass
class RepairReport:
    """What was found, done and lost. ``lost`` lists, by cache, the groups that no copy is left of;
    a worker that has them heals the cache at its next sync.
    """

    found: CheckReport = field(default_factory=CheckReport)
    done: list[str] = field(default_factory=list)
    lost: dict[str, list[str]] = field(default_factory=dict)
    groups_rebuilt: int = 0
    groups_moved: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def repair(
    store: Store,
    *,
    data: float = 0.0,
    from_packs: bool = False,
    memory: VerificationLog | None = None,
    grace: float | None = None,
    wait: Wait = time.sleep,
) -> RepairReport:
    """Check (reading the share ``data`` of all bytes) and mend what the check found.

    ``from_packs`` also publishes groups that only unreferenced packs tell of.

    Raises what the store raises when it fails to answer, and what :func:`require_keys` raises; what
    was done until then stays good.
    """
    start, report = time.perf_counter(), RepairReport()
    inspection = Inspection(store, memory or VerificationLog(None))
    report.found = inspection.run(data, None)
    require_keys(store)
    if report.found.problems or (from_packs and report.found.orphaned):
        again = partial(pause, grace_of(store.backend, grace), wait)
        work = _Repair(store, inspection, report, again, from_packs)
        work.run()
    report.seconds = time.perf_counter() - start
    return report


class _Repair:
    def __init__(
        self,
        store: Store,
        inspection: Inspection,
        report: RepairReport,
        again: Callable[[], None],
        from_packs: bool,
    ) -> None:
        self.from_packs = from_packs
        self.store = store
        self.inspection = inspection
        self.report = report
        self.again = again

    def run(self) -> None:
        self.store.prepare_to_write()
        if any(problem.kind == "format" for problem in self.report.found.problems):
            self.report.done.append(f"{names.FORMAT} was published anew")
        self._manifests()
        self._packs()

    def _manifests(self) -> None:
        damaged: dict[CacheId, list[str]] = defaultdict(list)
        for cache, ulid in self.inspection.unread:
            if self._set_aside(cache, ulid):
                damaged[cache].append(ulid)
        orphaned = self.report.found.orphaned if self.from_packs else {}
        caches = damaged.keys() | {CacheId(*name.split("/", 1)) for name in orphaned}
        if not caches:
            return
        rebuilder = Rebuilder(self.store, self.inspection)
        for cache in sorted(caches):
            if self.store.trust.active:  # what packs tell is not signed
                self.report.done.append(
                    f"{cache}: nothing was rebuilt, as keys are set and packs are not signed; a "
                    "worker that has the files publishes them again"
                )
                continue
            manifest, groups = rebuilder.rebuild(cache)
            self.report.groups_rebuilt += groups
            if manifest:
                self.report.done.append(
                    f"{cache}: {counted(groups, 'group')} of lost manifests rebuilt from packs"
                )
        self.again()
        for cache, ulids in damaged.items():
            for ulid in ulids:
                self.store.backend.delete(cache.manifest(ulid))

    def _set_aside(self, cache: CacheId, ulid: str) -> bool:
        """Copy a damaged manifest to quarantine; False if it can be read after all."""
        try:
            self.store.read_manifest(cache, ulid)
        except ObjectMissing:
            return True
        except Damaged as error:
            name = names.quarantined(ulid)
            with suppress(NameTaken, Damaged):  # kept before, or nothing that can be read at all
                self.store.backend.put(name, [self.store.backend.get(cache.manifest(ulid))])
            self.report.done.append(f"{cache.manifest(ulid)} went to quarantine: {error}")
            return True
        return False

    def _packs(self) -> None:
        """Publish anew, without the bad packs, every manifest that names one."""
        problems = [p for p in self.report.found.problems if p.kind not in ("format", "manifest")]
        bad = {ulid for p in problems if (ulid := names.parse_pack(p.name)) is not None}
        if not bad:
            return
        self.store.refresh()
        work: dict[CacheId, set[str]] = defaultdict(set)
        known = self.store.catalog.manifests.caches_of()
        for ulid in self.store.catalog.packs.naming(bad):
            work[known[ulid]].add(ulid)
        proofs = {
            c: verify_suspects(self.store, c, old, Unusable(packs=bad), self.again)
            for c, old in work.items()
        }
        really = self._really_bad(bad, proofs)
        for problem in problems:
            self._mark(problem.name, problem.offset, problem.what, really)
        replaced: list[tuple[CacheId, str]] = []
        for cache in sorted(work):
            old = work[cache] & self.store.catalog.packs.naming(really)
            if old:
                self._move(cache, old, really, proofs[cache])
                replaced += [(cache, ulid) for ulid in old]
        if replaced:
            self.again()
        for cache, ulid in replaced:
            self.store.backend.delete(cache.manifest(ulid))

    def _really_bad(self, bad: set[str], proofs: dict[CacheId, Unusable]) -> set[str]:
        """Those packs that fail this process too; marks of others alone prove nothing."""
        marked_only = bad - {
            ulid
            for p in self.report.found.problems
            if p.kind != "mark" and (ulid := names.parse_pack(p.name)) is not None
        }
        spotted = {spot[0] for proof in proofs.values() for spot in proof.spots}
        return bad - (marked_only - spotted)

    def _mark(self, name: str, offset: int | None, what: str, really: set[str]) -> None:
        ulid = names.parse_pack(name) or ""
        if ulid not in really:
            self.store.marks.withdraw(Mark(ulid, offset))
            self.report.done.append(f"{name} can be read; the mark against it was taken away")
        elif self.store.marks.quarantine_pack(ulid, what):
            sentence = f"{name} is marked in quarantine and no longer relied on"
            if sentence not in self.report.done:
                self.report.done.append(sentence)

    def _move(self, cache: CacheId, old: set[str], bad: set[str], lost: Unusable) -> None:
        barred = self.store.read_marks()
        barred.packs |= bad
        try:
            done = rewrite(self.store, cache, old, Terms(barred, lost, lend=True))
        except CasinductorError as error:
            raise type(error)(f"{cache}: {error}") from error
        self.report.groups_moved += done.groups
        if done.lost:
            groups = self.report.lost.setdefault(str(cache), [])
            groups += sorted({v.id for v in done.lost} - set(groups))
