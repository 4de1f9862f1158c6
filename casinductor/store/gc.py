"""Removes packs and manifests that nothing needs any more, beside running syncs and collectors.

Invariant: a pack is deleted only after its tombstone, which is never lifted, was visible for the
grace time, and after everything that still named it then was copied and published elsewhere
(``docs/protocol.md``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from casinductor.deadline import Deadline
from casinductor.errors import Damaged, NameTaken
from casinductor.store import names
from casinductor.store.fetch import Unusable
from casinductor.store.names import CacheId
from casinductor.store.rewrite import rewrite
from casinductor.store.store import Findings, Store

_LEVEL = 12
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
    if packs & referenced(store):
        left = evacuate(store, packs)
        _pause(seconds, wait)
        for cache, ulid in left:
            store.backend.delete(cache.manifest(ulid))
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


def evacuate(store: Store, packs: set[str]) -> list[tuple[CacheId, str]]:
    """Publish again, without these packs, every manifest that names one of them.

    Returns the manifests that this replaces. What a pack no longer holds stays lost.
    """
    barred = store.unusable()
    there = set(store.packs())
    gone = {row[0] for row in store.catalog.db.execute("SELECT DISTINCT ulid FROM pack")} - there
    unreadable = Unusable((barred.packs - store.condemned()) | gone, set(barred.frames))
    barred.packs |= gone | packs
    marks = ",".join("?" * len(packs))
    rows = store.catalog.db.execute(
        "SELECT DISTINCT m.gpu, m.key, m.ulid FROM pack p JOIN manifest m ON m.id = p.manifest"
        f" WHERE p.ulid IN ({marks})",
        sorted(packs),
    ).fetchall()
    left: dict[CacheId, list[str]] = {}
    for gpu, key, ulid in rows:
        left.setdefault(CacheId(gpu, key), []).append(ulid)
    replaced = []
    for cache, old in left.items():
        try:
            done = rewrite(store, cache, old, barred=barred, unreadable=unreadable, level=_LEVEL)
        except Damaged:
            store.refresh(cache.gpu, cache.key, Findings(), Deadline(None))
            if set(old) <= {ulid for _, ulid in store.catalog.known(cache.gpu, cache.key)}:
                raise
            continue  # another collector has taken care of them meanwhile
        replaced += [(cache, ulid) for ulid in done.replaced]
    return replaced


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
