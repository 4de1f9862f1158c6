"""Listening with the real torch: every event of its caches, and nothing rendered for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("real_torch"),
]
WORKER = Path(__file__).with_name("listening_worker.py")


def run(folder: Path, name: str, listening: bool, **environment: str) -> dict[str, Any]:
    result = subprocess.run(
        [sys.executable, str(WORKER), str(int(listening))],
        env={
            **os.environ,
            "CASINDUCTOR_STORE": str(folder / "store"),
            "CASINDUCTOR_LOCAL_DIR": str(folder / name),
            "CASINDUCTOR_STATE_DIR": str(folder / "state"),
            "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",
            "TORCHINDUCTOR_VEC_ISA_OK": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-5000:]
    said: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return said


def test_listening_makes_torch_render_nothing(tmp_path: Path) -> None:
    without = run(tmp_path, "one", listening=False)
    listened = run(tmp_path, "two", listening=True)
    assert listened["rendered"] == without["rendered"]
    assert not listened["handlers_to_strangers"]
    assert listened["left"] == without["left"]
    assert listened["graphs"] == without["graphs"]
    assert listened["graphs"]["fxgraph_miss"] == 2, "forward and backward"
    assert sorted(listened["events"]) == ["aotautograd_miss", "fxgraph_miss", "fxgraph_miss"]
    assert not without["events"]


def test_a_trace_that_the_user_asked_for_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "trace"
    listened = run(tmp_path, "one", listening=True, TORCH_TRACE=str(folder))
    assert listened["handlers_to_strangers"]
    assert len(listened["events"]) == 3
    (log,) = folder.iterdir()
    text = log.read_text()
    for name in ("dynamo_output_graph", "fx_graph_cache_miss", "inductor_output_code"):
        assert name in text
