"""A store as fleets leave it: real shapes without torch, and commands in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from casinductor.cli.main import cli
from casinductor.reports.warmup import Happened, Rebuilt, WarmupReport, to_record
from casinductor.store.format.names import CacheId
from casinductor.store.write.journal import note_warmup
from tests.conftest import Fleet, Tree

Command = Callable[..., Any]

GM = "GraphModule()\ndef forward(self, x):\n    mm = torch.ops.aten.mm.default(x, x)\n    return mm"
SOURCE = "cpp_fused_cos_0 = async_compile.cpp_pybinding(['float*'], r'''\n// ab\n''')\n"


def components(**changes: str) -> dict[str, str]:
    """The components of one graph's key; names as keywords, with ``__`` for a bracket."""
    base = {
        "gm": GM,
        "example_inputs[0]": "TensorMetadata(dtype=torch.float32, shape=torch.Size([3, 16]), "
        "stride=(16, 1), device=device(type='cpu'))",
        "inductor_config[epilogue_fusion]": "True",
        "torch_version": "one",
    }
    return {**base, **changes}


@pytest.fixture
def run(fleet: Fleet) -> Command:
    """Run a command in this process; returns its JSON, or the result with ``raw=True``."""

    def command(*arguments: object, raw: bool = False, status: int = 0) -> Any:
        given = ["--store", str(fleet.store), "--gpu", "H100"]
        given += [] if raw else ["--json"]
        runner = CliRunner(env={"CASINDUCTOR_STATE_DIR": str(fleet.folder / "state/cli")})
        result = runner.invoke(cli, [*given, *map(str, arguments)], catch_exceptions=True)
        if status == 0 and result.exception:
            raise result.exception
        assert result.exit_code == status, result.output
        return result if raw or status else json.loads(result.stdout)

    return command


@pytest.fixture
def store(fleet: Fleet) -> Fleet:
    """Two workers' syncs of one cache: the second one changed a setting."""
    one = Tree(fleet.folder / "local/one", 1)
    one.graph("ab", components=components(), source=SOURCE, time_ns=3_000_000_000)
    one.kernel("ab")
    one.triton("cd")
    one.tuning("ef")
    fleet.cache("one").sync()
    two = Tree(fleet.folder / "local/two", 2)
    changed = components(**{"inductor_config[epilogue_fusion]": "False"})
    two.graph("gh", components=changed, guards="s0 < 64", time_ns=9_000_000_000)
    two.kernel("gh")
    fleet.cache("two").sync()
    return fleet


def note(fleet: Fleet, cache: CacheId, report: WarmupReport) -> str:
    """Keep a warm-up as a worker does."""
    from casinductor.store.opening import with_store

    fields = to_record(report)
    return with_store(
        fleet.settings("w"), lambda opened: note_warmup(opened.backend, cache, fields)
    )


def warmup(cache: str, **fields: Any) -> WarmupReport:
    """A warm-up in which one graph hit, one missed and one kernel was rebuilt."""
    given: dict[str, Any] = {
        "started_ms": 1_800_000_000_000,
        "graphs": {"fxgraph_hit": 1, "fxgraph_miss": 1},
        "happened": [
            Happened("fxgraph", "hit", "f" + "ab" * 25 + "a"),
            Happened("fxgraph", "miss", "f" + "gh" * 25 + "g"),
        ],
        "rebuilt": [Rebuilt("ba/x.main.so", "cpp", "torch lies elsewhere", "moved torch")],
        "kernels_built": 1,
        "files_restored": 3,
        "files_used": 2,
        "saved_seconds": 3.0,
        "spent_seconds": 9.0,
        "worker": {"host": "worker-1", "fingerprint": {}},
    }
    return WarmupReport(cache, **{**given, **fields})


def text_of(path: Path) -> str:
    return path.read_text("utf-8")
