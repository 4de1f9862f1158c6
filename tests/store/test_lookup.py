"""Caches are found by every name that people use for them, and misses say what is there."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.errors import CacheNotFound
from casinductor.store.backend import Backend
from casinductor.store.backends.address import open_backend
from casinductor.store.format.names import CacheId
from casinductor.store.lookup import caches_there, find_cache, own_key
from tests.conftest import Fleet, Tree


@pytest.fixture
def backend(fleet: Fleet) -> Backend:
    for gpu, key in (("H100", "bert/v1"), ("H100", "H100/odd"), ("A100", "llama"), ("L4", "llama")):
        settings = replace(fleet.settings("w"), gpu_type=gpu)
        Tree(fleet.folder / "local/w").model("ab")
        Cache(key, settings=settings).sync()
    return open_backend(str(fleet.store))


def test_keys_and_listed_names_are_found(backend: Backend) -> None:
    assert find_cache(backend, "bert/v1", "H100") == CacheId("H100", "bert/v1")
    assert find_cache(backend, "H100/bert/v1", "L4") == CacheId("H100", "bert/v1")
    assert find_cache(backend, "H100/odd", "H100") == CacheId("H100", "H100/odd")
    assert [str(cache) for cache in caches_there(backend)] == [
        "A100/llama",
        "H100/H100/odd",
        "H100/bert/v1",
        "L4/llama",
    ]


@pytest.mark.parametrize(
    ("name", "gpu", "hint"),
    [
        ("bert/v1", "L4", "H100 has it (--gpu H100"),
        ("llama", "H100", "A100, L4 have it"),
        ("h100/bert/v1", "L4", "did you mean H100/bert/v1?"),
        ("bert/v2", "H100", "did you mean H100/bert/v1?"),
        ("Bert/V1", "H100", "did you mean H100/bert/v1?"),
        ("zzz", "H100", "it holds A100/llama, H100/H100/odd, H100/bert/v1, …"),
    ],
)
def test_a_miss_says_what_is_there(backend: Backend, name: str, gpu: str, hint: str) -> None:
    with pytest.raises(CacheNotFound) as error:
        find_cache(backend, name, gpu)
    assert hint in str(error.value)


def test_an_empty_store_says_so(fleet: Fleet) -> None:
    fleet.store.mkdir(parents=True, exist_ok=True)
    with pytest.raises(CacheNotFound, match="it holds none"):
        find_cache(open_backend(str(fleet.store)), "a", "H100")


def test_only_the_own_type_is_taken_off() -> None:
    assert own_key("H100/bert", "H100") == "bert"
    assert own_key("A100/bert", "H100") == "A100/bert"
    assert own_key("H100", "H100") == "H100"
