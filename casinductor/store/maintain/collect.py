"""Collection: what a store holds that nothing needs, and its removal by the collectors' protocol.

Invariant: planning changes nothing; what is removed is what the plan said, less what was used or
published since. Only facts read anew from the manifests decide, never a worker's old catalog.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

from casinductor.errors import CasinductorError
from casinductor.store.format import names
from casinductor.store.format.names import CacheId
from casinductor.store.format.pack import read_footer
from casinductor.store.format.ulid import is_younger_than
from casinductor.store.grace import Wait, grace_of, pause
from casinductor.store.index.groups import Keep, Version
from casinductor.store.index.union import covered, versions
from casinductor.store.maintain.protocol import Manifests, Swept, require_all_manifests, sweep
from casinductor.store.maintain.retention import Policy, Verdict, judge
from casinductor.store.store import Store
from casinductor.store.uses import Uses, marks_of_use
from casinductor.store.write.journal import outdated
from casinductor.store.write.publish import unreliable

#: Rewriting what is left of a manifest can leave further packs with little use.
_ROUNDS = 3
_MARK_DAYS = 2
_CLAIM_HOURS = 24
_LEAD_SECONDS = 86_400
_COMPLETIONS = 50


@dataclass
class CollectionPlan:
    """ULIDs by what is wrong with them; ``verdicts`` on caches that lose something."""

    orphans: set[str] = field(default_factory=set)
    wasteful: set[str] = field(default_factory=set)
    expired: Manifests = field(default_factory=dict)
    removed: Manifests = field(default_factory=dict)
    replaced: Manifests = field(default_factory=dict)
    removals: Manifests = field(default_factory=dict)
    tombstones: set[str] = field(default_factory=set)
    marks: list[str] = field(default_factory=list)
    verdicts: dict[CacheId, Verdict] = field(default_factory=dict)
    uses: Uses = field(default_factory=dict)
    bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.packs or self.expired or self.removed or self.replaced or self.tombstones)

    @property
    def packs(self) -> set[str]:
        return self.orphans | self.wasteful


@dataclass
class CollectReport:
    """What was or would be removed. ``bytes_freed`` are those of the packs and manifests gone less
    those written to move what is still needed; before a collection, an estimate.
    """

    applied: bool = False
    packs: int = 0
    manifests: int = 0
    caches: dict[str, str] = field(default_factory=dict)
    bytes_before: int = 0
    bytes_freed: int = 0
    bytes_moved: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def collect(
    store: Store,
    policy: Policy | None = None,
    *,
    apply: bool = False,
    max_unused: float = 0.5,
    min_age_seconds: float = 600.0,
    grace: float | None = None,
    wait: Wait = time.sleep,
) -> CollectReport:
    """Remove what nothing needs; without ``apply``, say what that would be.

    Packs of which more than the share ``max_unused`` is unused are rewritten. Unreferenced packs
    younger than ``min_age_seconds`` are left, as a running sync may be about to name them: that
    saves it from storing them twice, safety does not rest on it. Raises what reading and writing
    raise; a collection that is cut short lost nothing, and the next one goes on.
    """
    start, report = time.perf_counter(), CollectReport(applied=apply)
    chosen = policy or Policy()
    for number in range(_ROUNDS if apply else 1):
        require_all_manifests(store)
        there = store.packs()
        plan = _plan(store, there, chosen, max_unused, min_age_seconds)
        if number == 0:
            report.bytes_before = _bytes(store, there)
            report.caches = {str(cache): verdict.why for cache, verdict in plan.verdicts.items()}
        if not apply:
            report.packs, report.bytes_freed = len(plan.packs & there.keys()), plan.bytes
            report.manifests = len({**plan.expired, **plan.removed, **plan.replaced})
            break
        if not plan:
            break
        _apply(store, plan, report, grace, wait)
    if apply:
        _tidy(store, plan, min_age_seconds)
        report.bytes_freed = report.bytes_before - _bytes(store, store.packs())
    report.seconds = time.perf_counter() - start
    return report


def _apply(
    store: Store, plan: CollectionPlan, report: CollectReport, grace: float | None, wait: Wait
) -> None:
    doomed = {**plan.expired, **plan.removed}
    known = store.catalog.manifests.caches_of()
    used = lru_cache(1)(lambda: marks_of_use(store))  # asked for once, after the grace time
    adopted = {ulid: known[ulid] for ulid in plan.tombstones if ulid in known}
    done: Swept = sweep(
        store,
        plan.packs | (plan.tombstones - adopted.keys()),
        {**adopted, **doomed},
        replaced=plan.replaced,
        keep_for=lambda cache: _keep_for(plan, cache, used()),
        grace=grace,
        wait=wait,
    )
    report.packs += len(set(done.packs) - (plan.tombstones - plan.packs))
    report.manifests += len(done.manifests)
    report.bytes_moved += done.moved
    report.problems += [problem for problem in done.problems if problem not in report.problems]
    require_all_manifests(store)
    if not done.problems and plan.removals:
        pause(grace_of(store.backend, grace), wait)
        for ulid, cache in plan.removals.items():
            store.backend.delete(cache.manifest(ulid))


def _keep_for(plan: CollectionPlan, cache: CacheId, uses: Uses) -> Keep:
    """What lives of a cache that loses manifests: the verdict's, or all if it was used since."""
    used = uses.get(cache, set()) - plan.uses.get(cache, set())
    verdict = plan.verdicts.get(cache, Verdict(True))
    wanted = Verdict(True).keeps() if used else verdict.keeps()

    def keeps(version: Version) -> bool:
        return version.published not in plan.removed and wanted(version)

    return keeps


