"""Compressed frames, and the sealed container that small records travel in.

Invariant: decompression never yields more bytes than the record announced and its caller allows,
and a sealed record opens only if its header and payload are, bit for bit, what was sealed.
Formats: LZ4 block (lz4.org), Zstandard frame (RFC 8878); container in ``docs/format.md``.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import lz4.block
from blake3 import blake3

from casinductor.errors import Damaged, StoreFormat

HASH_BYTES = 32
#: No frame may announce more; one is decompressed in memory as a whole.
MAX_FRAME_BYTES = 64 << 20
#: How much zstd compresses before it looks whether anybody still waits.
_STEP_BYTES = 1 << 18
#: Window of compacting zstd frames: 2**25 bytes, as long as such a frame.
ZSTD_WINDOW_LOG = 25
#: The largest window that a reader allows: docs/format.md, "Containers".
ZSTD_MAX_WINDOW_LOG = 27

_SEAL = struct.Struct("<8sHHIQQ")
_VERSION = 1


class Codec(IntEnum):
    """How a frame is compressed; the number is what the store holds."""

    RAW = 0
    LZ4 = 1
    ZSTD = 2


def split_hashes(joined: bytes) -> list[bytes]:
    """Hashes of :data:`HASH_BYTES` that were joined end to end."""
    return [joined[i : i + HASH_BYTES] for i in range(0, len(joined), HASH_BYTES)]


def blake3_digest(data: bytes | memoryview | bytearray) -> bytes:
    """The 32-byte blake3 hash."""
    return blake3(data).digest()


def compress(
    codec: Codec, data: bytes, level: int = 12, stopped: Callable[[], bool] = lambda: False
) -> bytes:
    """One frame; ``level`` is zstd's. Once ``stopped`` is true nobody wants the result: what comes
    back soon is no frame.
    """
    if codec is Codec.LZ4:
        return bytes(lz4.block.compress(data, store_size=False))
    if codec is Codec.ZSTD:
        return _zstd_compress(data, level, stopped)
    return data


def decompress(codec: int, data: bytes | memoryview, raw_bytes: int) -> bytes:
    """The ``raw_bytes`` that a frame holds. Raises :class:`Damaged`, or StoreFormat for a codec
    that this version does not know.
    """
    if raw_bytes > MAX_FRAME_BYTES:
        raise Damaged(f"a frame announces {raw_bytes} bytes, more than {MAX_FRAME_BYTES}")
    return _decompress(codec, data, raw_bytes)


def _decompress(codec: int, data: bytes | memoryview, raw_bytes: int) -> bytes:
    try:
        if codec == Codec.LZ4:
            raw = bytes(lz4.block.decompress(data, uncompressed_size=raw_bytes))
        elif codec == Codec.ZSTD:
            raw = _zstd_decompress(data, raw_bytes)
        elif codec == Codec.RAW:
            raw = bytes(data)
        else:
            raise StoreFormat(f"a frame uses codec {codec}, which this version does not know")
    except (lz4.block.LZ4BlockError, ValueError, MemoryError) as error:
        raise Damaged(f"a frame does not decompress: {error}") from error
    if len(raw) != raw_bytes:
        raise Damaged(f"a frame holds {len(raw)} bytes instead of {raw_bytes}")
    return raw


def seal(magic: bytes, payload: bytes, codec: Codec = Codec.LZ4) -> bytes:
    """A container: header, blake3 of header and stored payload, stored payload."""
    stored = compress(codec, payload)
    header = _SEAL.pack(magic, _VERSION, codec, 0, len(payload), len(stored))
    return header + blake3(header).update(stored).digest() + stored


def split(data: bytes) -> tuple[bytes, bytes]:
    """A container, and what stands behind it in the same object: its envelope, or nothing."""
    if len(data) < _SEAL.size:
        return data, b""
    end = _SEAL.size + HASH_BYTES + int(_SEAL.unpack_from(data)[5])
    return data[:end], data[end:]


def unseal(magic: bytes, data: bytes, what: str, limit: int = 256 << 20) -> bytes:
    """The payload of a container of this ``magic``; ``what`` names it in errors.

    Raises :class:`Damaged`, or :class:`StoreFormat` for a container of a later version.
    """
    start = _SEAL.size + HASH_BYTES
    if len(data) < start or data[:8] != magic:
        raise Damaged(f"{what} is not what its name says, or was cut short")
    _, version, codec, _, raw_bytes, stored_bytes = _SEAL.unpack_from(data)
    header, stored = data[: _SEAL.size], memoryview(data)[start:]
    if blake3(header).update(stored).digest() != data[_SEAL.size : start]:
        raise Damaged(f"{what} fails its checksum")
    if version != _VERSION:
        raise StoreFormat(f"{what} has version {version}; this casinductor reads {_VERSION}")
    if len(stored) != stored_bytes or raw_bytes > limit:
        raise Damaged(f"{what} announces sizes it may not have")
    return _decompress(codec, stored, raw_bytes)


def _zstd() -> Any:
    """The standard library's zstd, or its backport before Python 3.14; loaded where it is used."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _zstd_compress(data: bytes, level: int, stopped: Callable[[], bool]) -> bytes:
    """One frame with long-distance matching, in steps: a high level takes a minute for 32 MiB."""
    zstd = _zstd()
    options = {
        zstd.CompressionParameter.compression_level: level,
        zstd.CompressionParameter.window_log: ZSTD_WINDOW_LOG,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    compressor = zstd.ZstdCompressor(options=options)
    compressor.set_pledged_input_size(len(data))
    view, parts = memoryview(data), []
    for start in range(0, len(data), _STEP_BYTES):
        if stopped():
            return b""
        parts.append(compressor.compress(view[start : start + _STEP_BYTES]))
    return b"".join([*parts, compressor.flush()])


def _zstd_decompress(data: bytes | memoryview, raw_bytes: int) -> bytes:
    """At most one byte more than ``raw_bytes``, so that a frame that is longer shows."""
    zstd = _zstd()
    window = {zstd.DecompressionParameter.window_log_max: ZSTD_MAX_WINDOW_LOG}
    try:
        decoder = zstd.ZstdDecompressor(options=window)
        return bytes(decoder.decompress(data, max_length=raw_bytes + 1))
    except (zstd.ZstdError, EOFError) as error:
        raise ValueError(str(error)) from error
