"""Removes packs and manifests that nothing needs any more, beside running syncs and collectors.

Invariant: a pack is deleted only after its tombstone, which is never lifted, was visible for the
grace time, and after everything that still named it then was copied and published elsewhere
(``docs/protocol.md``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from casinductor.deadline import Deadline
from casinductor.errors import NameTaken
from casinductor.store import names
from casinductor.store.fetch import Unusable, locate, read_blobs
from casinductor.store.names import CacheId
from casinductor.store.pack import Blob
from casinductor.store.publish import Draft, publish
from casinductor.store.store import Findings, Store

Wait = Callable[[float], None]


def retire(
    store: Store,
    cache: CacheId,
    manifests: Iterable[str],
    *,
    grace: float | None = None,
    wait: Wait = time.sleep,
) -> list[str]:
    """Delete manifests that a published one replaces, and the packs that only they named.

    ``grace`` seconds cover how stale a listing may be (default: the backend's). Returns the
    ULIDs of the packs removed.
    """
    seconds = store.backend.staleness if grace is None else grace
    old = list(manifests)
    suspects = _packs_of(store, cache, old)
    _pause(seconds, wait)
    for ulid in old:
        store.backend.delete(cache.manifest(ulid))
    return sweep(store, suspects - referenced(store), grace=seconds, wait=wait)


def sweep(
    store: Store, packs: set[str], *, grace: float | None = None, wait: Wait = time.sleep
) -> list[str]:
    """Condemn packs, wait, evacuate what somebody still needs of them, delete them."""
    if not packs:
        return []
    seconds = store.backend.staleness if grace is None else grace
    for ulid in sorted(packs):
        try:
            store.backend.put(names.condemned(ulid), [b""])
        except NameTaken:
            continue  # another collector condemned it too
    _pause(seconds, wait)
    for ulid in sorted(packs & referenced(store)):
        evacuate(store, ulid)
    for ulid in sorted(packs):
        store.backend.delete(names.pack(ulid))
    _pause(seconds, wait)
    for ulid in sorted(packs):
        store.backend.delete(names.condemned(ulid))
    return sorted(packs)


def referenced(store: Store) -> set[str]:
    """The packs that any manifest of the store names now, by a fresh look."""
    store.refresh(None, None, Findings(), Deadline(None))
    return {row[0] for row in store.catalog.db.execute("SELECT DISTINCT ulid FROM pack")}


def evacuate(store: Store, pack: str) -> None:
    """Copy what live manifests need of a condemned pack, and nothing else has, to a new one."""
    unusable = Unusable(packs=store.condemned() | {pack})
    rows = store.catalog.db.execute(
        "SELECT DISTINCT m.gpu, m.key FROM pack p JOIN manifest m ON m.id = p.manifest"
        " WHERE p.ulid = ?",
        (pack,),
    ).fetchall()
    for gpu, key in rows:
        cache = CacheId(gpu, key)
        wanted = _blobs_in(store, cache, pack)
        orphaned = [
            digest for digest in wanted if digest not in locate(store.catalog, wanted, unusable)
        ]
        if not orphaned:
            continue
        reading = Unusable(packs=unusable.packs - {pack})
        content = read_blobs(store.backend, store.catalog, orphaned, reading)
        draft = Draft(store, None, unusable)
        _, fresh = draft.place([Blob(digest, content[digest]) for digest in orphaned])
        publish(store, cache, draft, iter(fresh), list, root="", producer={}, also=orphaned)


def _blobs_in(store: Store, cache: CacheId, pack: str) -> list[bytes]:
    """The hashes that this cache's manifests locate in a pack."""
    store.catalog.index_blobs()
    rows = store.catalog.db.execute(
        "SELECT DISTINCT b.hash FROM manifest m JOIN pack p ON p.manifest = m.id"
        " JOIN frame f ON f.manifest = m.id AND f.pack = p.idx"
        " JOIN blob b ON b.manifest = m.id AND b.frame = f.idx"
        " WHERE m.gpu = ? AND m.key = ? AND p.ulid = ?",
        (cache.gpu, cache.key, pack),
    )
    return [row[0] for row in rows]


def _packs_of(store: Store, cache: CacheId, manifests: list[str]) -> set[str]:
    rows = store.catalog.db.execute(
        "SELECT DISTINCT p.ulid, m.ulid FROM pack p JOIN manifest m ON m.id = p.manifest"
        " WHERE m.gpu = ? AND m.key = ?",
        (cache.gpu, cache.key),
    )
    chosen = set(manifests)
    return {pack for pack, manifest in rows if manifest in chosen}


def _pause(seconds: float, wait: Wait) -> None:
    if seconds > 0:
        wait(seconds)