def _plan(
    store: Store, there: dict[str, int], policy: Policy, max_unused: float, min_age_seconds: float
) -> CollectionPlan:
    plan = CollectionPlan(uses=marks_of_use(store), tombstones=store.marks.condemned())
    _hidden(store, plan, min_age_seconds)
    verdicts = judge(store, policy, plan.uses, max_unused)
    plan.verdicts = {c: verdict for c, verdict in verdicts.items() if not verdict.everything}
    dead: set[str] = set()
    for cache, verdict in plan.verdicts.items():
        keeps = verdict.keeps()
        living: set[str] = set()
        expired: set[str] = set()
        for version in versions(store.catalog, cache, even_hidden=True):
            (living if keeps(version) else expired).add(version.published)
        plan.expired.update(dict.fromkeys(expired, cache))
        dead |= expired - living
    for ulid in plan.replaced.keys() & plan.expired.keys():
        del plan.expired[ulid]
    going = dead | plan.removed.keys() | plan.replaced.keys()
    named, live = store.catalog.packs.referenced(), store.catalog.packs.referenced(going)
    fresh = {u for u in there.keys() - named if is_younger_than(u, min_age_seconds)}
    foreign = store.catalog.foreign.packs()
    plan.orphans = there.keys() - live - fresh - foreign
    used = store.catalog.blobs.used_bytes(going)
    plan.wasteful = {
        pack
        for pack in (live & there.keys()) - foreign - _immovable(store)
        if _wasteful(store, pack, there[pack], used.get(pack, 0.0), 1.0 - max_unused)
    }
    plan.marks = _old_marks(store, plan.uses) + outdated(store, int(time.time() * 1000))
    sizes = {ulid: size for (_, ulid), (_, size) in store.catalog.manifests.known().items()}
    plan.bytes = int(
        sum(there[u] for u in plan.orphans)
        + sum(there[u] - used.get(u, 0) for u in plan.wasteful)
        + sum(sizes[u] for u in going)
    )
    return plan


