"""Retention: which groups live, judged by the age of last use, the newest syncs, and a budget.

Invariant: the verdict depends only on the manifests, the marks of use and the policy. A clock that
is wrong removes nothing by itself: ages are measured back from the newest sign of life in the
store, or from this machine's clock if that is earlier. Whatever no rule speaks about lives.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from casinductor.store.format.names import CacheId
from casinductor.store.index.groups import Keep
from casinductor.store.index.union import versions
from casinductor.store.maintain.budget import Footprint
from casinductor.store.store import Store
from casinductor.store.uses import DAY_MS, Uses, last_use
from casinductor.util import human


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


def judge(
    store: Store, policy: Policy, uses: Uses, max_unused: float = 0.5
) -> dict[CacheId, Verdict]:
    """A verdict on each cache of the catalog that has anything but removed manifests.

    Of packs that are more unused than the share ``max_unused`` a budget counts what is used.
    """
    origins: dict[CacheId, set[str]] = {}
    for cache in store.catalog.manifests.caches():
        syncs = {version.origin for version in versions(store.catalog, cache, even_hidden=True)}
        if syncs:
            origins[cache] = syncs
    now = time.time() * 1000
    used = {cache: last_use(uses.get(cache, set()), origins[cache], now) for cache in origins}
    reference = max(used.values(), default=now)
    found = {c: _verdict(c, policy, origins[c], reference - used[c]) for c in origins}
    for cache, verdict in found.items():
        if not verdict.everything:
            verdict.why += f" ({human.size(store.catalog.stored_bytes(cache))})"
    if policy.max_bytes is not None:
        _fit(store, policy, found, lambda cache: reference - used[cache], max_unused)
    return found


def _verdict(cache: CacheId, policy: Policy, origins: set[str], age: float) -> Verdict:
    if _protected(cache, policy):
        return Verdict(True, why="named by --keep")
    if policy.within is None and policy.last is None:
        return Verdict(True, why="no rule about it")
    days = age / DAY_MS
    if policy.within is not None and age <= policy.within * 1000:
        return Verdict(True, why=f"used {_ago(age)}")
    if policy.last:
        kept = set(sorted(origins)[-policy.last :])
        return Verdict(kept == origins, kept, f"the newest {len(kept)} of {len(origins)} syncs")
    return Verdict(False, why=f"not used for {days:.1f} days")


def _protected(cache: CacheId, policy: Policy) -> bool:
    return any(fnmatchcase(str(cache), p) or fnmatchcase(cache.key, p) for p in policy.keep)


def _fit(
    store: Store,
    policy: Policy,
    found: dict[CacheId, Verdict],
    age: Callable[[CacheId], float],
    max_unused: float,
) -> None:
    """Give up the least recently used caches until the rest fits the budget."""
    budget, kept, full = policy.max_bytes or 0, Footprint(store, max_unused), False
    living = [cache for cache, verdict in found.items() if verdict.everything or verdict.origins]
    for cache in sorted(living, key=lambda c: (not _protected(c, policy), age(c), c)):
        more = kept.more(cache)
        full = full or kept.bytes + more.bytes > budget
        if full and not _protected(cache, policy):
            told = f"{human.size(more.bytes)}, last used {_ago(age(cache))}"
            found[cache] = Verdict(False, why=f"beyond --max-bytes, least recently used: {told}")
        else:
            kept.add(more)


def _ago(age: float) -> str:
    return f"{age / DAY_MS:.1f} days ago"
