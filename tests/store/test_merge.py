"""Automatic compaction and the relatives of a cache: cost stays flat, nothing is lost."""

from __future__ import annotations

import time

import msgspec
import pytest

from casinductor.cache import Cache
from casinductor.deadline import Deadline
from casinductor.store.backend import Listed
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import new_ulid
from casinductor.store.index.manifests import ManifestId
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.merge import merge
from casinductor.store.opening import with_fresh_store
from casinductor.store.store import Store
from casinductor.store.write.relatives import MANIFESTS, _nearest, read_relatives
from tests.conftest import Fleet, Tree, content, exact

NAMES = ["ab", "cd", "ef", "gh", "ij", "kl"]


def syncing(fleet: Fleet, worker: str, after: int) -> Cache:
    settings = msgspec.structs.replace(fleet.settings(worker), compact_after=after)
    return Cache("model/v1", settings=settings)


def publish(fleet: Fleet, after: int, names: list[str] = NAMES) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for number, name in enumerate(names):
        Tree(fleet.folder / "local" / name, seed=number).model(name)
        syncing(fleet, name, after).sync()
        made.update(content(fleet.folder / "local" / name))
    return made


def test_a_cache_stays_in_few_manifests_and_packs(any_fleet: Fleet) -> None:
    made = publish(any_fleet, 3)
    assert len(any_fleet.files("*.manifest")) <= 3
    report = any_fleet.cache("v").restore("all")
    assert report.lost == 0
    there = content(any_fleet.folder / "local/v")
    assert there.keys() == made.keys()
    assert all(there[p] == made[p] for p in made if "__grp__" not in p)
    with_fresh_store(
        any_fleet.settings("c"), lambda store: collect(store, apply=True, min_age_seconds=0.0)
    )
    with_fresh_store(any_fleet.settings("c"), exact)
    assert len(any_fleet.files("*.pack")) <= 3
    assert any_fleet.cache("u").restore("all").files_written == len(made)


def test_who_merges_says_so(fleet: Fleet) -> None:
    publish(fleet, 0, NAMES[:3])
    Tree(fleet.folder / "local/x", seed=9).model("zz")
    report = syncing(fleet, "x", 4).sync()
    assert report.merged == 4
    assert "4 manifests merged" in report.summary()
    assert len(fleet.files("*.manifest")) == 1
    assert syncing(fleet, "y", 1).sync().merged == 0, "nothing synced and one manifest"


def test_a_worker_with_nothing_new_merges_too(fleet: Fleet) -> None:
    publish(fleet, 0, NAMES[:3])
    Tree(fleet.folder / "local/again", seed=0).model("ab")
    cache = syncing(fleet, "again", 3)
    cache.sync(keep_equivalent=False)
    assert len(fleet.files("*.manifest")) == 1


def test_nobody_merges_when_it_is_switched_off(fleet: Fleet) -> None:
    publish(fleet, 0)
    assert len(fleet.files("*.manifest")) == len(NAMES)
    assert fleet.files("claims/*") == []


