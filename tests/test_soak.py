"""The long runs of ``tools/soak``: a short form in the suite, the whole behind ``-m soak``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.soak import collection, databases, kills, race

ROOT = Path(__file__).resolve().parents[1]


def nothing_lost(figures: dict[str, Any]) -> None:
    assert figures["lost_files"] == figures["lost_files_after_gc"] == 0
    assert figures["bad_restores"] == figures["crashed_processes"] == 0
    assert figures["restores"] > 0
    assert figures["collections"] > 0


@pytest.mark.parametrize("caches", [1, 4])
def test_a_race_of_processes(tmp_path: Path, caches: int) -> None:
    figures = race.run(48, 12, caches, tmp_path / "race")
    assert figures["acknowledged_syncs"] > 0
    nothing_lost(figures)


def test_a_race_of_slow_syncs(tmp_path: Path) -> None:
    """Collectors that spare nothing may make every sync give up, which is not to lose anything."""
    figures = race.run(24, 8, 4, tmp_path / "race", slow=0.4)
    assert figures["acknowledged_syncs"] + figures["failed_syncs"] == 24
    nothing_lost(figures)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_long_race_of_slow_syncs(tmp_path: Path) -> None:
    figures = race.run(600, 10, 4, tmp_path / "race", slow=1.0)
    print(figures)
    assert figures["acknowledged_syncs"] > 100
    nothing_lost(figures)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("caches", [1, 50])
def test_a_thousand_syncs(tmp_path: Path, caches: int) -> None:
    figures = race.run(1000, 64, caches, tmp_path / "race")
    print(figures)
    assert figures["acknowledged_syncs"] == 1000
    nothing_lost(figures)


def settled(figures: dict[str, Any]) -> None:
    assert figures["lost_files"] == figures["unneeded_packs"] == figures["tombstones"] == 0
    assert figures["manifests"] == 1
    assert figures["acknowledged_files"] > 0


def test_some_kills(tmp_path: Path) -> None:
    settled(kills.run(16, tmp_path))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_five_hundred_kills(tmp_path: Path) -> None:
    figures = kills.run(500, tmp_path, seed=1)
    print(figures)
    settled(figures)


def test_a_large_collection_is_exact(tmp_path: Path) -> None:
    collection.fill(tmp_path, 2000, 40)
    figures = collection.measure(tmp_path)
    assert figures["packs_removed"] == 10
    assert len(list(tmp_path.glob("packs/*/*.pack"))) == 30


def interpreters() -> list[str]:
    """This one, and those that ``CASINDUCTOR_SOAK_PYTHONS`` names, each with a torch of its own."""
    named = os.environ.get("CASINDUCTOR_SOAK_PYTHONS", "")
    return [sys.executable, *filter(None, named.split(os.pathsep))]


@pytest.mark.soak
@pytest.mark.torch
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("python", interpreters())
def test_every_operator_and_module_of_torch(tmp_path: Path, python: str) -> None:
    figures = databases.Runs(tmp_path, python).all()
    print({name: start["counters"] for name, start in figures.items()})
    assert not databases.problems(figures)
    assert len(figures["cold"]["outputs"]) > 600, figures["cold"]["failed"]


def test_the_tools_say_how_they_are_used() -> None:
    for tool in ("race", "kills", "collection", "databases"):
        command = [sys.executable, "-m", f"tools.soak.{tool}", "--help"]
        assert b"--dir" in subprocess.run(command, check=True, capture_output=True, cwd=ROOT).stdout
