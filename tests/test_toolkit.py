"""The drop-in functions: fal's names, arguments and return types, never a store's fault."""

from __future__ import annotations

import inspect
import logging
import os
from pathlib import Path

import pytest

from casinductor import toolkit
from casinductor.errors import InvalidName
from tests.conftest import Fleet, Tree, content


@pytest.fixture
def worker(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setenv("CASINDUCTOR_STORE", str(fleet.store))
    monkeypatch.setenv("CASINDUCTOR_LOCAL_DIR", str(fleet.folder / "local/w"))
    monkeypatch.setenv("CASINDUCTOR_STATE_DIR", str(fleet.folder / "state/w"))
    monkeypatch.setenv("CASINDUCTOR_GPU_TYPE", "H100")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/somewhere/else")
    return Tree(fleet.folder / "local/w")


def test_signatures_are_fals() -> None:
    expected = {
        "get_gpu_type": ([], "str"),
        "load_inductor_cache": (["cache_key"], "str"),
        "sync_inductor_cache": (["cache_key", "unpacked_dir_hash"], "None"),
        "synchronized_inductor_cache": (["cache_key"], "Iterator[None]"),
    }
    for name, (parameters, returned) in expected.items():
        signature = inspect.signature(getattr(toolkit, name))
        assert list(signature.parameters) == parameters
        assert signature.return_annotation == returned


def test_load_use_sync(worker: Tree, fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "casinductor")
    assert toolkit.load_inductor_cache("m/v1") == ""
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(worker.root)
    worker.model("ab")
    toolkit.sync_inductor_cache("m/v1", "")
    state = toolkit.load_inductor_cache("m/v1")
    assert len(state) == 64
    assert toolkit.load_inductor_cache("m/v1") == state
    before = fleet.published()
    toolkit.sync_inductor_cache("m/v1", state)
    assert fleet.published() == before
    worker.model("cd")
    toolkit.sync_inductor_cache("m/v1", state)
    assert toolkit.load_inductor_cache("m/v1") != state
    messages = [record.getMessage() for record in caplog.records]
    assert all(len(message.splitlines()) == 1 for message in messages)
    assert any("published 5 groups" in message for message in messages)


def test_the_context_manager_syncs_even_when_the_body_raises(worker: Tree, fleet: Fleet) -> None:
    def use() -> None:
        with toolkit.synchronized_inductor_cache("m"):
            worker.model("ab")
            raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError, match="the model broke"):
        use()
    assert len(fleet.files("*.manifest")) == 1


def test_changed_content_is_noticed(worker: Tree, fleet: Fleet) -> None:
    worker.tuning("ab", choice=1)
    with toolkit.synchronized_inductor_cache("m"):
        pass
    with toolkit.synchronized_inductor_cache("m"):
        worker.model("cd")
    with toolkit.synchronized_inductor_cache("m"):
        worker.tuning("cd", choice=5)
    fleet.cache("v", "m").restore()
    assert b'{"XBLOCK": 5}' in content(fleet.folder / "local/v").values()


@pytest.mark.parametrize("store", ["missing", "file", "damaged", "scheme"])
def test_a_stores_fault_is_logged_and_never_raised(
    worker: Tree,
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    store: str,
) -> None:
    address = fleet.folder / "no" / "such"
    if store == "file":
        address = fleet.folder / "file"
        address.write_text("x")
    elif store == "damaged":
        fleet.cache("w", "m").restore()
        Tree(fleet.folder / "local/x").model("ab")
        fleet.cache("x", "m").sync()
        for path in fleet.files("*"):
            path.write_bytes(b"rubbish")
        address = fleet.store
    where = "ftp://bucket/prefix" if store == "scheme" else str(address)
    monkeypatch.setenv("CASINDUCTOR_STORE", where)
    assert toolkit.load_inductor_cache("m") == ""
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(worker.root)
    assert "cannot restore, this worker goes on without" in caplog.text
    worker.model("cd")
    toolkit.sync_inductor_cache("m", "")
    assert content(worker.root)
    assert "Traceback" not in caplog.text


def test_a_full_or_read_only_local_disk_is_not_an_error(
    worker: Tree, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocker = fleet.folder / "blocker"
    blocker.write_text("x")
    monkeypatch.setenv("CASINDUCTOR_LOCAL_DIR", str(blocker))
    assert toolkit.load_inductor_cache("m") == ""
    toolkit.sync_inductor_cache("m", "")
    assert "cannot" in caplog.text


def test_a_key_no_store_could_hold_is_the_callers_fault(worker: Tree) -> None:
    for call in (
        lambda: toolkit.load_inductor_cache("../x"),
        lambda: toolkit.sync_inductor_cache("/x", ""),
    ):
        with pytest.raises(InvalidName, match="cache key"):
            call()


def test_torchs_idea_of_tritons_directory_moves_along(
    worker: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/somewhere/else/triton/0")
    toolkit.load_inductor_cache("m")
    assert "TRITON_CACHE_DIR" not in os.environ
    monkeypatch.setenv("TRITON_CACHE_DIR", "/chosen/by/the/user")
    toolkit.load_inductor_cache("m")
    assert os.environ["TRITON_CACHE_DIR"] == "/chosen/by/the/user"


def test_the_real_fal_has_these_functions() -> None:
    """Runs where fal is installed (make bench installs it); the drop-in must not drift from it."""
    import importlib.util

    spec = importlib.util.find_spec("fal")
    if spec is None or spec.origin is None:
        pytest.skip("needs fal: .venv/bin/pip install --no-deps fal")
    source = Path(spec.origin).parent / "toolkit" / "compilation.py"
    for name in toolkit.__all__:
        parameters = ", ".join(
            f"{p.name}: {p.annotation}"
            for p in inspect.signature(getattr(toolkit, name)).parameters.values()
        )
        assert f"def {name}({parameters})" in source.read_text()
