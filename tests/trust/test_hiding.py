"""Hide and unhide: one wrong group out of every worker's sight, and back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from casinductor.cache import Cache
from casinductor.errors import InvalidName, NothingDone
from casinductor.inspect.facts import Facts
from casinductor.inspect.named import contents_named, published_by, unseen_by
from casinductor.store.format.names import CacheId
from casinductor.store.index.groups import Version
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.compact import compact
from casinductor.store.maintain.hiding import hidden_records, hide, unhide
from casinductor.store.maintain.removal import remove, undelete
from casinductor.store.opening import with_fresh_store
from casinductor.store.store import Store
from tests.conftest import Fleet, Tree, content

CACHE = CacheId("H100", "model/v1")


def publish(fleet: Fleet, *names: str) -> Cache:
    worker = f"{'-'.join(names)}-{time.time_ns()}"
    tree = Tree(fleet.folder / "local" / worker, seed=sum(map(ord, names[0])))
    for name in names:
        tree.model(name)
    cache = fleet.cache(worker)
    cache.sync()
    return cache


def graphs(root: Path) -> set[str]:
    return {path.split("/")[1] for path in content(root) if path.startswith("fxgraph/")}


def restored(fleet: Fleet) -> set[str]:
    worker = f"reader-{time.time_ns()}"
    fleet.cache(worker).restore("all")
    return graphs(fleet.folder / "local" / worker)


def on(fleet: Fleet, work: Any) -> Any:
    return with_fresh_store(fleet.settings("operator"), work)


def is_of(name: str) -> Any:
    def chosen(version: Version) -> bool:
        return version.kind == "fxgraph" and f"f{name}" in version.id

    return chosen


def test_hidden_is_gone_and_comes_back(fleet: Fleet) -> None:
    publish(fleet, "ab")
    publish(fleet, "cd")
    report = on(fleet, lambda store: hide(store, CACHE, is_of("ab")))
    assert report.groups == 1
    assert restored(fleet) == {"cd"}
    assert [record.manifest for record in on(fleet, listed)] == [report.manifest]
    on(fleet, lambda store: unhide(store, CACHE, lambda record: True))
    assert restored(fleet) == {"ab", "cd"}
    with pytest.raises(NothingDone):
        on(fleet, lambda store: unhide(store, CACHE, lambda record: True))


def listed(store: Store) -> Any:
    store.refresh()
    return hidden_records(store, CACHE)


def test_nobody_publishes_it_again(fleet: Fleet) -> None:
    holder = publish(fleet, "ab")
    on(fleet, lambda store: hide(store, CACHE, is_of("ab")))
    report = holder.sync()
    assert any("hidden from every worker" in note for note in report.notes)
    assert restored(fleet) == set()


def test_it_is_taken_out_of_local_directories(fleet: Fleet) -> None:
    publish(fleet, "ab", "cd")
    reader = fleet.cache("reader")
    reader.restore("all")
    local = fleet.folder / "local" / "reader"
    before = set(content(local))
    own = Tree(local, seed=99).graph("zz")  # its own, which nobody hid
    on(fleet, lambda store: hide(store, CACHE, is_of("ab")))
    report = reader.restore("all")
    assert any("taken away" in note for note in report.notes)
    assert graphs(local) == {"cd", "zz"}
    assert own.exists()
    assert len(before) - len(set(content(local)) & before) == 1


def test_what_a_worker_changed_itself_stays(fleet: Fleet) -> None:
    publish(fleet, "ab")
    reader = fleet.cache("reader")
    reader.restore("all")
    local = fleet.folder / "local" / "reader"
    (entry,) = local.glob("fxgraph/*/*/*")
    entry.write_bytes(b"compiled anew")
    on(fleet, lambda store: hide(store, CACHE, is_of("ab")))
    reader.restore("all")
    assert entry.read_bytes() == b"compiled anew"


def test_collections_merges_and_removals_leave_it_hidden(fleet: Fleet) -> None:
    for name in ("ab", "cd", "ef"):
        publish(fleet, name)
    on(fleet, lambda store: hide(store, CACHE, is_of("ab")))
    on(fleet, lambda store: compact(store, CACHE, grace=0.0))
    on(fleet, lambda store: collect(store, apply=True, min_age_seconds=0.0, grace=0.0))
    assert restored(fleet) == {"cd", "ef"}
    on(fleet, lambda store: remove(store, CACHE))
    on(fleet, lambda store: undelete(store, CACHE))
    on(fleet, lambda store: collect(store, apply=True, min_age_seconds=0.0, grace=0.0))
    assert restored(fleet) == {"cd", "ef"}
    on(fleet, lambda store: unhide(store, CACHE, lambda record: True))
    assert restored(fleet) == {"ab", "cd", "ef"}  # nothing was deleted by it
    on(fleet, lambda store: remove(store, CACHE))
    on(fleet, lambda store: undelete(store, CACHE))
    assert restored(fleet) == {"ab", "cd", "ef"}  # nor hidden again by what undelete takes back


def test_all_hidden_is_nothing_and_no_zip(fleet: Fleet) -> None:
    publish(fleet, "ab")
    on(fleet, lambda store: hide(store, CACHE, lambda version: True))
    assert restored(fleet) == set()


class TestNames:
    def chosen(self, fleet: Fleet, *hashes: str) -> set[bytes]:
        def work(store: Store) -> set[bytes]:
            return contents_named(store, Facts(None), CACHE, list(hashes))

        found: set[bytes] = on(fleet, work)
        return found

    def test_a_kernel_takes_the_graphs_that_carry_it(self, fleet: Fleet) -> None:
        tree = Tree(fleet.folder / "local" / "w")
        tree.triton("kk")
        folder = ("KK" * 60)[:52]
        tree.graph("ab", bundled=(folder,))
        tree.graph("cd")
        fleet.cache("w").sync()
        contents = self.chosen(fleet, folder[:12])
        on(fleet, lambda store: hide(store, CACHE, lambda v: v.content in contents))
        assert restored(fleet) == {"cd"}

    def test_by_key_and_by_what_is_short_or_nowhere(self, fleet: Fleet) -> None:
        publish(fleet, "ab")
        assert len(self.chosen(fleet, "fababab")) == 1
        with pytest.raises(InvalidName, match="too short"):
            self.chosen(fleet, "fab")
        with pytest.raises(InvalidName, match="names no group"):
            self.chosen(fleet, "zzzzzzzz")

    def test_what_one_worker_published(self, fleet: Fleet) -> None:
        publish(fleet, "ab")
        bad = publish(fleet, "cd")
        assert bad is not None
        (origin,) = {v.origin for v in on(fleet, versions_now) if "fcd" in v.id}
        on(fleet, lambda store: hide(store, CACHE, published_by(store, CACHE, origin)))
        assert restored(fleet) == {"ab"}

    def test_back_to_the_last_good_run(self, fleet: Fleet) -> None:
        publish(fleet, "ab")
        good = fleet.cache("good")
        good.restore("all")
        Tree(fleet.folder / "local" / "good", seed=7).model("cd")
        good.sync()  # a warm-up that restored ab and published cd
        good.close()
        publish(fleet, "xx")
        (record,) = (fleet.store / "warmups" / "H100" / "model" / "v1").iterdir()
        assert restored(fleet) == {"ab", "cd", "xx"}
        on(fleet, lambda store: hide(store, CACHE, unseen_by(store, CACHE, record.stem)))
        assert restored(fleet) == {"ab", "cd"}


def versions_now(store: Store) -> list[Version]:
    from casinductor.store.index.union import versions

    store.refresh()
    return versions(store.catalog, CACHE)
