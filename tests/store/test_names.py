"""Keys, names and identifiers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casinductor.errors import HostilePath, InvalidName
from casinductor.store.format import names
from casinductor.store.format.names import CacheId
from casinductor.store.format.paths import check_mode, check_path
from casinductor.store.format.ulid import is_ulid, new_ulid, ulid_ms


@pytest.mark.parametrize(
    "key",
    ["flux/2", "my-model/v1", "a", "a b", "org@model#1", "v1.0", "ünïcode/模型", "x" * 200, "a:b"],
)
def test_sensible_keys_work(key: str) -> None:
    cache = CacheId("H100", key)
    name = cache.manifest(new_ulid())
    assert names.parse_manifest(name) == (cache, name.rpartition("/")[2].split(".")[0])


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "empty"),
        ("..", "dot"),
        ("a/../b", "dot"),
        (".", "dot"),
        (".hidden", "dot"),
        ("/etc/passwd", "absolute"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("a/ /b", "empty part"),
        (" a", "space"),
        ("a\nb", "control"),
        ("a\0b", "control"),
        ("a\x7f", "control"),
        ("a\\b", "backslash"),
        ("x" * 201, "longer"),
        ("x/" * 500 + "x", "longer"),
        ("a.manifest", "ends in"),
    ],
)
def test_other_keys_are_refused_with_a_sentence(key: str, why: str) -> None:
    with pytest.raises(InvalidName, match=why) as error:
        CacheId("H100", key)
    assert "cache key" in str(error.value)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("gpu", ["", "a/b", "..", "packs", "manifests", "FORMAT", "H100\n"])
def test_gpu_types_are_checked_too(gpu: str) -> None:
    with pytest.raises(InvalidName):
        CacheId(gpu, "key")


@given(st.text(max_size=12), st.text(max_size=12))
def test_different_caches_never_share_a_name(one: str, two: str) -> None:
    ids = []
    for text in (one, two):
        try:
            ids.append(CacheId("G", text))
        except InvalidName:
            return
    assert (ids[0].manifests == ids[1].manifests) == (one == two)
    ulid = new_ulid()
    assert names.parse_manifest(ids[0].manifest(ulid)) == (ids[0], ulid)


def test_ulids_increase_and_know_their_time() -> None:
    made = [new_ulid() for _ in range(1000)]
    assert made == sorted(set(made))
    assert all(map(is_ulid, made))
    assert not is_ulid("8" + "0" * 25)
    assert not is_ulid(made[0].lower())
    assert ulid_ms("01ARZ3NDEKTSV4RRFFQ69G5FAV") == 1469922850259  # the specification's example


def test_pack_names() -> None:
    ulid = new_ulid()
    assert names.parse_pack(names.pack(ulid)) == ulid
    assert names.parse_pack(f"packs/zz/{ulid}.pack") is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/../b",
        "..",
        "a//b",
        "./a",
        ".a",
        "a/.b",
        "a\\b",
        "a\0",
        "C:/x",
        "files!/etc/passwd",
        "a/b!/c",
        "vllm!",
        "x" * 256,
        "a\nb",
    ],
)
def test_hostile_paths(path: str) -> None:
    with pytest.raises(HostilePath):
        check_path(path)


@pytest.mark.parametrize("mode", [0o777, 0o4755, 0, 0o600, 0o100644])
def test_hostile_modes(mode: int) -> None:
    with pytest.raises(HostilePath):
        check_mode(mode, "a")


def test_ordinary_paths_pass() -> None:
    assert check_path("fxgraph/ab/fabc/def") == "fxgraph/ab/fabc/def"
    assert check_mode(0o755, "a") == 0o755
