"""Processes of one machine share a state directory: none may break another's catalog."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from casinductor.errors import CatalogChanged, CatalogDamaged, Damaged
from casinductor.settings import Settings
from casinductor.store.format.names import CacheId
from casinductor.store.index.catalog import Catalog
from casinductor.store.index.union import versions
from casinductor.store.opening import with_store
from casinductor.store.store import Store
from tests.conftest import Fleet, Tree

CACHE = CacheId("H100", "model/v1")
ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import json, logging, sys, time
from msgspec.structs import replace
from pathlib import Path
from casinductor.cache import Cache
from casinductor.errors import CasinductorError
from casinductor.settings import Settings
from casinductor.store.index.catalog import Catalog
from tests.conftest import Tree

verb, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
said = {"rounds": 0, "errors": [], "discarded": 0}
discard = Catalog.discard
def counted(self):
    said["discarded"] += 1
    discard(self)
Catalog.discard = counted
local = folder / "local" / verb
settings = Settings(store=str(folder / "store"), local_dir=local, gpu_type="H100",
                    state_dir=folder / "state", compact_after=2)
end = time.monotonic() + seconds
while time.monotonic() < end:
    said["rounds"] += 1
    try:
        if verb == "sync":
            Tree(local, said["rounds"]).graph(f"{said['rounds']:x}g")
            Tree(local, said["rounds"]).kernel(f"{said['rounds']:x}k")
            Cache("model/v1", settings=settings).sync()
        else:
            fresh = replace(settings, local_dir=local / str(said["rounds"]))
            Cache("model/v1", settings=fresh).restore("all")
    except CasinductorError as error:
        said["errors"].append(repr(error))
print(json.dumps(said))
"""


@pytest.mark.timeout(120)
def test_a_sync_and_two_restores_on_one_state_directory(tmp_path: Path) -> None:
    Tree(tmp_path / "local/sync").model("ab")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, verb, str(tmp_path), "10"],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for verb in ("sync", "restore", "again")
    ]
    for process in running:
        output, errors = process.communicate()
        assert process.returncode == 0, errors[-3000:]
        said = json.loads(output)
        assert said["errors"] == []
        assert said["discarded"] == 0
        assert said["rounds"] >= 3


@pytest.fixture
def settings(fleet: Fleet) -> Settings:
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    return fleet.settings("w")


def other_process(catalog: Catalog) -> Catalog:
    assert catalog.path is not None
    return Catalog(catalog.path)


def drop_all(catalog: Catalog) -> None:
    other = other_process(catalog)
    other.drop(known.row for known in other.manifests.known().values())
    other.close()


def test_a_reading_block_sees_one_state(settings: Settings) -> None:
    def work(store: Store) -> None:
        catalog = store.catalog
        with catalog.reading():
            found = versions(catalog, CACHE)
            drop_all(catalog)
            assert catalog.groups.files(found), "as when the block began"
            assert catalog.blobs.table(found[0].manifest).size
        with pytest.raises(CatalogChanged):
            catalog.groups.files(found)
        with pytest.raises(CatalogChanged):
            catalog.blobs.table(found[0].manifest)

    with_store(settings, work)
    with_store(settings, lambda store: store.refresh())


def test_row_ids_are_never_used_twice(settings: Settings) -> None:
    def work(store: Store) -> set[int]:
        store.refresh()
        found = versions(store.catalog, CACHE)
        return {v.row for v in found} | {-v.manifest for v in found}

    before = with_store(settings, work)
    with_store(settings, lambda store: drop_all(store.catalog))
    assert not before & with_store(settings, work)


def test_dropping_is_one_transaction(settings: Settings) -> None:
    statements: list[str] = []

    def work(store: Store) -> None:
        store.refresh()
        store.catalog._connection.set_trace_callback(statements.append)
        store.catalog.drop(known.row for known in store.catalog.manifests.known().values())

    with_store(settings, work)
    assert statements.count("BEGIN IMMEDIATE") == 1
    assert statements[-1] == "COMMIT"


def test_nothing_is_written_while_it_is_read(settings: Settings) -> None:
    def work(store: Store) -> None:
        with store.catalog.reading(), pytest.raises(RuntimeError, match="while it is being read"):
            store.catalog.drop([1])

    with_store(settings, work)


def test_work_begins_again_where_rows_went(settings: Settings) -> None:
    tried: list[Path | None] = []

    def work(store: Store) -> str:
        tried.append(store.catalog.path)
        if len(tried) < 4:
            raise CatalogChanged("somebody else dropped it")
        return "done"

    assert with_store(settings, work) == "done"
    assert tried[0] == tried[1] == tried[2] is not None
    assert tried[3] is None, "in memory nobody else can change it"
    assert tried[0] is not None
    assert tried[0].exists(), "a change is no damage"


def test_faults_of_catalogs_leave_as_one_error(settings: Settings) -> None:
    for fault in (CatalogChanged("gone"), CatalogDamaged("bad"), sqlite3.DatabaseError("worse")):

        def work(store: Store, fault: Exception = fault) -> None:
            raise fault

        with pytest.raises(Damaged, match="the catalog of"):
            with_store(settings, work)
