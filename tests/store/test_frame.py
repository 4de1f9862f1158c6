"""Frames and sealed containers: what goes in comes out, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casinductor.errors import Damaged, StoreFormat
from casinductor.store.format.frame import (
    MAX_FRAME_BYTES,
    Codec,
    compress,
    decompress,
    seal,
    unseal,
)

MAGIC = b"CASITEST"


@given(st.binary(max_size=5000), st.sampled_from(Codec))
def test_round_trip(data: bytes, codec: Codec) -> None:
    assert decompress(codec, compress(codec, data), len(data)) == data
    assert unseal(MAGIC, seal(MAGIC, data, codec), "it") == data


@given(st.binary(max_size=500), st.sampled_from(Codec), st.integers(0, 2000))
def test_wrong_sizes_and_bytes_are_damage(data: bytes, codec: Codec, size: int) -> None:
    try:
        result = decompress(codec, data, size)
    except Damaged:
        return
    assert len(result) == size


@pytest.mark.parametrize("codec", [Codec.LZ4, Codec.ZSTD])
def test_a_bomb_is_not_blown_up(codec: Codec) -> None:
    bomb = compress(codec, bytes(10_000_000))
    with pytest.raises(Damaged):
        decompress(codec, bomb, 1000)
    with pytest.raises(Damaged, match="announces"):
        decompress(codec, bomb, MAX_FRAME_BYTES + 1)


@given(st.binary(min_size=1, max_size=300), st.data())
def test_any_flipped_byte_breaks_the_seal(data: bytes, draw: st.DataObject) -> None:
    sealed = bytearray(seal(MAGIC, data))
    at = draw.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(Damaged):
        unseal(MAGIC, bytes(sealed), "it")


def test_truncation_extension_and_another_kind() -> None:
    sealed = seal(MAGIC, b"payload" * 100)
    for bad in (b"", sealed[:10], sealed[:-1], sealed + b"x", seal(b"CASIELSE", b"payload")):
        with pytest.raises(Damaged):
            unseal(MAGIC, bad, "it")


def test_a_later_version_is_told_apart_from_damage() -> None:
    from blake3 import blake3

    sealed = seal(MAGIC, b"payload", Codec.RAW)
    header = sealed[:8] + b"\x02\0" + sealed[10:32]
    later = header + blake3(header).update(sealed[64:]).digest() + sealed[64:]
    with pytest.raises(StoreFormat, match="version 2"):
        unseal(MAGIC, later, "it")


def test_an_unknown_codec() -> None:
    with pytest.raises(StoreFormat, match="codec 9"):
        decompress(9, b"x", 1)


def test_compression_that_nobody_waits_for_stops() -> None:
    asked = []

    def stopped() -> bool:
        asked.append(True)
        return len(asked) > 2

    compress(Codec.ZSTD, bytes(16 << 20), 3, stopped)
    assert len(asked) == 3
