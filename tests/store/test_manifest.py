"""Manifests decode to what was encoded, or to an error that names them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casinductor.errors import Damaged
from casinductor.store.format.frame import seal
from casinductor.store.format.manifest import (
    MAGIC,
    Artifact,
    BlobTable,
    Group,
    Manifest,
    PackedFrame,
    PackRef,
    content_of,
    decode,
    encode,
)
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import new_ulid

CACHE = CacheId("H100", "model/v1")


def manifest() -> Manifest:
    ulid, digest = new_ulid(), b"h" * 32
    artifacts = [
        Artifact("a/one", 0o644, 30, b"w" * 32, True, [0, 1]),
        Artifact("a/two", 0o755, 20, b"", False, [1]),
    ]
    return Manifest(
        version=1,
        ulid=ulid,
        gpu=CACHE.gpu,
        key=CACHE.key,
        created_ms=1,
        root="/tmp/x",
        producer={"host": "h"},
        replaced=[],
        requirements=[{"torch": "2.13"}],
        packs=[PackRef(new_ulid(), 1000)],
        frames=[PackedFrame(0, 16, 500, 100, 1)],
        blobs=BlobTable(digest + b"i" * 32, [0, 0], [0, 10], [10, 20]),
        groups=[Group("g", "kind", 0, ulid, b"c" * 32, 0, [], artifacts, {})],
    )


def test_round_trip() -> None:
    made = manifest()
    assert decode(encode(made), CACHE, made.ulid, "it") == made


def test_another_manifests_bytes_are_damage() -> None:
    made = manifest()
    with pytest.raises(Damaged, match="belongs to"):
        decode(encode(made), CACHE, new_ulid(), "it")
    with pytest.raises(Damaged, match="belongs to"):
        decode(encode(made), CacheId("H100", "other"), made.ulid, "it")


BREAKS: dict[str, Callable[[Manifest], object]] = {
    "frame beyond pack": lambda m: setattr(m.frames[0], "offset", 600),
    "negative offset": lambda m: setattr(m.frames[0], "offset", -1),
    "pack index": lambda m: setattr(m.frames[0], "pack", 1),
    "huge raw": lambda m: setattr(m.frames[0], "raw", 1 << 40),
    "blob beyond frame": lambda m: m.blobs.offset.__setitem__(1, 90),
    "negative blob offset": lambda m: m.blobs.offset.__setitem__(0, -5),
    "empty blob": lambda m: m.blobs.size.__setitem__(0, 0),
    "blob's frame": lambda m: m.blobs.frame.__setitem__(0, 7),
    "short column": lambda m: m.blobs.frame.pop(),
    "hash table": lambda m: setattr(m.blobs, "hashes", b"short"),
    "artifact size": lambda m: setattr(m.groups[0].artifacts[0], "size", 31),
    "artifact blob": lambda m: setattr(m.groups[0].artifacts[0], "blobs", [0, 9]),
    "negative index": lambda m: setattr(m.groups[0].artifacts[1], "blobs", [-1]),
    "no blobs": lambda m: setattr(m.groups[0].artifacts[0], "blobs", []),
    "hash missing": lambda m: setattr(m.groups[0].artifacts[0], "hash", b""),
    "hash short": lambda m: setattr(m.groups[0].artifacts[0], "hash", b"x"),
    "requirement": lambda m: setattr(m.groups[0], "requires", 1),
}


@pytest.mark.parametrize("name", BREAKS)
def test_numbers_out_of_bounds(name: str) -> None:
    made = copy.deepcopy(manifest())
    BREAKS[name](made)
    with pytest.raises(Damaged, match="contradicts itself"):
        decode(encode(made), CACHE, made.ulid, "it")


@given(st.binary(max_size=200))
def test_any_payload_decodes_or_is_damage(payload: bytes) -> None:
    with pytest.raises(Damaged):
        decode(seal(MAGIC, payload), CACHE, new_ulid(), "it")


values = st.recursive(
    st.none() | st.integers(-5, 2**63) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(Manifest.__struct_fields__), values)
def test_any_field_replaced_decodes_or_is_damage(field: str, value: object) -> None:
    made = manifest()
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(made))
    plain[field] = value
    try:
        decode(seal(MAGIC, msgspec.msgpack.encode(plain)), CACHE, made.ulid, "it")
    except Damaged as error:
        assert "it" in str(error)


def test_content_ignores_order_and_sees_all_else() -> None:
    one, two = ("a", 0o644, b"1" * 32), ("b", 0o755, b"2" * 32)
    base = content_of([one, two])
    assert base == content_of([two, one])
    others = [("a", 0o755, b"1" * 32), ("c", 0o644, b"1" * 32), ("a", 0o644, b"3" * 32)]
    assert len({base, *(content_of([other, two]) for other in others)}) == 4
