"""Timing in turns, counting bytes and files, and printing tables.

Invariant: a figure is the median of its runs; a ratio is the median of the ratios of pairs that ran
one after the other, so that drift of the machine cancels.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Pair:
    """Seconds of ours and theirs, run by run."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> float:
        """How many times as fast ours is."""
        return statistics.median(b / a for a, b in zip(self.ours, self.theirs, strict=True))


def in_turns(ours: Callable[[int], object], theirs: Callable[[int], object], runs: int) -> Pair:
    """Time both, A B A B; each gets the number of the run. One pair is thrown away first."""
    pair = Pair([], [])
    for number in range(runs + 1):
        for function, times in ((ours, pair.ours), (theirs, pair.theirs)):
            start = time.perf_counter()
            function(number)
            times.append(time.perf_counter() - start)
    return Pair(pair.ours[1:], pair.theirs[1:])


def set_aside(path: Path) -> None:
    """Move a folder away, to be deleted with everything else at the end: ext4 looks past inodes
    that were deleted a moment ago, so whoever creates files next would be measured with it.
    """
    aside = path.parent / "aside"
    aside.mkdir(exist_ok=True)
    path.rename(aside / f"{len(list(aside.iterdir()))}")


def files_below(folder: Path) -> int:
    return sum(
        1 for path in folder.rglob("*") if path.is_file() and ".casinductor" not in path.parts
    )


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print one Markdown table."""
    print(f"\n**{title}**\n")
    print("| " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * (len(columns) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def milliseconds(times: list[float]) -> str:
    return f"{statistics.median(times) * 1000:.1f} ms"


def megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB"


def machine() -> str:
    """The machine in words."""
    model = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB of memory, "
        f"Python {platform.python_version()}, {platform.system()} {platform.release()}"
    )
