"""Engines call the plugin in each of their processes: one restores, all of them tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from casinductor.companion.rest import Rest
from casinductor.inductor.trace import Event
from casinductor.inspect import engines
from casinductor.observe import engine, spool
from casinductor.observe.spool import OWN, Spool
from casinductor.reports.warmup import WarmupReport, to_record
from casinductor.store.format.names import CacheId
from casinductor.store.write.journal import Record
from tests.conftest import Fleet, Tree

#: An engine whose worker compiles: it starts a child, as vLLM does, and ends without a word.
ENGINE = """
import json, logging, os, subprocess, sys
from casinductor.plugin import register
register(); register()
if len(sys.argv) > 1:
    record = logging.LogRecord("torch.__trace", 10, "", 0, "", (), None)
    record.metadata = {"artifact": {"name": "fx_graph_cache_hit"}, "frame_id": 1}
    record.payload = json.dumps({"key": "fabc"})
    logging.getLogger("torch.__trace").handle(record)
else:
    for name in sys.argv[1:] or ("worker", "worker"):
        subprocess.run([sys.executable, __file__, name], check=True)
    os.makedirs(os.environ["CASINDUCTOR_LOCAL_DIR"] + "/ab", exist_ok=True)
    with open(os.environ["CASINDUCTOR_LOCAL_DIR"] + "/ab/cabc.py", "w") as file:
        file.write("# a module")
    print("DONE", os.environ.get("CASINDUCTOR_SPOOL", "none"), flush=True)
