"""Retention, collection, removal and undeletion, on a directory."""

from __future__ import annotations

import time
from typing import Any

import pytest

from casinductor.errors import CacheNotFound, Damaged, StoreFormat
from casinductor.store.format import names
from casinductor.store.format.frame import blake3_digest
from casinductor.store.maintain.collect import CollectReport, collect
from casinductor.store.maintain.compact import compact
from casinductor.store.maintain.removal import remove, undelete
from casinductor.store.maintain.retention import Policy
from casinductor.store.maintain.rewrite import rewrite
from casinductor.store.opening import with_fresh_store
from casinductor.store.store import Store
from casinductor.store.uses import last_use
from tests.conftest import Fleet, Tree, content, exact

DAY = 86_400.0


def gc(fleet: Fleet, policy: Policy | None = None, **options: Any) -> CollectReport:
    given = {"apply": True, "min_age_seconds": 0.0, "grace": 0.0, "max_unused": 0.0, **options}
    return with_fresh_store(fleet.settings("gc"), lambda store: collect(store, policy, **given))


def publish(fleet: Fleet, key: str, name: str, seed: int = 0) -> None:
    worker = f"{key}-{name}"
    Tree(fleet.folder / "local" / worker, seed).model(name)
    fleet.cache(worker, key).sync()


def age(fleet: Fleet, key: str, days: float) -> None:
    """Make a cache look as if it was last used so long ago."""
    folder = fleet.store / "uses" / "H100" / key
    for mark in folder.iterdir():
        mark.unlink()
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - days * DAY))
    (folder / day).touch()


def holds(fleet: Fleet, key: str) -> set[str]:
    """What a new worker restores."""
    worker = f"reader-{time.time_ns()}"
    report = fleet.cache(worker, key).restore("all")
    assert report.lost == 0
    return set(content(fleet.folder / "local" / worker))


@pytest.fixture
def three(fleet: Fleet) -> Fleet:
    for number, (key, name) in enumerate((("one", "ab"), ("two", "ef"), ("three", "cd"))):
        publish(fleet, key, name, seed=number)
    return fleet


def test_a_store_that_needs_everything_loses_nothing(three: Fleet) -> None:
    before = {p: p.read_bytes() for p in three.files("*")}
    report = gc(three)
    assert (report.packs, report.manifests, report.bytes_freed) == (0, 0, 0)
    assert {p: p.read_bytes() for p in three.files("*")} == before


def test_a_dry_run_changes_nothing_and_tells_the_truth(three: Fleet) -> None:
    age(three, "three", 40)
    before = {p: p.read_bytes() for p in three.files("*")}
    said = gc(three, Policy(within=30 * DAY), apply=False)
    assert {p: p.read_bytes() for p in three.files("*")} == before
    done = gc(three, Policy(within=30 * DAY))
    assert (said.packs, said.manifests, said.caches) == (done.packs, done.manifests, done.caches)
    assert said.bytes_freed == pytest.approx(done.bytes_freed, rel=0.2)


@pytest.mark.usefixtures("old_syncs")
def test_caches_that_nobody_used_for_long_go(three: Fleet) -> None:
    age(three, "three", 40)
    report = gc(three, Policy(within=30 * DAY))
    assert list(report.caches) == ["H100/three"]
    assert holds(three, "three") == set()
    assert len(holds(three, "one")) == len(holds(three, "two")) == 8
    assert report.bytes_freed > 0
    with_fresh_store(three.settings("x"), exact)


