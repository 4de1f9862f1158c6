"""Automatic compaction: the sync that finds a cache in many manifests merges them into one.

Invariant: of a thousand workers that find so, one does it (a fresh name elects it), and what it
replaces is deleted only once a manifest that says the same is known to be complete. A merge that
fails or dies costs nothing but its time: the manifests it read still count.
"""

from __future__ import annotations

import time

from casinductor.deadline import Deadline
from casinductor.errors import CasinductorError, NameTaken
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import new_ulid, ulid_ms
from casinductor.store.grace import grace_of
from casinductor.store.index.union import versions
from casinductor.store.maintain.rewrite import Terms, lacks_keys, rewrite
from casinductor.store.store import Store
from casinductor.store.write.publish import unreliable
from casinductor.util.voice import warn

#: Packs below this size are joined, as each costs a restore a request of its own.
SMALL_PACK_BYTES = 4 << 20
#: So many bytes of them at most are read and written again by one merge.
_JOINED_BYTES = 32 << 20
#: A merge runs on a worker's start: zstd 3 is as fast as a disk, 12 is for ``casinductor compact``.
_LEVEL = 3


def merge(store: Store, cache: CacheId, after: int, deadline: Deadline) -> int:
    """Merge the cache's manifests if there are ``after`` or more; return how many were merged.

    The catalog has just been refreshed. Raises what reading and publishing raise.
    """
    if lacks_keys(store, cache):
        return 0  # its signatures would be lost
    _clear(store, cache)
    old = {version.published for version in versions(store.catalog, cache, even_hidden=True)}
    old -= _replaced(store, cache)
    if len(old) < after or not _elected(store, cache, min(old)):
        return 0
    store.refresh(cache.gpu, cache.key, deadline)
    old = {version.published for version in versions(store.catalog, cache, even_hidden=True)}
    if len(old) < after:
        return 0
    terms = Terms(
        store.read_marks(),
        level=_LEVEL,
        lend=True,
        lendable=_large(store, cache),
        deadline=deadline,
    )
    done = rewrite(store, cache, old, terms)
    _clear(store, cache)
    return len(done.replaced)


def merge_if_time(store: Store, cache: CacheId, after: int, deadline: Deadline) -> int:
    """As :func:`merge` if half of the time is left, for a sync that is acknowledged already and
    does not fail for it; the manifests that became one. ``after`` 0: never.
    """
    left = deadline.remaining()
    if not after or (left is not None and left < (deadline.seconds or 0.0) / 2):
        return 0
    try:
        return merge(store, cache, after, deadline)
    except CasinductorError as error:
        warn(f"{cache}: its manifests were not merged: {error}")
        return 0


def _elected(store: Store, cache: CacheId, oldest: str) -> bool:
    """Whether this worker is the one to merge; for an hour nobody else is, until it is done."""
    try:
        store.backend.put(cache.claim(oldest, int(time.time()) // 3600), [new_ulid().encode()])
    except NameTaken:
        return False
    return True


def _large(store: Store, cache: CacheId) -> set[str]:
    """The packs known but for the small ones of this cache, which are to be joined."""
    rows = store.catalog.packs.small(cache, SMALL_PACK_BYTES)
    joined: set[str] = set()
    total = 0
    for ulid, size in rows:
        total += size
        if total > _JOINED_BYTES:
            break
        joined.add(ulid)
    everything = set(store.catalog.packs.sizes())
    return everything - joined if len(joined) > 1 else everything


def _replaced(store: Store, cache: CacheId) -> set[str]:
    """The manifests that another one, no removal, stands for."""
    return store.catalog.manifests.lineage(cache).replaced()


def _clear(store: Store, cache: CacheId) -> None:
    """Delete what complete manifests replace, once every client must see those.

    A clock that is wrong costs a reader with a stale listing a miss and nothing else: whatever is
    deleted here is said by a manifest whose packs were looked at after it was published.
    """
    now, grace = time.time(), grace_of(store.backend, None)
    known = {
        ulid: row
        for (_, ulid), (row, _) in store.catalog.manifests.known(cache.gpu, cache.key).items()
    }
    stands_for, removals = store.catalog.manifests.lineage(cache)
    for ulid in sorted(stands_for.keys() - removals):
        old = stands_for[ulid] & known.keys()
        if not old or ulid not in known or now - ulid_ms(ulid) / 1000 < grace:
            continue
        if unreliable(store, ulid):
            continue
        for target in sorted(old):
            store.backend.delete(cache.manifest(target))
        store.catalog.drop(known.pop(target) for target in old)