"""


@pytest.fixture
def start(fleet: Fleet, tmp_path: Path) -> Any:
    (tmp_path / "engine.py").write_text(textwrap.dedent(ENGINE))

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "CASINDUCTOR_STORE": str(fleet.store),
            "CASINDUCTOR_LOCAL_DIR": str(fleet.folder / "local/w"),
            "CASINDUCTOR_STATE_DIR": str(fleet.folder / "state"),
            "CASINDUCTOR_GPU_TYPE": "H100",
            **variables,
        }
        command = [sys.executable, str(tmp_path / "engine.py")]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=60
        )

    return run


def test_without_a_key_it_is_asleep(start: Any, fleet: Fleet) -> None:
    done = start()
    assert done.stdout == "DONE none\n"
    assert done.stderr == ""
    assert not fleet.store.exists()


def test_one_process_shares_and_all_are_heard(start: Any, fleet: Fleet) -> None:
    done = start(CASINDUCTOR_KEY="engine/v1")
    assert done.stderr.count("nothing stored yet") == 1, "the children restore nothing"
    assert "published 1 group" in done.stderr, "at its end, though nobody said so"
    assert "fxgraph 2 of 2 hit" in done.stderr
    folder = Path(done.stdout.split()[1])
    assert folder.parent == fleet.folder / "state/spools"
    assert not folder.exists(), "its owner has read it"
    assert len(fleet.files("warmups/**/*")) == 1


def test_a_store_that_cannot_be_had_stops_no_engine(start: Any) -> None:
    done = start(CASINDUCTOR_KEY="engine/v1", CASINDUCTOR_STORE="/dev/null/store")
    assert "DONE" in done.stdout
    assert "Traceback" not in done.stderr
    assert "cannot" in done.stderr


def test_no_trace_where_none_is_wanted(start: Any) -> None:
    done = start(CASINDUCTOR_KEY="engine/v1", CASINDUCTOR_TRACE="0")
    assert "2 of 2 hit" not in done.stderr


def test_the_engines_find_it() -> None:
    for group in ("vllm.general_plugins", "sglang.srt.plugins"):
        (found,) = (e for e in entry_points(group=group) if e.name == "casinductor")
        assert callable(found.load())


class TestSpool:
    def test_lines_are_whole_events(self, tmp_path: Path) -> None:
        box = Spool(str(tmp_path))
        box.write(Event("fxgraph", "hit", "k"))
        with (tmp_path / "7.events").open("wb") as file:
            file.write(b'{"cache": "fxgraph", "status": "miss"}\nnonsense\n{"torn')
        assert {e.status for e in box.events()} == {"hit", "miss"}
        box.introduce({"model": "a"})
        box.introduce({"model": "b"})
        (tmp_path / "0.engine").write_bytes(b"[]")
        assert box.engine() == {"model": "a"}
        box.remove()
        box.write(Event("fxgraph", "hit"))
        assert box.events() == []

    def test_a_forked_child_owns_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environ: dict[str, str] = {}
        old = tmp_path / "spools/old"
        old.mkdir(parents=True)
        os.utime(old, (1, 1))
        spool.begin(tmp_path, environ)
        try:
            assert environ[spool.VARIABLE] == OWN.spool.path  # type: ignore[union-attr]
            assert not old.exists()
            assert OWN.here
            Spool(environ[spool.VARIABLE]).write(Event("fxgraph", "hit"))
            assert OWN.bytes() > 0
            monkeypatch.setattr(os, "getpid", lambda: 1)
            assert not OWN.here
            assert (OWN.events(), OWN.engine(), OWN.bytes()) == ([], {}, 0)
            spool.end()
            assert Path(environ[spool.VARIABLE]).exists(), "it is the parent's"
        finally:
            monkeypatch.undo()
            spool.end()
        assert not OWN.here

    def test_nowhere_to_keep_it_is_no_fault(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for state in (None, tmp_path / "file"):
            environ: dict[str, str] = {}
            spool.begin(state, environ)
            assert not environ


class TestEngine:
    def test_what_its_configuration_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert engine.engine_facts() == {}
        module: Any = ModuleType("vllm")
        module.__version__ = "0.32.0"
        monkeypatch.setitem(sys.modules, "vllm", module)
        assert engine.engine_facts() == {}, "nobody has it"

        def compiles(vllm_config: object) -> dict[str, str]:
            assert vllm_config
            return engine.engine_facts()

        model = SimpleNamespace(model="/m", dtype="bf16", hf_token="secret")
        found = compiles(SimpleNamespace(model_config=model, parallel_config=None))
        assert found == {"model": "/m", "dtype": "bf16", "vllm": "0.32.0"}

    def test_what_differs_is_named(self) -> None:
        def report(**facts: str) -> WarmupReport:
            worker: dict[str, Any] = {"engine": facts} if facts else {}
            return WarmupReport("CPU/k", 0, 1.0, kernels_built=1, worker=worker)

        def record(**facts: str) -> Record:
            return Record(CacheId("CPU", "k"), "01", to_record(report(**facts)))

        earlier = [record(), record(model="a", dtype="x"), record(model="a", max_model_len="9")]
        (cause,) = engines._other_configuration(report(model="b", dtype="x"), earlier)
        assert cause.text == "vLLM: model: a -> b"
        assert engines._other_configuration(report(model="a", dtype="x"), earlier) == []
        assert engines._other_configuration(report(), earlier) == []

    def test_factors_of_the_key(self) -> None:
        before = {"env": {"A": 1, "B": None}, "config_hash": "x", "code_hash": "y"}
        now = {"env": {"A": 2, "B": None}, "config_hash": "z", "code_hash": "y"}
        said = engines._differences(before, now)
        assert said == ["A: 1 -> 2", "its configuration (model, limits, parallelism)"]
        assert engines._differences({"env": 3}, {"env": 4}) == []
        assert "and 2 more" in engines._listed([str(n) for n in range(8)])


def test_a_rest_is_said_once() -> None:
    rest = Rest(10, 300)
    assert not rest.reached((1,), 0)
    assert not rest.reached((1,), 200)
    assert rest.reached((1,), 300)
    assert not rest.reached((1,), 900)
    assert not rest.reached((2,), 901)
    assert not rest.reached((3,), 910)
    assert not rest.reached((3,), 919)
    assert rest.reached((3,), 920)
    assert not rest.reached((3,), 999)


def test_explain_names_what_split_the_fleet(fleet: Fleet, tmp_path: Path) -> None:
    """Two engines that differ in one variable, as their records and factors have it."""
    from msgspec.structs import replace

    from casinductor.cache import Cache
    from casinductor.inspect.explain import explain_run, last_run
    from casinductor.inspect.view import open_facts
    from casinductor.store.opening import with_store

    for name, value in (("one", 600), ("two", 1000)):
        root = tmp_path / name
        settings = replace(fleet.settings(name), families=("inductor", f"vllm={root}"))
        cache = Cache("m/v1", settings=settings)
        cache.restore()
        index = f"torch_compile_cache/{value:010x}/rank_0_0/backbone"
        factors = {"env": {"VLLM_TIMEOUT": value}, "config_hash": "same"}
        Tree(root).write(f"{index}/cache_key_factors.json", json.dumps(factors).encode())
        Tree(root / f"torch_compile_cache/torch_aot_compile/{value:064x}/inductor_cache").model(
            "ab"
        )
        assert cache.publish().manifest
        cache.sync()
    with open_facts(settings) as facts:
        found = with_store(
            settings, lambda store: explain_run(store, facts, *last_run(store, cache.id))
        )
    assert any("VLLM_TIMEOUT: 600 -> 1000" in cause.text for cause in found.causes)
    assert {"unrestored", "late"}.isdisjoint(cause.kind for cause in found.causes)
