"""Warm-ups as files tell them: what came, what was read, what nothing accounts for."""

from __future__ import annotations

import gc
import logging
import os
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.errors import InvalidName
from casinductor.reports.warmup import WarmupReport, from_record, to_record
from casinductor.settings import Settings
from casinductor.store.write.journal import records
from casinductor.toolkit import synchronized_inductor_cache
from tests.conftest import Fleet, Tree


@pytest.fixture
def restored(fleet: Fleet) -> tuple[Cache, Tree]:
    """A worker that restored a cache, in a directory of its own."""
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    cache = fleet.cache("v")
    cache.restore("all")
    time.sleep(0.02)  # file times step with the kernel's tick
    return cache, Tree(fleet.folder / "local/v", 7)


def report(cache: Cache) -> WarmupReport:
    found = cache.warmup()
    assert found is not None
    return found


def test_without_a_restore_there_is_no_warmup(fleet: Fleet) -> None:
    Tree(fleet.folder / "local/w").model("ab")
    cache = fleet.cache("w")
    assert cache.warmup() is None
    assert cache.sync().warmup is None
    assert not fleet.files("*.warmup")


def test_what_was_read_is_counted(restored: tuple[Cache, Tree]) -> None:
    cache, tree = restored
    assert report(cache).files_used == 0
    read = sorted(tree.root.rglob("*.so")) + sorted(tree.root.glob("fxgraph/*/*/*"))
    for path in read:
        path.read_bytes()
    found = report(cache)
    assert found.files_restored == 8
    assert found.files_used == len(read) == 2
    assert found.read == sorted(str(path.relative_to(tree.root)) for path in read)
    assert found.bytes_used == sum(path.stat().st_size for path in read)
    assert len(found.used) == 16
    assert len(found.unused) == 24
    assert found.saved_seconds > 0, "the entry that was read says what it took to compile"
    assert found.elsewhere, "read, and not by torch in this process"


def test_a_second_worker_counts_anew(fleet: Fleet, restored: tuple[Cache, Tree]) -> None:
    cache, tree = restored
    (library,) = tree.root.rglob("*.so")
    library.read_bytes()
    assert report(cache).files_used == 1
    again = fleet.cache("v")
    again.restore("all")
    assert report(again).files_used == 1, "read lately, maybe by a worker that still runs"
    modified = library.stat().st_mtime_ns
    os.utime(library, ns=(modified + 10**6, modified - 4 * 3600 * 10**9))
    cache.sync()
    os.utime(library, ns=(modified - 3 * 3600 * 10**9, modified - 4 * 3600 * 10**9))
    third = fleet.cache("v")
    third.restore("all")
    assert report(third).files_used == 0, "read hours ago, by a worker that is gone"
    assert third.sync().manifest is None


def test_kernels_that_no_graph_accounts_for(restored: tuple[Cache, Tree]) -> None:
    cache, tree = restored
    (restored_library,) = tree.root.rglob("*.so")
    restored_library.unlink()
    tree.write(str(restored_library.relative_to(tree.root)), b"rebuilt", 0o755)
    tree.kernel("zz")
    tree.triton("yy")
    tree.tuning("xx")
    found = report(cache)
    assert found.kernels_built == 3
    assert found.tuned == 1
    assert {(item.kind, item.cause) for item in found.rebuilt} == {
        ("cpp", "gone"),
        ("cpp", "absent"),
        ("triton", "absent"),
        ("best_config", "moved cache"),
    }
    assert "4 of them rebuilt" in found.summary()


def test_kernels_of_a_missed_graph_are_not_rebuilt(restored: tuple[Cache, Tree]) -> None:
    cache, tree = restored
    tree.kernel("zz")
    source = "zz = async_compile.cpp_pybinding(['float*'], r'''\n// zz\n''')\n"
    tree.graph("zz", source=source, time_ns=2_500_000_000)
    found = report(cache)
    assert found.kernels_built == 1
    assert found.rebuilt == []
    assert found.spent_seconds == 2.5


def test_a_moved_torch_is_recognised(fleet: Fleet) -> None:
    first = Tree(fleet.folder / "local/w")
    first.kernel("ab", b"\0/old/site/torch/include/x\0")
    fleet.cache("w").sync()
    cache = fleet.cache("v")
    cache.restore()
    Tree(fleet.folder / "local/v").kernel("cd", b"\0/new/site/torch/include/x\0")
    (item,) = report(cache).rebuilt
    assert item.cause == "moved torch"
    assert "/old/site -> /new/site" in item.why


