"""A local directory is kept below its size, and nothing in use goes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.inductor.directory import walk
from casinductor.pruning import prune
from casinductor.util.roots import Roots
from tests.conftest import Fleet, Tree, content

HOUR = 3600


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours from now: what was written just now is no longer recent."""
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 2 * HOUR * 10**9)


@pytest.fixture
def tree(fleet: Fleet) -> Path:
    root = fleet.folder / "local/w"
    for number, name in enumerate(("ab", "cd", "ef")):
        Tree(root, seed=number).model(name)
    return root


def groups(root: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path, file in walk(Roots(str(root))).files.items():
        found.setdefault(file.place.group, set()).add(path)
    return found


def test_a_directory_that_fits_is_left_alone(tree: Path, later: None) -> None:
    before = content(tree)
    report = prune(str(tree), 10**9)
    assert (report.groups_removed, report.files) == (0, len(before))
    assert content(tree) == before


def test_what_is_recent_stays(tree: Path) -> None:
    before = content(tree)
    report = prune(str(tree), 0)
    assert (report.groups_removed, report.groups_in_use) == (0, len(groups(tree)))
    assert content(tree) == before


def test_a_dry_run_changes_nothing(tree: Path, later: None) -> None:
    before = content(tree)
    report = prune(str(tree), 0, apply=False)
    assert report.files_removed == len(before)
    assert content(tree) == before


@given(share=st.floats(0, 1))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_groups_go_whole_and_no_more_than_needed(fleet: Fleet, later: None, share: float) -> None:
    root = fleet.folder / f"local/{time.monotonic_ns()}"
    for number, name in enumerate(("ab", "cd", "ef")):
        Tree(root, seed=number).model(name)
    before = groups(root)
    whole = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    report = prune(str(root), int(share * whole))
    after = groups(root)
    assert all(after[name] == before[name] for name in after)
    left = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert left == report.bytes - report.bytes_removed
    assert left <= share * whole
    assert len(before) - len(after) == report.groups_removed
    assert not [path for path in root.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_what_a_process_has_mapped_or_open_stays(tree: Path, later: None) -> None:
    library = next(tree.rglob("*.so"))
    code = (
        "import mmap, sys\n"
        "file = open(sys.argv[1], 'rb')\n"
        "mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n"
        "file.close()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(library)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    report = prune(str(tree), 0)
    assert report.groups_in_use == 1
    assert library.exists()
    process.communicate("")
    assert prune(str(tree), 0).groups_in_use == 0
    assert not library.exists()


def test_a_restore_prunes_first(fleet: Fleet, tree: Path, later: None) -> None:
    fleet.cache("w").sync()
    chosen = replace(fleet.settings("w"), local_bytes=1)
    cache = Cache("model/v1", settings=chosen)
    report = cache.restore("all")
    assert any("removed 15 groups" in text for text in report.notes)
    assert len(content(tree)) == 24, "it is restored behind that"


def test_the_command(fleet: Fleet, tree: Path) -> None:
    command = [sys.executable, "-m", "casinductor", "prune", "--dir", str(tree)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert "CASINDUCTOR_LOCAL_BYTES" in said.stderr
    environment = {**os.environ, "CASINDUCTOR_LOCAL_BYTES": "1kB"}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "15 groups in use stayed" in said.stdout
