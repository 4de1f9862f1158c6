"""Publishes groups: packs first, then the manifest, then the handshake with collectors.

Invariant: when :func:`publish` reports no conflict, every pack that the manifest names was there
and uncondemned *after* the manifest could be seen, so no collector that obeys the protocol
(``docs/protocol.md``) removes a blob of it. Nothing a reader can see points at missing data.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from casinductor.errors import CasinductorError, StoreUnavailable
from casinductor.store import names
from casinductor.store.fetch import FrameRef, Located, Unusable, locate
from casinductor.store.frame import Codec
from casinductor.store.manifest import (
    FORMAT_VERSION,
    Artifact,
    BlobTable,
    Group,
    Manifest,
    PackedFrame,
    PackRef,
    encode,
)
from casinductor.store.names import CacheId
from casinductor.store.pack import Blob, WrittenPack, write_packs
from casinductor.store.store import Store
from casinductor.store.ulid import new_ulid


@dataclass
class NewGroup:
    """A group on its way into a manifest; its artifacts' blobs index the draft's table."""

    id: str
    kind: str
    rank: int
    content: bytes
    demands: dict[str, Any]
    artifacts: list[Artifact]
    replaces: list[bytes] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    origin: str = ""


class Draft:
    """Collects the blobs of a manifest: each once, new or already in the store.

    ``scope`` is the GPU type whose other caches may lend blobs; None lends from this draft only.
    ``lendable``, if set, are the only packs to lend from.
    """

    def __init__(self, store: Store, scope: str | None, unusable: Unusable) -> None:
        self._store = store
        self._scope = scope
        self._unusable = unusable
        self._index: dict[bytes, int] = {}
        self.lendable: set[str] | None = None
        self._hashes: list[bytes] = []
        self._sizes: list[int] = []
        self._places: list[tuple[FrameRef, int] | None] = []
        self._any_known = bool(
            scope and store.catalog.db.execute("SELECT 1 FROM blobs LIMIT 1").fetchone()
        )

    def absent(self, hashes: Iterable[bytes]) -> set[bytes]:
        """Those blobs that :meth:`place` would want stored."""
        fresh = {digest for digest in hashes if digest not in self._index}
        return fresh - self._known(fresh).keys()

    def _known(self, hashes: Iterable[bytes]) -> dict[bytes, tuple[FrameRef, Located]]:
        if not self._any_known:
            return {}
        return locate(self._store.catalog, hashes, self._unusable, self._scope, self.lendable)

    def place(
        self, pieces: list[Blob], sizes: list[int] | None = None
    ) -> tuple[list[int], list[Blob]]:
        """Index the blobs of one artifact; return the indexes and those that must be stored.

        With ``sizes``, blobs that need not be stored may come without their data.
        """
        lengths = sizes or [len(blob.data) for blob in pieces]
        fresh: dict[bytes, tuple[Blob, int]] = {
            b.hash: (b, size)
            for b, size in zip(pieces, lengths, strict=True)
            if b.hash not in self._index
        }
        known = self._known(fresh)
        for blob, size in fresh.values():
            self._index[blob.hash] = len(self._sizes)
            self._hashes.append(blob.hash)
            self._sizes.append(size)
            there = known.get(blob.hash)
            self._places.append((there[0], there[1].offset) if there else None)
        indexes = [self._index[blob.hash] for blob in pieces]
        return indexes, [blob for blob, _ in fresh.values() if blob.hash not in known]

    def stored(self, packs: list[WrittenPack]) -> None:
        """Note where the new blobs went."""
        for pack in packs:
            references = [FrameRef(pack.ulid, *frame) for frame in pack.frames]
            for spot in pack.spots:
                self._places[self._index[spot.hash]] = (references[spot.frame], spot.offset)

    def manifest(
        self,
        cache: CacheId,
        groups: list[NewGroup],
        sizes: dict[str, int],
        *,
        root: str,
        producer: dict[str, Any],
        replaced: list[str] | None = None,
    ) -> Manifest:
        """The manifest of ``groups``; ``sizes`` gives each pack's bytes. Unused blobs drop out."""
        ulid = new_ulid()
        table = _Table(self, sizes)
        demands: dict[str, tuple[int, dict[str, Any]]] = {}
        finished = []
        for group in groups:
            key = repr(sorted(group.demands.items()))
            index, _ = demands.setdefault(key, (len(demands), group.demands))
            for artifact in group.artifacts:
                artifact.blobs = [table.index(blob) for blob in artifact.blobs]
            finished.append(
                Group(
                    group.id,
                    group.kind,
                    group.rank,
                    group.origin or ulid,
                    group.content,
                    index,
                    group.replaces,
                    group.artifacts,
                    group.about,
                )
            )
        return Manifest(
            version=FORMAT_VERSION,
            ulid=ulid,
            gpu=cache.gpu,
            key=cache.key,
            created_ms=time.time_ns() // 1_000_000,
            root=root,
            producer={"host": socket.gethostname(), **producer},
            replaced=replaced or [],
            requirements=[d for _, d in demands.values()],
            packs=table.packs,
            frames=table.frames,
            blobs=table.blobs(),
            groups=finished,
        )

    def entry(self, index: int) -> tuple[bytes, int, FrameRef, int]:
        """A blob's hash, size, frame and offset, once stored."""
        place = self._places[index]
        if place is None:
            raise StoreUnavailable("a blob was drafted but never stored")
        return self._hashes[index], self._sizes[index], place[0], place[1]