def test_a_precompiled_header_is_noticed(
    restored: tuple[Cache, Tree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / "torchinductor_me" / "precompiled_headers"
    folder.mkdir(parents=True)
    (folder / "abc.h.gch").write_bytes(b"header")
    found = report(restored[0])
    assert found.headers_built == 1
    assert "precompiled header built" in found.summary()


def test_records_are_kept_beside_the_sync(fleet: Fleet, restored: tuple[Cache, Tree]) -> None:
    from casinductor.store.opening import with_store

    cache, tree = restored
    tree.graph("zz")
    tree.kernel("zz")
    synced = cache.sync()
    (record,) = with_store(fleet.settings("x"), lambda store: records(store, cache.id))
    kept = from_record(record.fields)
    assert kept is not None
    assert synced.warmup is not None
    assert kept.manifest == synced.manifest is not None
    assert kept == replace(synced.warmup, read=[])
    assert cache.sync().warmup is not None, "the next one begins where this ended"
    assert len(fleet.files("*.warmup")) == 1, "nothing happened since, so nothing is kept"


def test_a_fault_in_watching_costs_no_sync(
    fleet: Fleet, restored: tuple[Cache, Tree], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("casinductor.observe.observation.Observation.report", fault)
    cache, tree = restored
    tree.graph("zz")
    synced = cache.sync()
    assert synced.manifest
    assert synced.warmup is None


def test_records_survive_the_wire() -> None:
    made = WarmupReport("H100/k", used=b"12345678", graphs={"fxgraph_hit": 2})
    assert from_record(to_record(made)) == made
    assert made.as_dict()["used"] == ["3132333435363738"]
    assert from_record({"version": 2, "cache": "k"}) is None
    assert from_record({"version": 1}) is None


def test_warmups_can_be_switched_off(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASINDUCTOR_STORE", str(fleet.store))
    monkeypatch.setenv("CASINDUCTOR_LOCAL_DIR", str(fleet.folder / "local/w"))
    monkeypatch.setenv("CASINDUCTOR_STATE_DIR", str(fleet.folder / "state"))
    for number, switch in enumerate(("0", "1")):
        monkeypatch.setenv("CASINDUCTOR_WARMUPS", switch)
        with synchronized_inductor_cache("k"):
            Tree(fleet.folder / "local/w", number).model("ab" if number else "cd")
        assert len(fleet.files("*.warmup")) == number


def test_one_line_is_logged(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CASINDUCTOR_STORE", str(fleet.store))
    monkeypatch.setenv("CASINDUCTOR_LOCAL_DIR", str(fleet.folder / "local/w"))
    monkeypatch.setenv("CASINDUCTOR_STATE_DIR", str(fleet.folder / "state"))
    from casinductor.inductor.trace import TRACE

    gc.collect()  # what earlier tests left open stops listening when it goes
    listening = TRACE._listeners
    with caplog.at_level(logging.INFO, "casinductor"), synchronized_inductor_cache("k"):
        Tree(fleet.folder / "local/w").model("ab")
    line = caplog.messages[-1]
    assert "torch ran in another process: its hits are not seen; 1 new entry came" in line
    assert "kernels built" in line
    assert "\n" not in line
    assert TRACE._listeners == listening, "nobody listens once the block is left"


@pytest.mark.parametrize("name", ["CASINDUCTOR_TRACE", "CASINDUCTOR_WARMUPS"])
def test_a_switch_is_0_or_1(name: str) -> None:
    field = name.rpartition("_")[2].lower()
    for value, meant in (("0", False), ("1", True), ("", True), ("no", False), ("True", True)):
        assert getattr(Settings.from_environment({name: value}), field) is meant
    with pytest.raises(InvalidName, match=name):
        Settings.from_environment({name: "maybe"})


def test_lookups_that_leave_nothing_while_every_graph_hits_are_no_alarm() -> None:
    hits = {"fxgraph_hit": 2, "aotautograd_hit": 2, "aotautograd_miss": 2}
    report = WarmupReport("CPU/m", 0, 1.0, graphs=hits)
    assert report.restarted == 2
    assert not report.alarming
    assert "its graphs hit, so nothing was compiled for what missed" in report.summary()
    missed = WarmupReport("CPU/m", 0, 1.0, graphs={"fxgraph_miss": 1, "aotautograd_miss": 1})
    assert not missed.restarted
    assert missed.alarming