def _hidden(store: Store, plan: CollectionPlan, min_age_seconds: float) -> None:
    """Manifests that removals cover, and those that a complete manifest replaces."""
    known = store.catalog.manifests.caches_of()
    for cache in store.catalog.manifests.replacing():
        lineage = store.catalog.manifests.lineage(cache)
        names_of, removals = lineage
        hidden = covered(lineage) & known.keys()
        plan.removed.update(dict.fromkeys(hidden, cache))
        for ulid in removals:
            if not names_of[ulid] & known.keys() - hidden and not is_younger_than(
                ulid, min_age_seconds
            ):
                plan.removals[ulid] = cache
        for ulid in names_of.keys() - removals - hidden:
            old = names_of[ulid] & known.keys()
            if old and not unreliable(store, ulid, plan.tombstones):
                plan.replaced.update(dict.fromkeys(old, cache))


def _wasteful(store: Store, pack: str, size: int, used: float, share: float) -> bool:
    """Whether less than ``share`` of a pack's frames is used; its footer is not counted."""
    if used >= share * size:
        return False
    try:
        frames = read_footer(store.backend, pack, size).frames
    except CasinductorError:
        return False  # damaged, or just being removed: not a matter of waste
    return used < share * sum(frame.stored for frame in frames) - 1


def _immovable(store: Store) -> set[str]:
    """The packs of caches for which this collector has no key: what it moved, nobody would see."""
    found: set[str] = set()
    for cache in store.catalog.manifests.caches() if store.trust.active else ():
        if store.trust.refusal(str(cache)):
            found |= {pack.ulid for pack in store.catalog.packs.of_cache(cache)}
    return found


def _old_marks(store: Store, uses: Uses) -> list[str]:
    """All marks of use but each cache's newest, and those of the last days."""
    recent = time.strftime("%Y-%m-%d", time.gmtime(time.time() - _MARK_DAYS * 86_400))
    living = set(store.catalog.manifests.caches())
    found = []
    for cache, days in uses.items():
        keep = {max(days)} if cache in living else set()
        found += [cache.use(day) for day in days - keep if day < recent]
    return found


def _tidy(store: Store, plan: CollectionPlan, min_age_seconds: float) -> None:
    """Remove what says nothing any more: marks of past uses and of what is gone, old warm-ups."""
    for name in plan.marks:
        store.backend.delete(name)
    there = store.packs().keys() | store.catalog.manifests.caches_of().keys()
    for mark in store.marks.in_quarantine():
        if mark.ulid not in there:
            store.marks.withdraw(mark)
    for item in store.backend.list(f"{names.CLAIMS}/", recursive=True):
        hour = names.claim_hour(item.name)
        if hour is None or hour < time.time() / 3600 - _CLAIM_HOURS:
            store.backend.delete(item.name)
    for name in _old_completions(store):
        store.backend.delete(name)
    for item in store.backend.list(f"{names.LEADS}/", recursive=True):
        parsed = names.parse_lead(item.name)
        if parsed is None or not is_younger_than(parsed[0], _LEAD_SECONDS):
            store.backend.delete(item.name)
    for item in store.backend.list(f"{names.PROBES}/"):
        if not is_younger_than(item.name.rpartition("/")[2], min_age_seconds):
            store.backend.delete(item.name)


def _old_completions(store: Store) -> list[str]:
    """All but each cache's newest marks of complete warm-ups, and all of a cache that is gone."""
    living = {cache.completions for cache in store.catalog.manifests.caches()}
    newest: dict[str, list[str]] = {}
    for item in store.backend.list(f"{names.COMPLETIONS}/", recursive=True):
        newest.setdefault(item.name.rpartition("/")[0] + "/", []).append(item.name)
    return [
        name
        for prefix, found in newest.items()
        for name in (sorted(found)[:-_COMPLETIONS] if prefix in living else found)
    ]


def _bytes(store: Store, packs: dict[str, int]) -> int:
    return sum(packs.values()) + store.catalog.manifests.bytes()
