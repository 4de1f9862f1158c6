"""Clients beside busy collectors: places that are gone again and again, and what is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from casinductor.errors import ObjectMissing
from casinductor.store.backends.filesystem import FilesystemBackend
from casinductor.store.format import names
from casinductor.store.format.names import CacheId
from casinductor.store.index.places import Unusable
from casinductor.store.maintain.compact import compact
from casinductor.store.maintain.rewrite import Terms, rewrite
from casinductor.store.opening import with_fresh_store
from casinductor.store.store import Store
from tests.conftest import Fleet, Tree, content

V1 = CacheId("H100", "model/v1")


def alike(fleet: Fleet, worker: str) -> Tree:
    """What every worker compiles to the same bytes."""
    tree = Tree(fleet.folder / "local" / worker, seed=1)
    tree.kernel("ab")
    tree.module("ab")
    return tree


def merge(store: Store, cache: CacheId) -> None:
    """One manifest for all, its blobs where they are."""
    store.refresh(cache.gpu, cache.key)
    old = {ulid for _, ulid in store.catalog.manifests.known(cache.gpu, cache.key)}
    rewrite(store, cache, old, Terms(Unusable(), lend=True))
    for ulid in old:
        store.backend.delete(cache.manifest(ulid))


def left_behind(fleet: Fleet, key: str, worker: str) -> None:
    """A manifest whose author died before it learned that a collector took its pack."""
    before = set(fleet.files("*.pack"))
    fleet.cache(worker, key).sync()
    for pack in set(fleet.files("*.pack")) - before:
        pack.unlink()


def test_a_restore_finds_the_one_copy_among_many_that_are_gone(fleet: Fleet) -> None:
    alike(fleet, "w")
    for _ in range(9):
        left_behind(fleet, "model/v1", "w")
    fleet.cache("w").sync()
    assert len(fleet.files("*.manifest")) == 10
    report = fleet.cache("reader").restore("all")
    assert report.lost == 0
    assert content(fleet.folder / "local/reader") == content(fleet.folder / "local/w")


@pytest.fixture
def mentioned(fleet: Fleet) -> Path:
    """A cache in a condemned pack, which is returned; another mentions its blobs in one gone."""
    alike(fleet, "w")
    fleet.cache("w").sync()
    (pack,) = fleet.files("*.pack")
    condemn = names.condemned(pack.stem)
    with_fresh_store(fleet.settings("c"), lambda store: store.backend.put(condemn, [b""]))
    alike(fleet, "x")
    left_behind(fleet, "model/v2", "x")
    return pack


def test_a_sync_relies_on_no_place_that_nobody_looked_at(fleet: Fleet, mentioned: Path) -> None:
    Tree(fleet.folder / "local/other", seed=2).kernel("cd")
    fleet.cache("w", "model/v3", fleet.folder / "local/other").sync()  # learns of all caches
    fleet.cache("w").sync()
    mentioned.unlink()
    report = fleet.cache("reader").restore("all")
    assert report.lost == 0
    assert content(fleet.folder / "local/reader") == content(fleet.folder / "local/w")


def test_a_sync_leaves_what_is_whole_to_a_manifest_that_lost_the_rest(fleet: Fleet) -> None:
    tree = alike(fleet, "w")
    fleet.cache("w").sync()
    lost = set(fleet.files("*.pack"))
    tree.kernel("cd")
    fleet.cache("w").sync()
    with_fresh_store(fleet.settings("c"), lambda store: merge(store, V1))
    for pack in lost:
        pack.unlink()
    report = fleet.cache("w").sync()
    assert report.groups_added == 2
    assert fleet.cache("reader").restore("all").lost == 0


def test_a_compaction_is_not_stopped_by_dead_places(fleet: Fleet, mentioned: Path) -> None:
    Tree(fleet.folder / "local/v", seed=2).kernel("cd")
    fleet.cache("v").sync()
    mentioned.unlink()
    report = with_fresh_store(fleet.settings("c"), lambda store: compact(store, V1))
    assert report.groups_lost == 2
    restored = fleet.cache("reader").restore("all")
    assert restored.lost == 0
    assert content(fleet.folder / "local/reader") == content(fleet.folder / "local/v")


def test_a_compaction_reads_the_copy_that_is_left(fleet: Fleet, mentioned: Path) -> None:
    fleet.cache("w", "model/v3").sync()
    mentioned.unlink()
    report = with_fresh_store(fleet.settings("c"), lambda store: compact(store, V1))
    assert report.groups_lost == 0
    assert fleet.cache("reader").restore("all").lost == 0


def test_a_listing_is_repeated_while_manifests_move(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike(fleet, "w")
    fleet.cache("w").sync()
    real = FilesystemBackend.get
    moves: list[str] = []

    def get(self: FilesystemBackend, name: str, limit: int = 1 << 30) -> bytes:
        """A compaction replaces the manifest whenever it has been listed and not read."""
        if name.endswith(".manifest") and len(moves) < 20:
            moves.append(name)
            raise ObjectMissing(f"{name} was replaced")
        return real(self, name, limit)

    monkeypatch.setattr(FilesystemBackend, "get", get)

    def look(store: Store) -> int:
        store.refresh(V1.gpu, V1.key)
        return len(store.catalog.manifests.known(V1.gpu, V1.key))

    assert with_fresh_store(fleet.settings("r"), look) == 1
    assert len(moves) == 20
