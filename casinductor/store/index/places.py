"""Where blobs lie, and which places cannot be relied on.

Invariant: a place is named by what the store names it (pack ULID, offset of the frame, hash), never
by a row of a catalog, so it means the same to every worker.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class FrameRef(NamedTuple):
    """A frame in the store: pack ULID, offset, stored and raw bytes, codec."""

    pack: str
    offset: int
    stored: int
    raw: int
    codec: int


class Located(NamedTuple):
    """A blob in a frame: hash, offset in the raw frame and size, in bytes."""

    hash: bytes
    offset: int
    size: int


class Placed(NamedTuple):
    """A blob in one of its places: the frame, where in it, and the bytes of the whole pack."""

    frame: FrameRef
    blob: Located
    pack_bytes: int


class NamedPack(NamedTuple):
    """A pack as a manifest names it: ULID and size in bytes."""

    ulid: str
    size: int


#: A blob in one of its places: pack ULID, offset of the frame, hash.
Spot = tuple[str, int, bytes]

#: What to read of each frame.
Plan = dict[FrameRef, list[Located]]


class Losses(msgspec.Struct):
    """What could not be had: blob hashes, packs that are gone, frames that are bad and why, the
    spots (pack, frame offset, blob hash) of both; and ``failures`` of the store, which say
    nothing about what it holds.
    """

    blobs: set[bytes] = msgspec.field(default_factory=set)
    packs: set[str] = msgspec.field(default_factory=set)
    frames: dict[FrameRef, str] = msgspec.field(default_factory=dict)
    spots: set[Spot] = msgspec.field(default_factory=set)
    failures: list[str] = msgspec.field(default_factory=list)


class Unusable(msgspec.Struct):
    """Packs, frames (pack, offset) and spots (pack, frame offset, hash) that must not be relied
    on, and condemned manifests.
    """

    packs: set[str] = msgspec.field(default_factory=set)
    frames: set[tuple[str, int]] = msgspec.field(default_factory=set)
    spots: set[Spot] = msgspec.field(default_factory=set)
    manifests: set[str] = msgspec.field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.packs or self.frames or self.spots)

    def bars(self, pack: str, offset: int) -> bool:
        return pack in self.packs or (pack, offset) in self.frames

    def bars_blob(self, pack: str, offset: int, digest: bytes) -> bool:
        return self.bars(pack, offset) or (pack, offset, digest) in self.spots
