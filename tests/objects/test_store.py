"""A store in a bucket, as its users meet it: commands, the toolkit, compaction, forks, zips."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from casinductor.errors import StoreUnavailable
from casinductor.store.backends.address import open_backend
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.compact import compact
from casinductor.store.maintain.retention import Policy
from casinductor.store.opening import with_fresh_store
from tests.conftest import ObjectFleet, Tree, content, exact
from tests.servers import Server


@pytest.fixture
def fleet(seaweed: Server, tmp_path: Path) -> ObjectFleet:
    return ObjectFleet(tmp_path, seaweed)


@pytest.fixture(params=["s3", "az"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectFleet:
    """A bucket of SeaweedFS and a container of Azurite."""
    server = request.getfixturevalue({"s3": "seaweed", "az": "azure"}[request.param])
    return ObjectFleet(tmp_path, server, request.param)


def command(fleet: ObjectFleet, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "casinductor", "--store", fleet.address, "--gpu", "H100", *words],
        env={**os.environ, "CASINDUCTOR_STATE_DIR": str(fleet.folder / "state/cli")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_take_a_url(fleet: ObjectFleet) -> None:
    Tree(fleet.folder / "local/w").model("ab")
    synced = command(fleet, "push", "model/v1", "--from", str(fleet.folder / "local/w"), "--json")
    assert synced.returncode == 0, synced.stderr
    assert json.loads(synced.stdout)["files_added"] == 8
    listed = json.loads(command(fleet, "ls", "--json").stdout)
    assert "model/v1" in json.dumps(listed)
    for words in (["stats"], ["check"], ["doctor"], ["gc"], ["compact", "model/v1"]):
        done = command(fleet, *words)
        assert done.returncode in (0, 9), (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
    there = ["--to", str(fleet.folder / "local/v"), "--restore", "all"]
    restored = command(fleet, "pull", "model/v1", *there)
    assert restored.returncode == 0, restored.stderr
    assert len(content(fleet.folder / "local/v")) == 8


def test_compaction_and_collection_leave_nothing_over(anywhere: ObjectFleet) -> None:
    fleet = anywhere
    made = {}
    for number, name in enumerate(["ab", "cd", "ef"]):
        Tree(fleet.folder / "local" / name, seed=number).model(name)
        fleet.cache(name).sync()
        made.update(content(fleet.folder / "local" / name))
    cache = fleet.cache("c")
    done = with_fresh_store(cache.settings, lambda store: compact(store, cache.id))
    assert done.manifests_replaced == 3
    assert len(fleet.files("*.manifest")) == 1
    with_fresh_store(cache.settings, lambda s: collect(s, apply=True, min_age_seconds=0.0))
    with_fresh_store(cache.settings, exact)
    assert fleet.cache("v").restore("all").files_written == len(made)
    gone = with_fresh_store(
        cache.settings,
        lambda s: collect(s, Policy(max_bytes=0), apply=True, min_age_seconds=0.0),
    )
    assert gone.packs == 1
    assert fleet.files("*.pack") == []


def test_a_zip_of_fals_in_a_bucket(fleet: ObjectFleet) -> None:
    import zipfile

    made = Tree(fleet.folder / "local/w").model("ab")
    archive = fleet.folder / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in made.content().items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (made.root / name).stat().st_mode << 16
            file.writestr(entry, data)
    open_backend(fleet.address).put("H100/model/v1.zip", [archive.read_bytes()])
    report = fleet.cache("v").restore("all")
    assert report.source == "zip"
    assert content(fleet.folder / "local/v").keys() == made.content().keys()


def test_a_forked_child_is_told(fleet: ObjectFleet) -> None:
    """The client's threads stay in the parent: a call of the child would hang for ever."""
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            fleet.cache("v").restore(seconds=20)
            os.write(write, b"it restored")
        except StoreUnavailable as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert b"forked" in os.read(read, 1000)
    assert fleet.cache("u").restore("all").files_written == 8


def test_a_process_forked_before_the_first_use_works(fleet: ObjectFleet) -> None:
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    code = (
        "import os, sys\n"
        "from casinductor.cache import Cache\nfrom casinductor.settings import Settings\n"
        "from pathlib import Path\n"
        "child = os.fork()\n"
        "local = Path(sys.argv[2]) / ('child' if child == 0 else 'parent')\n"
        "settings = Settings(store=sys.argv[1], local_dir=local, gpu_type='H100',\n"
        "                    state_dir=local / '.s')\n"
        "report = Cache('model/v1', settings=settings).restore('all')\n"
        "ok = report.files_written == 8\n"
        "if child == 0: os._exit(0 if ok else 1)\n"
        "_, status = os.waitpid(child, 0)\n"
        "sys.exit(0 if ok and status == 0 else 1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, fleet.address, str(fleet.folder / "f")],
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
