"""Looking inside: reading entries, tables of a large cache, and what listening to torch costs.

Invariant: every command is timed as a process of its own, in turns where two are compared.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from casinductor.inductor.description import describe
from casinductor.inductor.entries import read_entry
from tools.bench.measure import Pair, in_turns, milliseconds

_ARTIFACTS = 5_000
_KINDS = ("fxgraph", "aotautograd")

_WARM_START = """
import os, sys, time
from casinductor import Cache
cache = Cache(sys.argv[1])
os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.root
cache.restore()
import torch
torch.manual_seed(0)
layers = []
for n in range(12):
    layers += [torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.LayerNorm(64)]
model = torch.compile(torch.nn.Sequential(*layers))
start = time.perf_counter()
model(torch.randn(8, 64)).softmax(-1).square().sum().backward()
first = time.perf_counter() - start
start = time.perf_counter()
report = cache.sync()
print(first, time.perf_counter() - start, report.warmup.count("hit"))
"""


def parsing(trees: list[Path], runs: int) -> list[list[str]]:
    """Reading entries as a sync does, and describing them as inspection does: MB/s."""
    rows = []
    for tree in trees:
        entries = [
            (kind, path.parent.name, path.read_bytes())
            for kind in _KINDS
            for path in sorted((tree / kind).rglob("*"))
            if path.is_file()
        ]
        size = sum(len(data) for _, _, data in entries)
        speeds = []
        for function in (read_entry, describe):
            times = []
            for _ in range(runs):
                start = time.perf_counter()
                for kind, key, data in entries:
                    function(kind, key, data)
                times.append(time.perf_counter() - start)
            speeds.append(f"{size / statistics.median(times) / 1e6:.0f} MB/s")
        rows.append([tree.name, f"{len(entries)}", f"{size / 1e6:.1f} MB", *speeds])
    return rows


def commands(trees: list[Path], folder: Path, runs: int) -> list[list[str]]:
    """Commands on one cache of at least 5,000 artifacts, first and again."""
    environment = {**os.environ, "CASINDUCTOR_STATE_DIR": str(folder / "state")}
    base = [sys.executable, "-m", "casinductor", "--store", str(folder / "store"), "--gpu", "H100"]
    for tree in trees:
        push = [*base, "--quiet", "push", "all", "--keep-equivalent", "--from", str(tree)]
        subprocess.run(push, check=True, env=environment)
    top_up(folder / "more")
    push = [*base, "--quiet", "push", "all", "--from", str(folder / "more")]
    subprocess.run(push, check=True, env=environment)

    def timed(*command: str) -> float:
        start = time.perf_counter()
        subprocess.run([*base, *command], check=True, env=environment, capture_output=True)
        return time.perf_counter() - start

    rows = []
    for command in (
        ("stats", "all"),
        ("inspect", "all"),
        ("kernels", "all"),
        ("diff", "all", "all"),
        ("catalog", "-o", str(folder / "c.db")),
        ("report", "all", "-o", str(folder / "r.html")),
    ):
        first = timed(*command)
        again = [timed(*command) for _ in range(runs)]
        rows.append([command[0], f"{first * 1000:.0f} ms", milliseconds(again)])
    return rows


def top_up(folder: Path) -> None:
    """Modules, so that the cache has 5,000 artifacts."""
    for number in range(400):
        stem = f"c{number:051d}".translate(str.maketrans("0189", "abcd"))
        path = folder / stem[1:3] / f"{stem}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {number}\n")


def listening(folder: Path, runs: int) -> list[list[str]]:
    """The first call and the sync of a warm start, with and without listening to torch's trace."""
    environment = {
        **os.environ,
        "CASINDUCTOR_STORE": str(folder / "store"),
        "CASINDUCTOR_LOCAL_DIR": str(folder / "local"),
        "CASINDUCTOR_STATE_DIR": str(folder / "state"),
        "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",
        "TORCHINDUCTOR_VEC_ISA_OK": "1",
        "OMP_NUM_THREADS": "1",
    }
    firsts, syncs = Pair([], []), Pair([], [])

    def start(switch: str, first: list[float], sync: list[float]) -> None:
        result = subprocess.run(
            [sys.executable, "-c", _WARM_START, "bench"],
            env={**environment, "CASINDUCTOR_TRACE": switch, "CASINDUCTOR_WARMUPS": switch},
            check=True,
            capture_output=True,
            text=True,
        )
        told = result.stdout.split()
        first.append(float(told[0]))
        sync.append(float(told[1]))

    start("1", [], [])
    in_turns(
        lambda _: start("0", firsts.ours, syncs.ours),
        lambda _: start("1", firsts.theirs, syncs.theirs),
        runs,
    )
    return [
        [name, milliseconds(pair.ours), milliseconds(pair.theirs), f"{pair.ratio:.2f}"]
        for name, pair in (("first call", firsts), ("sync", syncs))
    ]
