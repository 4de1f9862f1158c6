"""Whole starts of a worker, in turns: what it waits for until its first answer.

On the CPU by default; the models ``unet`` and ``unet-dynamic`` need a GPU, or a driver that stands
in for one, and the package diffusers.

Invariant: every start is a fresh process with a fresh local directory; nothing is deleted before
the last one, as ext4 creates files fifteen times slower for a minute after a deletion.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_ALL, _DEAF = {"CASINDUCTOR_RESTORE": "all"}, {"CASINDUCTOR_TRACE": "0"}
#: The ways to start: what tables call them, who loads, and the variables that make them; the first
#: one finds everything in place.
WAYS: dict[str, tuple[str, str, dict[str, str]]] = {
    "floor": ("directory full", "none", {}),
    "needed": ("`needed`", "casinductor", {}),
    "needed-deaf": ("`needed`, not listening", "casinductor", _DEAF),
    "all": ("`all`", "casinductor", _ALL),
    "all-deaf": ("`all`, not listening", "casinductor", {**_ALL, **_DEAF}),
    "zip": ("fal's zip", "zip", {}),
}
MODELS = ("graph", "blocks", "training", "convolutions")
ALL_MODELS = (*MODELS, "unet", "unet-dynamic")
COLUMNS = [
    "start",
    "load",
    "first call",
    "load + first call",
    "processor",
    "of the floor",
    "second call",
    "sync",
]
_FLOOR = "floor"
_WAITED = ("load", "first call")


@dataclass
class Start:
    """Seconds of one start by step."""

    wall: dict[str, float]
    processor: dict[str, float]

    @property
    def waited(self) -> float:
        return sum(self.wall[step] for step in _WAITED)

    @property
    def worked(self) -> float:
        return sum(self.processor[step] for step in _WAITED)


@dataclass
class Model:
    """The starts of one model below ``folder``, by an interpreter that has torch and us.

    ``beside``: modules that it imports beside torch.
    """

    name: str
    folder: Path
    python: str = sys.executable
    beside: tuple[str, ...] = ()
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def prepare(self) -> Start:
        """A cold start, whose cache both stores get; the floor's directory is left behind."""
        cold = self.start("none", {}, self.folder / "floor")
        self.start("none", {}, self.folder / "floor")  # what a second start adds
        for way in ("casinductor", "zip"):
            seed = self.folder / f"seed-{way}"
            shutil.copytree(self.folder / "floor", seed)
            self.start(way, {"CASINDUCTOR_RESTORE": "all"}, seed)
            self.start(way, {"CASINDUCTOR_RESTORE": "all"}, self.fresh())
        return cold

    def fresh(self) -> Path:
        return self.folder / f"local-{next(self._number)}"

    def start(self, way: str, more: dict[str, str], local: Path) -> Start:
        environment = {
            **os.environ,
            "TORCHINDUCTOR_CACHE_DIR": str(local),
            "CASINDUCTOR_LOCAL_DIR": str(local),
            "CASINDUCTOR_STORE": str(self.folder / "store"),
            "CASINDUCTOR_STATE_DIR": str(self.folder / "state"),
            "CASINDUCTOR_FAMILIES": "inductor",
            "CASINDUCTOR_LOG": "quiet",
            "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",
            "PYTHONPATH": f"{Path(__file__).parents[2]}:{os.environ.get('PYTHONPATH', '')}",
            **more,
        }
        # An installed package has its bytecode; a checkout has it from the second start on.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [self.python, "-m", "tools.bench.ready_worker", way, self.name, str(self.folder)]
        command += self.beside
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            if line.startswith("READY "):
                told = json.loads(line.removeprefix("READY "))
                return Start(told["wall"], told["processor"])
        raise RuntimeError(f"{way} {self.name}: {done.stderr[-2000:]}")


def rows(model: Model, rounds: int, chosen: Sequence[str] = ()) -> list[list[str]]:
    """One row for each way, or for the floor and those ``chosen``, of ``rounds`` starts in turns.

    Ratios are medians of pairs.
    """
    cold = model.prepare()
    ways = {way: known for way, known in WAYS.items() if way in (_FLOOR, *(chosen or WAYS))}
    starts: dict[str, list[Start]] = {way: [] for way in ways}
    for _ in range(rounds):
        for name, (_, way, more) in ways.items():
            local = model.folder / "floor" if name == _FLOOR else model.fresh()
            starts[name].append(model.start(way, more, local))
    found = [["cold", "", *_seconds([cold.wall["first call"]]), "", "", "", "", ""][:8]]
    for name, those in starts.items():
        ratio = statistics.median(
            start.waited / floor.waited for start, floor in zip(those, starts[_FLOOR], strict=True)
        )
        found.append(
            [
                WAYS[name][0],
                *_seconds([start.wall["load"] for start in those], 3),
                *_seconds([start.wall["first call"] for start in those]),
                _spread([start.waited for start in those]),
                *_seconds([start.worked for start in those]),
                f"{ratio:.2f}",
                *_seconds([start.wall["second call"] for start in those]),
                *_seconds([start.wall["sync"] for start in those]),
            ]
        )
    return found


def _seconds(values: list[float], digits: int = 2) -> list[str]:
    return [f"{statistics.median(values):.{digits}f} s"]


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} s ({min(values):.2f}-{max(values):.2f})"
