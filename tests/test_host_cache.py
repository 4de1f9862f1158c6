"""One fetch per host: restores of many processes that share a node's directory."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from casinductor.cache import Cache
from casinductor.settings import Settings
from tests.conftest import Fleet, Tree, content
from tests.proxy import Proxy, proxied
from tests.servers import BUCKET, Server

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from casinductor.cache import Cache
from casinductor.settings import Settings
store, folder, name = sys.argv[1:4]
folder = Path(folder)
settings = Settings(store=store, local_dir=folder / "local" / name, gpu_type="H100",
                    state_dir=folder / "state" / name, node_dir=folder / "node")
from casinductor.store.backends import objects
import obstore
print("ready", flush=True)
sys.stdin.readline()
report = Cache("m", settings=settings).restore("all")
print(json.dumps(report.as_dict()))
"""


def start(store: str, folder: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, store, str(folder), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def on_node(fleet: Fleet, worker: str, **more: object) -> Cache:
    settings = msgspec.structs.replace(
        fleet.settings(worker),
        node_dir=fleet.folder / "node",
        **more,
    )
    return Cache("model/v1", settings=settings)


def test_the_second_process_reads_no_object(any_fleet: Fleet) -> None:
    fleet = any_fleet
    for number, name in enumerate(["ab", "cd"]):
        Tree(fleet.folder / "local/w", seed=number).model(name)
    fleet.cache("w").sync()
    first = on_node(fleet, "one").restore("all")
    assert first.bytes_read > 0
    assert first.bytes_nearby == 0
    second = on_node(fleet, "two").restore("all")
    assert second.bytes_read == 0
    assert second.bytes_nearby > 0
    assert second.files_written == first.files_written == 16
    assert second.bytes_written == first.bytes_written
    there = [content(fleet.folder / "local" / name) for name in ("one", "two")]
    assert [p for p in there[0] if "__grp__" not in p and there[0][p] != there[1][p]] == []
    group = next(p for p in there[1] if "__grp__" in p)
    assert str(fleet.folder / "local/two") in there[1][group].decode()


def test_the_catalog_of_another_worker_is_not_needed(fleet: Fleet) -> None:
    """Packs may even be gone: the directory is as good as the store."""
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    on_node(fleet, "one").restore("all")
    shutil.rmtree(fleet.store / "packs")
    assert on_node(fleet, "two").restore("all").files_written == 8


@pytest.fixture
def proxy(seaweed: Server) -> object:
    with proxied(seaweed.endpoint) as running:
        yield running


def test_eight_ranks_that_start_together_fetch_once(proxy: Proxy, tmp_path: Path) -> None:
    store = f"s3://{BUCKET}/near/{tmp_path.name}?endpoint={proxy.endpoint}"
    made = Tree(tmp_path / "local/w")
    for name in ("ab", "cd", "ef", "gh"):
        made.model(name)
    Cache(
        "m",
        settings=Settings(
            store=store,
            local_dir=made.root,
            gpu_type="H100",
            state_dir=tmp_path / "state/w",
        ),
    ).sync()
    proxy.reset()
    alone = start(store, tmp_path / "alone", "r")
    alone.communicate("\n")
    once = proxy.reset()
    proxy.latency = 0.05
    ranks = [start(store, tmp_path / "together", f"r{n}") for n in range(8)]
    for rank in ranks:
        assert rank.stdout is not None
        assert rank.stdout.readline() == "ready\n"
    for rank in ranks:
        assert rank.stdin is not None
        rank.stdin.write("\n")
        rank.stdin.flush()
    reports = []
    for rank in ranks:
        output, errors = rank.communicate()
        assert rank.returncode == 0, errors
        reports.append(json.loads(output))
    traffic = proxy.reset()
    assert [report["files_written"] for report in reports] == [32] * 8
    assert sum(report["bytes_read"] > 0 for report in reports) == 1
    # A rank that asked after the first one's listing lists for itself; nothing else is read twice.
    assert traffic.requests["GET"] <= once.requests["GET"] + 7, traffic
    # Marks of use (a look, and a PUT where ten new seconds began meanwhile) are each rank's own.
    assert traffic.total <= traffic.requests["GET"] + 2 * 8, traffic
    assert traffic.down < once.down * 1.5


@pytest.mark.parametrize("part", ["files", "notes"])
def test_damage_is_healed(fleet: Fleet, part: str) -> None:
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    on_node(fleet, "one").restore("all")
    whole = content(fleet.folder / "local/one")
    for path in (fleet.folder / "node" / part).rglob("*"):
        if path.is_file():
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0x20
            path.write_bytes(data)
    report = on_node(fleet, "two").restore("all")
    assert report.lost == 0
    assert report.damage == []
    there = content(fleet.folder / "local/two")
    assert [p for p in whole if "__grp__" not in p and whole[p] != there[p]] == []
    assert on_node(fleet, "three").restore("all").bytes_read == 0


def test_a_limit_of_nothing_keeps_nothing(fleet: Fleet) -> None:
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    for worker in ("one", "two"):
        assert on_node(fleet, worker, node_bytes=0).restore("all").files_written == 8
    assert [p for p in (fleet.folder / "node/files").rglob("*") if p.is_file()] == []


def test_what_was_synced_since_is_seen(fleet: Fleet) -> None:
    """The directory's listing is never older than the restore that believes it."""
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    on_node(fleet, "one").restore("all")
    Tree(fleet.folder / "local/x", seed=1).model("cd")
    fleet.cache("x").sync()
    assert on_node(fleet, "two").restore("all").files_written == 16


def test_killed_at_random_moments(fleet: Fleet) -> None:
    moments = random.Random(5)
    made = Tree(fleet.folder / "local/w")
    for name in ("ab", "cd", "ef", "gh"):
        made.model(name)
    fleet.cache("w", "m").sync()
    store = fleet.address
    for number in range(10):
        process = start(store, fleet.folder, f"k{number}")
        assert process.stdout is not None
        process.stdout.readline()
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(moments.uniform(0.0, 0.12))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if number % 3 == 2:
            shutil.rmtree(fleet.folder / "node/files", ignore_errors=True)
    process = start(store, fleet.folder, "end")
    output, errors = process.communicate("\n")
    assert process.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["files_written"] == 32
    assert set(content(fleet.folder / "local/end")) == set(made.content())


def test_the_environment_names_the_directory(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASINDUCTOR_NODE_DIR", str(fleet.folder / "n"))
    monkeypatch.setenv("CASINDUCTOR_NODE_BYTES", "12345")
    monkeypatch.setenv("CASINDUCTOR_COMPACT_AFTER", "0")
    settings = Settings.from_environment()
    assert (settings.node_dir, settings.node_bytes) == (fleet.folder / "n", 12345)
    assert settings.compact_after == 0
    for name in ("NODE_BYTES", "COMPACT_AFTER"):
        monkeypatch.setenv(f"CASINDUCTOR_{name}", "many")
        with pytest.raises(ValueError, match=f"CASINDUCTOR_{name} is 'many'"):
            Settings.from_environment()
        monkeypatch.delenv(f"CASINDUCTOR_{name}")
    assert os.environ["CASINDUCTOR_NODE_DIR"]
