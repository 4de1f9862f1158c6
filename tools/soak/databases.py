"""Every operator and module of torch's own test databases: cold, warm, and restored from a store.

python -m tools.soak.databases --dir DIR [--python PYTHON] [--limit N] [--device cuda]

Invariant: a worker that restored gets exactly the hits of one whose directory was full all along,
and equal outputs; no file is of a kind that casinductor does not know. Else ends with status 1.
The interpreter needs torch, casinductor and what ``torch.testing`` imports (numpy, expecttest).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Compiled in one process, so that a fault of torch that kills it costs one chunk.
_CHUNK = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--limit", type=int, help="of operators and of modules")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--beside", action="append", default=[], help="import it beside torch")
    parser.add_argument(
        "--blind", action="store_true", help="compare no outputs: a driver that computes nothing"
    )
    options = parser.parse_args()
    runs = Runs(options.dir, options.python, options.limit, options.device, options.beside)
    figures = runs.all()
    found = problems(figures, blind=options.blind)
    print(json.dumps(figures, indent=1))
    print(*found, sep="\n", file=sys.stderr)
    sys.exit(bool(found))


def problems(figures: dict[str, Any], *, blind: bool = False) -> list[str]:
    """What does not hold, in sentences; ``blind``: outputs mean nothing."""
    cold, full, restored = figures["cold"], figures["full"], figures["restored"]
    found = [f"{name} is of no known kind" for name in cold["unknown"] + restored["unknown"]]
    if restored["counters"] != full["counters"]:
        found.append(f"counters differ: {full['counters']} full, {restored['counters']} restored")
    for name, digest in full["outputs"].items():
        if name not in restored["outputs"] or (restored["outputs"][name] != digest and not blind):
            found.append(f"{name} computes something else once restored")
    return found


@dataclass
class Runs:
    """Everything compiled three times below ``folder``, in fresh processes of ``python``: at most
    ``limit`` of each database, on a ``device``, with modules imported ``beside`` torch.
    """

    folder: Path
    python: str = sys.executable
    limit: int | None = None
    device: str = "cpu"
    beside: Sequence[str] = ()

    def all(self) -> dict[str, Any]:
        """The figures of each start."""
        local = self.folder / "local"
        cold = self._start("cold")
        full = self._start("full")
        local.rename(self.folder / "aside")  # deleting would slow what creates files next
        restored = self._start("restored")
        return {"cold": cold, "full": full, "restored": restored}

    def _start(self, name: str) -> dict[str, Any]:
        """One start: a process for each chunk of the databases."""
        parts: list[dict[str, Any]] = []
        limit = self.limit
        for database in ("operators", "modules"):
            first, count = 0, 1
            while first < min(count, limit or count):
                last = min(first + _CHUNK, limit or first + _CHUNK)
                said = self._work(name, database, first, last)
                count = said.get("count", first + _CHUNK + 1)
                parts.append(said)
                first = last
        return _joined(parts)

    def _work(self, name: str, database: str, first: int, last: int) -> dict[str, Any]:
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
            "PYTHONHASHSEED": "0",
            "CASINDUCTOR_STORE": str(self.folder / "store"),
            "CASINDUCTOR_LOCAL_DIR": str(self.folder / "local"),
            "CASINDUCTOR_STATE_DIR": str(self.folder / f"state-{name}"),
        }
        command = [self.python, "-m", "tools.soak.databases_worker", database]
        command += [str(first), str(last), self.device, *self.beside]
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        for line in reversed(done.stdout.splitlines()):
            if line.startswith("{"):
                said: dict[str, Any] = json.loads(line)
                return said
        if last - first == 1:
            return {"failed": {f"{database} {first}": done.stderr[-300:]}}
        middle = (first + last) // 2  # what killed the process costs itself alone
        halves = [self._work(name, database, *half) for half in ((first, middle), (middle, last))]
        count = max(half.get("count", 0) for half in halves)
        return {**_joined(halves), "count": count}


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    joined: dict[str, Any] = {"outputs": {}, "failed": {}, "counters": {}, "unknown": []}
    for part in parts:
        joined["outputs"].update(part.get("outputs", {}))
        joined["failed"].update(part.get("failed", {}))
        joined["unknown"] = part.get("unknown", joined["unknown"])
        for key, value in part.get("counters", {}).items():
            joined["counters"][key] = joined["counters"].get(key, 0) + value
    return joined


if __name__ == "__main__":
    main()
