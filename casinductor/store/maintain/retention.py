"""Retention: which groups live, judged by the age of last use, the newest syncs, and a budget.

Invariant: the verdict depends only on the manifests, the marks of use and the policy. A clock that
is wrong removes nothing by itself: ages are measured back from the newest sign of life in the
store, or from this machine's clock if that is earlier. Whatever no rule speaks about lives.
"""

from __future__ import annotations

import calendar
import time
from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from casinductor.store.format import names
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import ulid_ms
from casinductor.store.index.groups import Keep
from casinductor.store.index.union import versions
from casinductor.store.marks import SLOT_SECONDS
from casinductor.store.store import Store

_DAY_MS = 86_400_000
Uses = dict[CacheId, set[str]]


@dataclass(frozen=True)
class Policy:
    """What to keep; None means that the rule is not there.

    ``within``: seconds since a cache was last restored or synced; ``last``: of every other cache
    the groups of that many newest syncs; ``max_bytes``: stored bytes of all caches, the least
    recently used go first; ``keep``: patterns (fnmatch) of ``GPU/key`` that always live.
    """

    within: float | None = None
    last: int | None = None
    max_bytes: int | None = None
    keep: tuple[str, ...] = ()


@dataclass
class Verdict:
    """What lives of a cache: all, nothing, or what the syncs in ``origins`` added; and why."""

    everything: bool
    origins: set[str] = field(default_factory=set)
    why: str = ""

    def keeps(self) -> Keep:
        return lambda version: self.everything or version.origin in self.origins


def marks_of_use(store: Store) -> Uses:
    """The days on which each cache was used, by a fresh listing."""
    found: Uses = defaultdict(set)
    for item in store.backend.list(f"{names.USES}/", recursive=True):
        parsed = names.parse_use(item.name)
        if parsed:
            found[parsed[0]].add(parsed[1])
    return dict(found)


def judge(store: Store, policy: Policy, uses: Uses) -> dict[CacheId, Verdict]:
    """A verdict on each cache of the catalog that has anything but removed manifests."""
    origins: dict[CacheId, set[str]] = {}
    for cache in store.catalog.manifests.caches():
        syncs = {version.origin for version in versions(store.catalog, cache, even_hidden=True)}
        if syncs:
            origins[cache] = syncs
    now = time.time() * 1000
    used = {cache: last_use(uses.get(cache, set()), origins[cache], now) for cache in origins}
    reference = max(used.values(), default=now)
    found = {c: _verdict(c, policy, origins[c], reference - used[c]) for c in origins}
    if policy.max_bytes is not None:
        _fit(store, policy, found, used)
    return found


def last_use(days: set[str], origins: set[str], now: float) -> float:
    """When a cache was last restored or synced, in Unix milliseconds, never later than ``now``.

    A mark of use stands for the whole of its ten seconds or its day.
    """
    ends = [end for day in days if (end := _end_of(day)) is not None]
    return min(max([*ends, *map(ulid_ms, origins)], default=0.0), now)


def _end_of(mark: str) -> float | None:
    """The last millisecond that a mark of use stands for: of its day, or of its ten seconds."""
    long = "T" in mark
    try:
        start = time.strptime(mark, "%Y-%m-%dT%H%M%S" if long else "%Y-%m-%d")
    except ValueError:
        return None
    return calendar.timegm(start) * 1000.0 + (SLOT_SECONDS * 1000 if long else _DAY_MS) - 1


def _verdict(cache: CacheId, policy: Policy, origins: set[str], age: float) -> Verdict:
    if _protected(cache, policy):
        return Verdict(True, why="named by --keep")
    if policy.within is None and policy.last is None:
        return Verdict(True, why="no rule about it")
    days = age / _DAY_MS
    if policy.within is not None and age <= policy.within * 1000:
        return Verdict(True, why=f"used {days:.1f} days ago")
    if policy.last:
        kept = set(sorted(origins)[-policy.last :])
        return Verdict(kept == origins, kept, f"the newest {len(kept)} of {len(origins)} syncs")
    return Verdict(False, why=f"not used for {days:.1f} days")


def _protected(cache: CacheId, policy: Policy) -> bool:
    return any(fnmatchcase(str(cache), p) or fnmatchcase(cache.key, p) for p in policy.keep)


def _fit(
    store: Store, policy: Policy, found: dict[CacheId, Verdict], used: dict[CacheId, float]
) -> None:
    """Give up the least recently used caches until the rest fits the budget."""
    budget = policy.max_bytes or 0
    counted: set[tuple[str, int]] = set()
    total, full = 0, False
    living = [cache for cache, verdict in found.items() if verdict.everything or verdict.origins]
    for cache in sorted(living, key=lambda c: (not _protected(c, policy), -used[c], c)):
        size, frames = _stored(store, cache, counted)
        full = full or total + size > budget
        if full and not _protected(cache, policy):
            found[cache] = Verdict(False, why="beyond --max-bytes, least recently used")
        else:
            total += size
            counted |= frames


def _stored(
    store: Store, cache: CacheId, counted: set[tuple[str, int]]
) -> tuple[int, set[tuple[str, int]]]:
    """Bytes of a cache's manifests and of its frames that are not counted yet, and those frames."""
    total = store.catalog.manifests.bytes(cache)
    frames: set[tuple[str, int]] = set()
    for pack, offset, stored in store.catalog.packs.frames_of_cache(cache):
        if (pack, offset) not in counted:
            frames.add((pack, offset))
            total += stored
    return total, frames