class _Table:
    """Renumbers the blobs that a manifest really uses, with their frames and packs."""

    def __init__(self, draft: Draft, sizes: dict[str, int]) -> None:
        self._draft = draft
        self._pack_sizes = sizes
        self._blobs: dict[int, int] = {}
        self._frames: dict[FrameRef, int] = {}
        self._packs: dict[str, int] = {}
        self._rows: list[tuple[bytes, int, int, int]] = []
        self.packs: list[PackRef] = []
        self.frames: list[PackedFrame] = []

    def index(self, drafted: int) -> int:
        known = self._blobs.get(drafted)
        if known is not None:
            return known
        digest, size, frame, offset = self._draft.entry(drafted)
        self._rows.append((digest, self._frame(frame), offset, size))
        self._blobs[drafted] = len(self._rows) - 1
        return len(self._rows) - 1

    def _frame(self, frame: FrameRef) -> int:
        if frame not in self._frames:
            if frame.pack not in self._packs:
                self._packs[frame.pack] = len(self.packs)
                self.packs.append(PackRef(frame.pack, self._pack_sizes[frame.pack]))
            self._frames[frame] = len(self.frames)
            pack = self._packs[frame.pack]
            self.frames.append(
                PackedFrame(pack, frame.offset, frame.stored, frame.raw, frame.codec)
            )
        return self._frames[frame]

    def blobs(self) -> BlobTable:
        columns = [list(column) for column in zip(*self._rows, strict=True)] or [[], [], [], []]
        return BlobTable(b"".join(columns[0]), columns[1], columns[2], columns[3])


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
) -> Published:
    """Store ``blobs``, then the manifest of what ``groups()`` says once they are consumed.

    A conflict names packs that the manifest relies on and a collector condemned meanwhile, or
    that are gone: the caller stores those blobs anew and publishes again.
    """
    packs = list(write_packs(store.backend, blobs, codec, level))
    written = sum(pack.size for pack in packs)
    draft.stored(packs)
    finished = groups()
    if not finished and not replaced:
        for pack in packs:  # nobody can know their names
            store.backend.delete(names.pack(pack.ulid))
        return Published()
    sizes = {row[0]: row[1] for row in store.catalog.db.execute("SELECT ulid, size FROM pack")}
    sizes.update((pack.ulid, pack.size) for pack in packs)
    manifest = draft.manifest(
        cache, finished, sizes, root=root, producer=producer, replaced=replaced
    )
    data = encode(manifest, codec)
    written += store.backend.put(cache.manifest(manifest.ulid), [data])
    store.catalog.add(manifest, len(data))
    named = [(pack.ulid, pack.size) for pack in manifest.packs]
    return Published(manifest, written, conflicts(store, named))


def conflicts(store: Store, packs: Iterable[tuple[str, int]]) -> set[str]:
    """Packs (ULID, size) of a published manifest that cannot be relied on.

    Tombstones are listed first: a pack is there longer than its tombstone is missing.
    """
    condemned = store.condemned()
    return {
        ulid for ulid, size in packs if ulid in condemned or not pack_is_there(store, ulid, size)
    }


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
