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
from casinductor.store.format import names
from casinductor.store.format.frame import Codec
from casinductor.store.format.manifest import Manifest
from casinductor.store.format.names import CacheId
from casinductor.store.format.pack import Blob
from casinductor.store.format.packing import WrittenPack, write_packs
from casinductor.store.parallel import map_parallel
from casinductor.store.store import Store
from casinductor.store.write.draft import Draft, NewGroup

#: Packs by ULID and size in bytes.
Packs = Collection[tuple[str, int]]


@dataclass
class Published:
    """What was published: the manifest (None for nothing), bytes put, and conflicting packs."""

    manifest: Manifest | None = None
    bytes: int = 0
    conflicts: set[str] = field(default_factory=set)


@dataclass
class Source:
    """What a manifest is made of: ``blobs`` to store, and ``groups()``, asked once they are
    consumed.

    ``root`` is the producer's local directory and ``producer`` what is known of it; new packs are
    written with ``codec`` at ``level``; the manifest stands for those ``replaced`` and ``hides``
    contents of groups; ``relied()`` names packs that the caller counts on beside those that the
    manifest names.
    """

    blobs: Iterator[Blob]
    groups: Callable[[], list[NewGroup]]
    root: str = ""
    producer: dict[str, Any] = field(default_factory=dict)
    codec: Codec = Codec.LZ4
    level: int = 12
    replaced: list[str] = field(default_factory=list)
    hides: list[bytes] = field(default_factory=list)
    relied: Callable[[], Packs] = list


def publish(store: Store, cache: CacheId, draft: Draft, source: Source) -> Published:
    """Store the source's blobs, then the manifest of its groups.

    A conflict names packs that the manifest or the caller relies on and that a collector condemned
    meanwhile, or that are gone: the caller stores those blobs anew and publishes again.
    """
    store.trust.require_signer(str(cache))
    store.founding.await_mode()
    packs = _write_packs(store, cache, draft, source)
    written = sum(pack.size for pack in packs)
    finished = source.groups()
    if not (finished or source.replaced or source.hides):
        for pack in packs:  # nobody can know their names
            store.backend.delete(names.pack(pack.ulid))
        return Published(conflicts=conflicts(store, source.relied()))
    sizes = {**draft.pack_sizes, **{pack.ulid: pack.size for pack in packs}}
    manifest = draft.manifest(
        cache,
        finished,
        sizes,
        root=source.root,
        producer=source.producer,
        replaced=source.replaced,
        hides=source.hides,
    )
    written += store.put_manifest(manifest, source.codec)
    named = {(pack.ulid, pack.size) for pack in manifest.packs}
    return Published(manifest, written, conflicts(store, named.union(source.relied())))


def _write_packs(store: Store, cache: CacheId, draft: Draft, source: Source) -> list[WrittenPack]:
    def outline(of_pack: list[bytes]) -> bytes:
        return draft.outline(cache, source.groups(), of_pack, source.root, source.producer)

    packs = list(write_packs(store.backend, source.blobs, source.codec, source.level, outline))
    draft.stored(packs)
    return packs


def conflicts(store: Store, packs: Packs, condemned: set[str] | None = None) -> set[str]:
    """Packs (ULID, size) of published manifests that cannot be relied on.

    Tombstones are listed first: a pack is there longer than its tombstone is missing.
    """
    if not packs:
        return set()
    if condemned is None:
        condemned = store.marks.condemned()
    order = sorted(packs)
    there = map_parallel(
        lambda pack: pack[0] not in condemned and pack_is_there(store, *pack),
        order,
        store.backend.parallel,
    )
    return {ulid for (ulid, _), found in zip(order, there, strict=True) if not found}


def unreliable(store: Store, ulid: str, condemned: set[str] | None = None) -> bool:
    """The handshake for a manifest whose writer may have died before it. ``condemned`` are
    tombstones listed after the manifest was seen, else they are listed now.
    """
    return bool(conflicts(store, store.catalog.packs.of_manifest(ulid), condemned))


def pack_is_there(store: Store, ulid: str, size: int) -> bool:
    """Whether the pack exists with the size it was published with."""
    try:
        return store.backend.size(names.pack(ulid)) == size
    except CasinductorError:
        return False
