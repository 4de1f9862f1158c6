"""What a server promises is found out by trying, and one that promises nothing is handled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from casinductor.inspect.storecheck import check_store
from casinductor.store.backends.address import open_backend
from casinductor.store.format.declaration import parse_format
from casinductor.store.index.catalog import Catalog
from casinductor.store.maintain.collect import collect
from casinductor.store.opening import with_fresh_store
from casinductor.store.store import Store
from tests import servers
from tests.conftest import ObjectFleet, Tree, content, until
from tests.servers import Server


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that ignores If-None-Match and says nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in servers.KEYS.items():
            patch.setenv(name, value)
        with servers.rclone(tmp_path_factory.mktemp("rclone")) as server:
            yield server


def test_a_server_with_conditional_writes(seaweed: Server, tmp_path: Path) -> None:
    backend = open_backend(seaweed.address(f"probe/{tmp_path.name}"))
    assert backend.probe() == "put"


def test_a_server_that_ignores_conditions_is_found_out(silent: Server, tmp_path: Path) -> None:
    backend = open_backend(silent.address(f"probe/{tmp_path.name}"))
    assert backend.probe() == "overwrite"
    until(lambda: backend.list("probes/") == [])


def test_a_store_without_conditional_writes_loses_nothing(silent: Server, tmp_path: Path) -> None:
    """No name but FORMAT's and marks' is ever given twice, so nothing is ever overwritten."""
    fleet = ObjectFleet(tmp_path, silent)
    made = {}
    for number, name in enumerate(["ab", "cd", "ef"]):
        Tree(tmp_path / "local" / name, seed=number).model(name)
        fleet.cache(name).sync()
        made.update(content(tmp_path / "local" / name))
    report = fleet.cache("v").restore("all")
    assert report.lost == 0
    assert content(tmp_path / "local/v").keys() == made.keys()
    (path,) = fleet.files("FORMAT")
    assert parse_format(path.read_bytes())["publish"] == "overwrite"
    collected = with_fresh_store(
        fleet.settings("c"), lambda store: collect(store, apply=True, min_age_seconds=0.0)
    )
    assert collected.problems == []
    assert fleet.cache("u").restore("all").files_written == len(made)


def test_the_doctor_says_so(silent: Server, tmp_path: Path) -> None:
    fleet = ObjectFleet(tmp_path, silent)
    Tree(tmp_path / "local/w").model("ab")
    fleet.cache("w").sync()
    store = Store(open_backend(fleet.address), Catalog(None))
    checks = {check.name: check for check in check_store(store, None, 60.0)}
    assert "ignores conditional writes" in checks["store"].found
    assert checks["writes"].status == "ok"


def test_a_worker_knows_the_mode_from_format(silent: Server, tmp_path: Path) -> None:
    fleet = ObjectFleet(tmp_path, silent)
    Tree(tmp_path / "local/w").model("ab")
    fleet.cache("w").sync()
    store = Store(open_backend(fleet.address), Catalog(None))
    assert store.backend.mode == "put"
    assert store.format_problem() is None
    assert store.backend.mode == "overwrite"


def test_no_bucket_and_no_keys(seaweed: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from casinductor.errors import StoreUnavailable

    gone = open_backend(f"s3://nobody-made-this/x?endpoint={seaweed.endpoint}", 5.0)
    with pytest.raises(StoreUnavailable, match=r"nobody-made-this.*NoSuchBucket"):
        gone.list("manifests/")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    with pytest.raises(StoreUnavailable, match="403 Forbidden, InvalidAccessKeyId") as raised:
        open_backend(seaweed.address("x"), 5.0).list("manifests/")
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(raised.value)


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from casinductor.errors import StoreUnavailable

    for name, value in servers.KEYS.items():
        monkeypatch.setenv(name, value)
    (port,) = servers.free_ports(1)
    backend = open_backend(f"s3://b/x?endpoint=http://127.0.0.1:{port}", 1.0)
    with pytest.raises(StoreUnavailable, match=f"listing s3://b/x/manifests/ at .*{port}"):
        backend.list("manifests/")
