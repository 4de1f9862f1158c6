"""Writing packs: blobs into frames, frames into packs.

Invariant: a pack is written in one pass with bounded memory: :data:`GATHER_BYTES` of blobs and two
frames; an error in the blobs publishes nothing of that pack.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import NamedTuple

import msgspec

from casinductor.store.backend import Backend
from casinductor.store.format.frame import Codec, compress, seal
from casinductor.store.format.names import pack as pack_name
from casinductor.store.format.pack import (
    BREAK,
    FOOTER_MAGIC,
    FRAME_BYTES,
    HEADER,
    PACK_BYTES,
    TRAILER,
    TRAILER_MAGIC,
    Blob,
    Footer,
    Frame,
    Spot,
)
from casinductor.store.format.ulid import new_ulid
from casinductor.store.parallel import submit

#: Blobs are gathered over this many bytes and laid side by side with their likes.
GATHER_BYTES = 8 << 20


class WrittenPack(NamedTuple):
    """A published pack: its ULID, its size in bytes, its frames and blobs."""

    ulid: str
    size: int
    frames: list[Frame]
    spots: list[Spot]


#: Given the hashes of the blobs in the last pack, the outline to put into its footer.
Outliner = Callable[[list[bytes]], bytes]


def write_packs(
    backend: Backend,
    blobs: Iterator[Blob],
    codec: Codec,
    level: int = 12,
    outline: Outliner | None = None,
) -> Iterator[WrittenPack]:
    """Publish all blobs in packs of about :data:`PACK_BYTES`, in order of arrival by and large.

    Memory: :data:`GATHER_BYTES` of blobs and two frames. Blobs are drawn while a pack is written,
    so an error in ``blobs`` publishes nothing of that pack.
    """
    laid = side_by_side(blobs)
    first = _next_blob(laid)
    while first is not None:
        ulid, stream = new_ulid(), _PackStream(codec, level)
        size = backend.put(pack_name(ulid), stream.write(ulid, first, laid, outline))
        yield WrittenPack(ulid, size, stream.frames, stream.spots)
        first = stream.following


def _next_blob(blobs: Iterator[Blob]) -> Blob | None:
    return next((blob for blob in blobs if blob is not BREAK), None)


def side_by_side(blobs: Iterable[Blob]) -> Iterator[Blob]:
    """Reorder within :data:`GATHER_BYTES` so that blobs of one format and size are neighbours.

    lz4 looks back 64 KiB only; kernels' PTX, cubins and JSON by turns hide their likeness from it
    (measured: 13 % smaller on the corpus's UNet, ``docs/benchmarks.md``).
    """
    gathered: list[Blob] = []
    size = 0
    for blob in blobs:
        if blob is not BREAK:
            gathered.append(blob)
            size += len(blob.data)
        if size >= GATHER_BYTES or blob is BREAK:
            yield from sorted(gathered, key=_likeness)
            gathered, size = [], 0
        if blob is BREAK:
            yield blob
    yield from sorted(gathered, key=_likeness)


def _likeness(blob: Blob) -> tuple[bytes, int]:
    return blob.data[:8], len(blob.data)


class _PackStream:
    """Writes one pack; a helper thread compresses a frame while the next one is filled."""

    def __init__(self, codec: Codec, level: int) -> None:
        self.codec = codec
        self.level = level
        self.frames: list[Frame] = []
        self.spots: list[Spot] = []
        self.following: Blob | None = None
        self._offset = len(HEADER)

    def write(
        self, ulid: str, first: Blob, blobs: Iterator[Blob], outline: Outliner | None
    ) -> Iterator[bytes]:
        yield HEADER
        stop = Event()
        with ThreadPoolExecutor(1, "casinductor-compress") as pool:
            waiting: deque[tuple[int, Future[bytes]]] = deque()
            try:
                for raw in self._raw_frames(first, blobs):
                    work = submit(pool, compress, self.codec, raw, self.level, stop.is_set)
                    waiting.append((len(raw), work))
                    if len(waiting) > 1:
                        yield self._stored(*waiting.popleft())
                while waiting:
                    yield self._stored(*waiting.popleft())
            finally:  # where this is cut short, nobody waits for what is still compressed
                stop.set()
        self.following = _next_blob(blobs)
        hashes = [spot.hash for spot in self.spots]
        last = self.following is None
        yield from self._end(ulid, hashes, outline(hashes) if outline and last else b"")

    def _raw_frames(self, first: Blob, blobs: Iterator[Blob]) -> Iterator[bytes]:
        """Fill frames until the blobs end or the pack is large enough."""
        parts, size, index = [first.data], len(first.data), 0
        self.spots.append(Spot(first.hash, 0, 0, size))
        while self._offset < PACK_BYTES and (blob := next(blobs, None)) is not None:
            if parts and (blob is BREAK or size + len(blob.data) > FRAME_BYTES[self.codec]):
                yield b"".join(parts)
                parts, size, index = [], 0, index + 1
            if blob is BREAK:
                continue
            self.spots.append(Spot(blob.hash, index, size, len(blob.data)))
            parts.append(blob.data)
            size += len(blob.data)
        if parts:
            yield b"".join(parts)

    def _stored(self, raw_bytes: int, pending: Future[bytes]) -> bytes:
        stored = pending.result()
        self.frames.append(Frame(self._offset, len(stored), raw_bytes, self.codec))
        self._offset += len(stored)
        return stored

    def _end(self, ulid: str, hashes: list[bytes], outline: bytes) -> Iterator[bytes]:
        footer = Footer(
            ulid,
            self.frames,
            b"".join(hashes),
            [spot.frame for spot in self.spots],
            [spot.offset for spot in self.spots],
            [spot.size for spot in self.spots],
            outline,
        )
        sealed = seal(FOOTER_MAGIC, msgspec.msgpack.encode(footer))
        yield sealed
        yield TRAILER.pack(self._offset, len(sealed), TRAILER_MAGIC)
