"""Compaction: many manifests of a cache become one, its blobs long-window zstd packs.

Invariant: nothing is removed before what replaces it is published, and then only as collectors do.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from casinductor.errors import CacheNotFound, Damaged, StoreUnavailable
from casinductor.store.format.names import CacheId
from casinductor.store.grace import Pause, Wait, grace_of, pause
from casinductor.store.index.places import Spot, Unusable
from casinductor.store.index.union import versions
from casinductor.store.lookup import not_found
from casinductor.store.maintain.protocol import retire
from casinductor.store.maintain.rewrite import Rewritten, Terms, rewrite
from casinductor.store.read.fetch import BlobsLost
from casinductor.store.read.health import bad_packs, verify_suspects
from casinductor.store.store import Store


@dataclass
class CompactReport:
    """``manifests`` and ``packs`` that were replaced and removed; bytes are stored bytes of this
    cache's manifests and the packs they name, before and after.
    """

    cache: str
    manifest: str | None = None
    manifests_replaced: int = 0
    packs_removed: int = 0
    groups: int = 0
    groups_lost: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    bytes_uploaded: int = 0
    damage: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compact(
    store: Store,
    cache: CacheId,
    *,
    level: int = 12,
    grace: float | None = None,
    wait: Wait = time.sleep,
) -> CompactReport:
    """Rewrite a cache as one manifest with zstd packs of the given level, and remove the old.

    Raises :class:`CacheNotFound`, and what reading and writing raise; until the new manifest is
    published nothing has changed.
    """
    start = time.perf_counter()
    report = CompactReport(str(cache))
    store.require_there()
    refreshed = store.refresh(cache.gpu, cache.key)
    report.damage = refreshed.damage
    if not refreshed.listed:
        raise not_found(store.backend, cache)
    report.bytes_before = store.catalog.stored_bytes(cache)
    visible = _visible(store, cache)
    if not visible:
        raise CacheNotFound(f"{store.backend.url} holds nothing of {cache} but what was removed")
    if len(visible) == 1 and store.catalog.packs.all_compact(cache):
        report.bytes_after = report.bytes_before
        return report
    store.prepare_to_write()
    seconds = grace_of(store.backend, grace)
    done = _rewrite_all(store, cache, level, lambda: pause(seconds, wait))
    report.manifest, report.bytes_uploaded = done.manifest, done.bytes
    report.groups, report.groups_lost = done.groups, done.groups_lost
    report.manifests_replaced = len(done.replaced)
    report.packs_removed = len(retire(store, cache, done.replaced, grace=grace, wait=wait))
    report.bytes_after = store.catalog.stored_bytes(cache)
    report.seconds = time.perf_counter() - start
    return report


def _rewrite_all(store: Store, cache: CacheId, level: int, again: Pause) -> Rewritten:
    """Rewrite every manifest of the cache; if another compaction takes them away, start over.

    A blob that cannot be had is looked for again once listings must be fresh: it may have moved.
    Only places that failed twice count as lost.
    """
    waited = False
    doubted: set[Spot] = set()
    lost: set[Spot] = set()
    while True:
        old = _visible(store, cache)
        barred, suspects = store.read_marks(), Unusable()
        gone = bad_packs(store, cache)
        suspects.packs = (barred.packs - barred.manifests) | gone
        suspects.frames = set(barred.frames)
        unreadable = verify_suspects(store, cache, old, suspects, again)
        unreadable.spots |= lost
        barred.packs |= gone
        try:
            return rewrite(store, cache, old, Terms(barred, unreadable, level))
        except (Damaged, StoreUnavailable) as error:
            store.refresh(cache.gpu, cache.key)
            if not old <= _visible(store, cache):
                continue
            spots = error.spots if isinstance(error, BlobsLost) else set()
            if waited and not spots:
                raise
            lost |= spots & doubted
            doubted |= spots
            waited = True
        again()
        store.refresh(cache.gpu, cache.key)


def _visible(store: Store, cache: CacheId) -> set[str]:
    return {version.published for version in versions(store.catalog, cache, even_hidden=True)}
