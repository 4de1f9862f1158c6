"""What doctor says of a start that is longer than it must be."""

from __future__ import annotations

import compileall
import sys
from pathlib import Path

import pytest

from casinductor.inspect import startcheck


def test_a_package_without_bytecode_is_advised_until_it_has_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "slowly"
    folder.mkdir()
    (folder / "__init__.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = startcheck._bytecode("slowly")
    assert found.status == "advice"
    assert str(folder) in found.advice
    compileall.compile_dir(folder, quiet=1)
    assert startcheck._bytecode("slowly").status == "ok"


def test_a_package_that_is_not_there() -> None:
    assert startcheck._bytecode("no_such_package").status == "ok"


def test_compile_workers() -> None:
    assert startcheck.check_start({})[2].status == "advice"
    assert startcheck.check_start({"TORCHINDUCTOR_COMPILE_THREADS": "1"})[2].status == "ok"


def names(**environ: str) -> set[str]:
    return {check.name for check in startcheck.check_start(environ) if check.status == "advice"}


def test_what_is_done_again_although_it_is_cached() -> None:
    plain = names()
    assert names(TORCHINDUCTOR_COORDINATE_DESCENT_TUNING="1") - plain == {"tuning"}
    assert names(WORLD_SIZE="8") - plain == {"ranks"}
    assert names(WORLD_SIZE="1") == plain
    assert names(WORLD_SIZE="8", TORCH_DISTRIBUTED_COMPILE_ON_ONE_RANK="1") == plain


def test_directories_that_change_from_job_to_job() -> None:
    plain = names()
    moved = {"TMPDIR": "/scratch/job.7/", "TRITON_CACHE_DIR": "/scratch/job.7/triton"}
    assert names(**moved) - plain == {"TMPDIR"}
    assert names(**{**moved, "TRITON_CACHE_DIR": "/home/me/triton"}) == plain
    assert names(TMPDIR="/tmp", TRITON_CACHE_DIR="/tmp/triton") == plain
