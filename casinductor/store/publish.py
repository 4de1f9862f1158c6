"""Publishes groups: packs first, then the manifest, then the handshake with collectors.

Invariant: when :func:`publish` reports no conflict, every pack that the manifest names was there
and uncondemned *after* the manifest could be seen, so no collector that obeys the protocol
(``docs/protocol.md``) removes a blob of it. Nothing a reader can see points at missing data.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from casinductor.errors import CasinductorError
from casinductor.store import names
from casinductor.store.draft import Draft, NewGroup
from casinductor.store.frame import Codec
from casinductor.store.manifest import Manifest, encode
from casinductor.store.names import CacheId
from casinductor.store.pack import Blob, write_packs
from casinductor.store.parallel import at_once
from casinductor.store.store import Store

#: Packs by ULID and size in bytes.
Packs = Collection[tuple[str, int]]


@dataclass
class Published:
    """What was published: the manifest (None for nothing), bytes put, and conflicting packs."""

    manifest: Manifest | None = None
    bytes: int = 0
    conflicts: set[str] = field(default_factory=set)


def publish(
    store: Store,
    cache: CacheId,
    draft: Draft,
    blobs: Iterator[Blob],
    groups: Callable[[], list[NewGroup]],
    *,
    root: str,
    producer: dict[str, Any],
    codec: Codec = Codec.LZ4,
    level: int = 12,
    replaced: list[str] | None = None,
    relied: Callable[[], Packs] = list,
) -> Published:
    """Store ``blobs``, then the manifest of what ``groups()`` says once they are consumed.

    A conflict names packs that the manifest relies on, or ``relied()`` says the caller does, and a
    collector condemned meanwhile, or that are gone: the caller stores those blobs anew and
    publishes again.
    """
    packs = list(
        write_packs(
            store.backend,
            blobs,
            codec,
            level,
            lambda of_pack: draft.outline(cache, groups(), of_pack, root, producer),
        )
    )
    written = sum(pack.size for pack in packs)
    draft.stored(packs)
    finished = groups()
    if not finished and not replaced:
        for pack in packs:  # nobody can know their names
            store.backend.delete(names.pack(pack.ulid))
        return Published(conflicts=conflicts(store, relied()))
    sizes = dict(draft.pack_sizes)
    sizes.update(store.catalog.db.execute("SELECT ulid, size FROM pack"))
    sizes.update((pack.ulid, pack.size) for pack in packs)
    manifest = draft.manifest(
        cache, finished, sizes, root=root, producer=producer, replaced=replaced
    )
    data = encode(manifest, codec)
    written += store.backend.put(cache.manifest(manifest.ulid), [data])
    store.catalog.add(manifest, len(data))
    named = {(pack.ulid, pack.size) for pack in manifest.packs}
    return Published(manifest, written, conflicts(store, named.union(relied())))


def conflicts(store: Store, packs: Packs) -> set[str]:
    """Packs (ULID, size) of published manifests that cannot be relied on.

    Tombstones are listed first: a pack is there longer than its tombstone is missing.
    """
    if not packs:
        return set()
    condemned = store.condemned()
    order = sorted(packs)
    there = at_once(
        lambda pack: pack[0] not in condemned and pack_is_there(store, *pack),
        order,
        store.backend.parallel,
    )
    return {ulid for (ulid, _), found in zip(order, there, strict=True) if not found}


def packs_of(store: Store, cache: CacheId) -> dict[int, set[tuple[str, int]]]:
    """The packs (ULID, size) that each manifest of a cache names, by its catalog row."""
    found: dict[int, set[tuple[str, int]]] = {}
    for row, ulid, size in store.catalog.db.execute(
        "SELECT p.manifest, p.ulid, p.size FROM pack p JOIN manifest m ON m.id = p.manifest"
        " WHERE m.gpu = ? AND m.key = ?",
        (cache.gpu, cache.key),
    ):
        found.setdefault(row, set()).add((ulid, size))
    return found


def unreliable(store: Store, ulid: str) -> bool:
    """The handshake for a manifest whose writer may have died before it."""
    rows = store.catalog.db.execute(
        "SELECT p.ulid, p.size FROM pack p JOIN manifest m ON m.id = p.manifest WHERE m.ulid = ?",
        (ulid,),
    ).fetchall()
    return bool(conflicts(store, rows))


def pack_is_there(store: Store, ulid: str, size: int) -> bool:
    """Whether the pack exists with the size it was published with."""
    try:
        return store.backend.size(names.pack(ulid)) == size
    except CasinductorError:
        return False
