"""Every file that torch writes has a place: a new torch may write a new file, which shows here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("real_torch"),
]
WORKER = Path(__file__).with_name("broad_worker.py")


def test_a_broad_set_of_graphs_leaves_no_unknown_file(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",
    }
    result = subprocess.run(
        [sys.executable, str(WORKER), str(tmp_path / "local")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-5000:]
    said = json.loads(result.stdout.splitlines()[-1])
    assert not said["unknown"], f"torch {said['torch']} writes files that no rule knows"
    assert len(said["compiled"]) >= 8, said["failed"]
    assert {"fxgraph", "aotautograd", "cpp", "module"} <= set(said["kinds"])
    if tuple(map(int, said["torch"].split(".")[:2])) >= (2, 14):
        assert said["marks"], "torch 2.14 marks each probe that it could load"
