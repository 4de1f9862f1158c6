"""Packs: immutable files of compressed frames of blobs, with a footer that describes them.

Invariant: a pack's footer alone (found from its last bytes) tells every blob's hash and place, so a
store can be rebuilt from its packs; one that is not whole is damage. Format: ``docs/format.md``,
"Packs".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from casinductor.errors import Damaged
from casinductor.store.backend import Backend
from casinductor.store.format.frame import (
    HASH_BYTES,
    MAX_FRAME_BYTES,
    Codec,
    unseal,
)
from casinductor.store.format.names import pack as pack_name

HEADER = b"CASIPACK" + struct.pack("<HHI", 1, 0, 0)
FOOTER_MAGIC = b"CASIFOOT"
TRAILER = struct.Struct("<QQ8s")
TRAILER_MAGIC = b"CASIEND\n"

PACK_BYTES = 64 << 20  # a pack is cut once its frames fill so many
#: Raw bytes of a frame: small for lz4 (a range to fetch), long for zstd (a window to match in).
FRAME_BYTES = {Codec.LZ4: 1 << 20, Codec.ZSTD: 32 << 20, Codec.RAW: 1 << 20}
#: Longer runs of bytes are cut into blobs of this size, which bounds a restore's memory.
MAX_BLOB_BYTES = 4 << 20
#: The last bytes of a pack are asked for at once, as they often hold the whole footer.
_TAIL_BYTES = 64 << 10
#: A footer has 40 to 80 bytes for each blob; this is the one of a million blobs and more.
MAX_FOOTER_BYTES = 256 << 20


class Blob(NamedTuple):
    """A run of bytes and its blake3 hash."""

    hash: bytes
    data: bytes


#: Stands between blobs that must not share a frame: a default restore's, and the rest.
BREAK = Blob(b"", b"")


class Frame(NamedTuple):
    """A compressed frame: where it lies in its pack, and its sizes in bytes."""

    offset: int
    stored: int
    raw: int
    codec: int


class Spot(NamedTuple):
    """Where a blob lies: index of its frame in the pack, offset in the raw frame, size."""

    hash: bytes
    frame: int
    offset: int
    size: int


class Footer(msgspec.Struct, gc=False):
    """What a pack says about itself; the four columns have one item for each blob.

    ``outline``, in the last pack of a sync, is what its manifest says about groups, so that a lost
    manifest can be made again; this module does not look into it.
    """

    ulid: str
    frames: list[Frame]
    hashes: bytes
    frame: list[int]
    offset: list[int]
    size: list[int]
    outline: bytes = b""

    def spots(self) -> Iterator[Spot]:
        for index, place in enumerate(zip(self.frame, self.offset, self.size, strict=True)):
            yield Spot(self.hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES], *place)


_DECODER = msgspec.msgpack.Decoder(Footer)  # built at import, as two threads must not


def read_footer(backend: Backend, ulid: str, size: int) -> Footer:
    """The footer of a pack of ``size`` bytes. Raises :class:`Damaged` if it is not whole."""
    payload = read_end(backend, ulid, size)
    try:
        footer = _DECODER.decode(payload)
        _check_footer(footer, size)
    except (msgspec.MsgspecError, RecursionError, ValueError, IndexError) as error:
        raise Damaged(f"the footer of pack {ulid} cannot be used: {error}") from error
    if footer.ulid != ulid:
        raise Damaged(f"pack {ulid} says that it is pack {footer.ulid[:40]!r}")
    return footer


def _check_footer(footer: Footer, size: int) -> None:
    """Raise ValueError or IndexError where a number leaves its bounds."""
    count = len(footer.size)
    if not count * HASH_BYTES == len(footer.hashes) or not (
        count == len(footer.frame) == len(footer.offset)
    ):
        raise ValueError("its columns differ in length")
    for frame in footer.frames:
        if not (0 <= frame.offset <= size - frame.stored and 0 <= frame.raw <= MAX_FRAME_BYTES):
            raise ValueError("a frame is out of bounds")
        if not 0 <= frame.stored <= 2 * MAX_FRAME_BYTES:
            raise ValueError("a frame is too large")
    for index, offset, length in zip(footer.frame, footer.offset, footer.size, strict=True):
        if index < 0 or offset < 0 or not 0 < length <= MAX_BLOB_BYTES:
            raise ValueError("a blob is out of bounds")
        if offset + length > footer.frames[index].raw:
            raise ValueError("a blob leaves its frame")


def read_trailer(backend: Backend, ulid: str, size: int) -> tuple[int, int]:
    """Offset and size of the footer of a pack of ``size`` bytes, from its last 24 bytes alone.

    Raises :class:`Damaged` if they are not those of a pack of this size.
    """
    if size < len(HEADER) + TRAILER.size:
        raise Damaged(f"pack {ulid} of {backend.url} has {size} bytes, too few for a pack")
    ranges = [(size - TRAILER.size, TRAILER.size)]
    return _parse_trailer(
        next(iter(backend.get_ranges(pack_name(ulid), ranges))), backend, ulid, size
    )


def _parse_trailer(data: bytes, backend: Backend, ulid: str, size: int) -> tuple[int, int]:
    offset, length, magic = TRAILER.unpack(data)
    where = f"pack {ulid} of {backend.url}"
    if magic != TRAILER_MAGIC or offset + length + TRAILER.size != size:
        raise Damaged(f"{where} has a damaged end")
    if length > MAX_FOOTER_BYTES:
        raise Damaged(f"{where} announces a footer of {length} bytes")
    return offset, length


def read_end(backend: Backend, ulid: str, size: int) -> bytes:
    """The footer's encoded fields, whose first is the pack's name; raises :class:`Damaged`."""
    where = f"pack {ulid} of {backend.url}"
    if size < len(HEADER) + TRAILER.size:
        raise Damaged(f"{where} has {size} bytes, too few for a pack")
    ahead = min(size, _TAIL_BYTES)
    tail = next(iter(backend.get_ranges(pack_name(ulid), [(size - ahead, ahead)])))
    offset, length = _parse_trailer(tail[-TRAILER.size :], backend, ulid, size)
    if offset < size - ahead:
        return read_footer_at(backend, ulid, offset, length)
    return _unsealed(backend, ulid, tail[offset - (size - ahead) : -TRAILER.size])


def read_footer_at(backend: Backend, ulid: str, offset: int, length: int) -> bytes:
    """What :func:`read_end` returns, from where :func:`read_trailer` said it lies."""
    sealed = next(iter(backend.get_ranges(pack_name(ulid), [(offset, length)])))
    return _unsealed(backend, ulid, sealed)


def _unsealed(backend: Backend, ulid: str, sealed: bytes) -> bytes:
    where = f"pack {ulid} of {backend.url}"
    payload = unseal(FOOTER_MAGIC, sealed, f"the footer of {where}")
    if ulid.encode() not in payload[:64]:
        raise Damaged(f"{where} is another pack")
    return payload