def test_of_many_workers_one_is_elected(any_fleet: Fleet) -> None:
    publish(any_fleet, 0, NAMES[:3])
    cache = CacheId("H100", "model/v1")

    def attempt(store: Store) -> int:
        store.refresh(cache.gpu, cache.key)
        # Each believes what it saw before any other was done.
        store.refresh = lambda *_: 0  # type: ignore[method-assign,assignment]
        return merge(store, cache, 3, Deadline(None))

    merged = [with_fresh_store(any_fleet.settings(f"m{n}"), attempt) for n in range(1)]
    assert merged == [3]
    (name,) = any_fleet.files("claims/H100/model/v1/*")
    assert str(int(time.time()) // 3600)[:-1] in name.stem or "-" in name.stem


def test_a_claim_that_is_taken_is_respected(any_fleet: Fleet) -> None:
    publish(any_fleet, 0, NAMES[:3])
    cache = CacheId("H100", "model/v1")
    oldest = min(path.stem for path in any_fleet.files("*.manifest"))

    def claimed(store: Store) -> int:
        store.refresh(cache.gpu, cache.key)
        for hour in (0, 1):
            store.backend.put(
                cache.claim(oldest, int(time.time()) // 3600 + hour), [b"another worker's"]
            )
        return merge(store, cache, 3, Deadline(None))

    assert with_fresh_store(any_fleet.settings("m"), claimed) == 0
    assert len(any_fleet.files("*.manifest")) == 3
    # A collection a day later removes the claim.
    with_fresh_store(any_fleet.settings("g"), lambda store: collect(store, apply=True))
    assert any_fleet.files("claims/H100/model/v1/*") != []


def test_old_claims_are_collected(fleet: Fleet) -> None:
    publish(fleet, 0, NAMES[:1])
    cache = CacheId("H100", "model/v1")
    old = cache.claim(new_ulid(), int(time.time()) // 3600 - 30)

    def leave(store: Store) -> None:
        store.backend.put(old, [b"x"])
        collect(store, apply=True)

    with_fresh_store(fleet.settings("g"), leave)
    assert fleet.files("claims/H100/model/v1/*") == []


def test_on_a_network_filesystem_the_old_ones_stay_a_while(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers with a stale listing find what it names; a later sync deletes them."""
    monkeypatch.setattr("casinductor.store.backends.filesystem.is_local", lambda path: False)
    made = publish(fleet, 3, NAMES[:3])
    assert len(fleet.files("*.manifest")) == 4
    stale = fleet.cache("v")
    assert stale.restore("all").files_written == len(made)
    monkeypatch.setattr("casinductor.store.backends.filesystem._NETWORK_STALENESS", 0.0)
    Tree(fleet.folder / "local/x", seed=9).model("zz")
    syncing(fleet, "x", 3).sync()
    assert len(fleet.files("*.manifest")) == 2
    assert fleet.cache("u").restore("all").files_written == len(made) + 8


def test_a_removal_covers_what_was_merged(fleet: Fleet) -> None:
    from casinductor.store.maintain.removal import remove

    publish(fleet, 3, NAMES[:3])
    cache = CacheId("H100", "model/v1")
    with_fresh_store(fleet.settings("r"), lambda store: remove(store, cache))
    assert fleet.cache("v").restore("all").files_written == 0


def test_relatives_are_the_nearest_and_newest() -> None:
    cache = CacheId("H100", "model-a/v3")
    keys = ["model-a/v1", "model-a/v2", "model-a/v2", "model-b/v1", "other"]
    ulids = [new_ulid() for _ in keys]
    listed = {
        ManifestId(CacheId("H100", key), ulid): Listed("x", 1)
        for key, ulid in zip(keys, ulids, strict=True)
    }
    order = [(name.key, ulids.index(ulid)) for name, ulid in _nearest(cache, listed)]
    assert order == [
        ("model-a/v2", 2), ("model-a/v1", 0), ("model-b/v1", 3), ("other", 4), ("model-a/v2", 1),
    ]  # fmt: skip


def test_a_sync_reads_a_bounded_number_of_others(fleet: Fleet) -> None:
    """Fifty caches: a new one's sync reads no more than the budget, its own version first."""
    for number in range(50):
        tree = Tree(fleet.folder / f"local/w{number}", seed=number)
        tree.kernel(f"{'abcdefghij'[number % 10]}{'klmno'[number // 10]}")
        fleet.cache(f"w{number}", f"m{number}/v1").sync()

    def read(store: Store) -> list[str]:
        read_relatives(store, CacheId("H100", "m7/v2"))
        return [cache.key for cache, _ in store.catalog.manifests.known()]

    keys = with_fresh_store(fleet.settings("n"), read)
    assert len(keys) == MANIFESTS
    assert "m7/v1" in keys
    shared = Tree(fleet.folder / "local/w7b", seed=7)
    shared.kernel("hk")
    report = fleet.cache("w7b", "m7/v2").sync()
    assert report.groups_added == 1
    assert report.bytes_new == 0, "the relative has all blobs"