@pytest.fixture
def old_syncs(three: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the syncs themselves are old: only marks of use tell the age."""
    from casinductor.store import uses

    monkeypatch.setattr(uses, "ulid_ms", lambda ulid: 0)


def test_protected_caches_stay(three: Fleet, old_syncs: None) -> None:
    for key in ("two", "three"):
        age(three, key, 40)
    gc(three, Policy(within=30 * DAY, keep=("t*ee", "H100/none")))
    assert holds(three, "two") == set()
    assert len(holds(three, "three")) == 8


def test_a_collector_whose_clock_jumped_ahead_removes_nothing(
    three: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 365 * DAY)
    assert gc(three, Policy(within=30 * DAY)).caches == {}
    monkeypatch.undo()
    (three.store / "uses/H100/one/2999-01-01").touch()  # a worker's clock is wrong
    assert gc(three, Policy(within=30 * DAY)).caches == {}
    assert len(holds(three, "two")) == 8


def test_a_budget_takes_the_least_recently_used(three: Fleet, old_syncs: None) -> None:
    for days, key in ((3, "one"), (1, "two"), (2, "three")):
        age(three, key, days)
    whole = sum(p.stat().st_size for p in three.files("*.pack") + three.files("*.manifest"))
    gc(three, Policy(max_bytes=whole))
    assert (three.store / "manifests/H100/one").exists()
    gc(three, Policy(max_bytes=whole * 4 // 5))
    assert [bool(holds(three, key)) for key in ("one", "two", "three")] == [False, True, True]
    gc(three, Policy(max_bytes=0, keep=("two",)))
    assert [bool(holds(three, key)) for key in ("one", "two", "three")] == [False, True, False]


def test_the_newest_syncs_of_a_cache(fleet: Fleet) -> None:
    for number, name in enumerate(("ab", "cd", "ef")):
        publish(fleet, "one", name, seed=number)
    before = holds(fleet, "one")
    gc(fleet, Policy(last=3))
    assert holds(fleet, "one") == before
    compacted = fleet.cache("c", "one")
    with_fresh_store(compacted.settings, lambda store: compact(store, compacted.id))
    gc(fleet, Policy(last=2))  # compaction does not make old syncs young
    left = holds(fleet, "one")
    assert len(left) == 16
    assert not any("ababab" in path or "ABABAB" in path for path in left)
    with_fresh_store(fleet.settings("x"), exact)


def test_orphans_of_dead_syncs_go_and_young_ones_may_stay(three: Fleet) -> None:
    orphan = three.files("*.manifest")[0]
    orphan.unlink()
    assert gc(three, min_age_seconds=600.0, max_unused=1.0).packs == 0
    before = {path.stem for path in three.files("*.pack")}
    assert gc(three).packs == 1
    assert len(before - {path.stem for path in three.files("*.pack")}) == 1
    assert len(holds(three, "two")) == len(holds(three, "three")) == 8


def test_a_manifest_that_cannot_be_read_stops_everything(three: Fleet) -> None:
    path = three.files("*.manifest")[0]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    packs = three.files("*.pack")
    with pytest.raises(Damaged, match="casinductor repair"):
        gc(three, Policy(max_bytes=0))
    assert three.files("*.pack") == packs
    assert three.files("condemned/*") == []


def test_a_store_of_a_later_format_is_left_alone(three: Fleet) -> None:
    line = (three.store / "FORMAT").read_bytes().splitlines()[0]
    line = line.replace(b'"format": 1', b'"format": 2')
    seal = blake3_digest(line).hex().encode()
    (three.store / "FORMAT").write_bytes(line + b"\n" + seal + b"\n")
    before = {path: path.read_bytes() for path in three.files("*")}
    cache = three.cache("x", "one").id
    for verb in (
        lambda: gc(three, Policy(max_bytes=0)),
        lambda: with_fresh_store(three.settings("x"), lambda store: remove(store, cache)),
    ):
        with pytest.raises(StoreFormat, match="format 2"):
            verb()
    assert {path: path.read_bytes() for path in three.files("*")} == before


def test_what_a_dead_collector_left_is_finished(three: Fleet) -> None:
    for pack in three.files("*.pack")[:2]:
        (three.store / "condemned").mkdir(exist_ok=True)
        (three.store / "condemned" / pack.stem).touch()
    condemned = {p.stem for p in three.files("condemned/*")}
    assert fleet_is_whole(three)
    gc(three)
    assert three.files("condemned/*") == []
    assert not condemned & {p.stem for p in three.files("*.pack")}
    assert fleet_is_whole(three)


def fleet_is_whole(fleet: Fleet) -> bool:
    return [len(holds(fleet, key)) for key in ("one", "two", "three")] == [8, 8, 8]


def test_manifests_of_a_dead_compaction_go(three: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after its manifest was published: both stand, nothing is hidden, gc takes the old."""
    from casinductor.store.maintain import compact as module

    cache = three.cache("c", "one")
    monkeypatch.setattr(module, "retire", lambda *_, **__: [])
    with_fresh_store(cache.settings, lambda store: compact(store, cache.id))
    assert len(list((three.store / "manifests/H100/one").iterdir())) == 2
    assert fleet_is_whole(three)
    gc(three)
    assert len(list((three.store / "manifests/H100/one").iterdir())) == 1
    assert fleet_is_whole(three)


def test_a_cache_that_is_used_while_it_expires_stays(three: Fleet, old_syncs: None) -> None:
    age(three, "three", 40)
    worker = three.cache("three-cd", "three")

    def meanwhile(seconds: float) -> None:
        if not seen:
            seen.append(worker.sync())  # nothing new: it relies on what is condemned

    seen: list[Any] = []
    gc(three, Policy(within=30 * DAY), grace=1.0, wait=meanwhile)
    assert seen[0].manifest is not None, "it saw the tombstone and stored its own"
    assert len(holds(three, "three")) == 8


def test_a_restore_while_a_cache_expires_keeps_it(three: Fleet, old_syncs: None) -> None:
    age(three, "three", 40)

    def meanwhile(seconds: float) -> None:
        if not seen:
            seen.append(holds(three, "three"))

    seen: list[Any] = []
    gc(three, Policy(within=30 * DAY), grace=1.0, wait=meanwhile)
    assert len(seen[0]) == 8
    assert len(holds(three, "three")) == 8


def test_rm_hides_and_undelete_brings_back(three: Fleet) -> None:
    cache = three.cache("x", "two").id
    remove_it = lambda store: remove(store, cache)  # noqa: E731
    report = with_fresh_store(three.settings("x"), remove_it)
    assert report.groups == 5
    assert holds(three, "two") == set()
    with pytest.raises(CacheNotFound):
        with_fresh_store(three.settings("x"), remove_it)
    with_fresh_store(three.settings("x"), lambda store: undelete(store, cache))
    assert len(holds(three, "two")) == 8
    gc(three)
    assert len(holds(three, "two")) == 8
    with_fresh_store(three.settings("x"), remove_it)
    gc(three)
    with pytest.raises(CacheNotFound):
        with_fresh_store(three.settings("x"), lambda store: undelete(store, cache))
    assert not (three.store / "manifests/H100/two").exists() or not list(
        (three.store / "manifests/H100/two").iterdir()
    )


def test_rm_wins_over_a_compaction_that_began_before(three: Fleet) -> None:
    """Its manifest stands only for what was removed, so it is removed with it."""
    from casinductor.store.maintain import compact as module

    cache = three.cache("x", "two").id

    def compacting(store: Store) -> None:
        real = rewrite

        def slow(*args: Any, **kwargs: Any) -> Any:
            with_fresh_store(three.settings("y"), lambda other: remove(other, cache))
            return real(*args, **kwargs)

        patch = pytest.MonkeyPatch()
        patch.setattr(module, "rewrite", slow)
        try:
            compact(store, cache)
        finally:
            patch.undo()

    with_fresh_store(three.settings("c"), compacting)
    assert holds(three, "two") == set()
    gc(three)
    assert holds(three, "two") == set()


def test_a_sync_after_rm_begins_anew(three: Fleet) -> None:
    cache = three.cache("two-ef", "two")
    with_fresh_store(three.settings("x"), lambda store: remove(store, cache.id))
    assert cache.sync().groups_added == 5
    assert len(holds(three, "two")) == 8
    gc(three)
    assert len(holds(three, "two")) == 8


def test_marks_are_tidied(three: Fleet) -> None:
    folder = three.store / "uses/H100/one"
    for day in ("2020-01-01", "2020-01-02"):
        (folder / day).touch()
    (three.store / "probes").mkdir(exist_ok=True)
    (three.store / "probes/01ARZ3NDEKTSV4RRFFQ69G5FAV").touch()
    (three.store / "quarantine").mkdir()
    (three.store / "quarantine/01ARZ3NDEKTSV4RRFFQ69G5FAV.mark").write_text("{}")
    orphan = three.files("*.manifest")[-1]
    orphan.unlink()
    gc(three)
    assert len(list(folder.iterdir())) == 1
    assert three.files("probes/*") == three.files("quarantine/*") == []


def test_last_use() -> None:
    now = 1_800_000_000_000.0
    assert last_use(set(), set(), now) == 0.0
    assert last_use({"2026-01-01"}, set(), now) == 1_767_311_999_999
    assert last_use({"2999-01-01", "no-day"}, set(), now) == now


def test_parsing_marks_of_use() -> None:
    assert names.parse_use("uses/H100/a/b/2026-01-02") is not None
    for name in ("uses/H100/2026-01-02", "uses/H100/a/today", "manifests/H100/a/2026-01-02"):
        assert names.parse_use(name) is None
