"""Memory and time of large caches: 500 to 50,000 files, and one of 2 GB.

Invariant: each verb runs in a process of its own, whose peak resident memory is the kernel's figure
(``VmHWM``; ``ru_maxrss`` would begin with the parent's); the trees are real ones repeated with
changes, so that little deduplicates.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from casinductor.util.mounts import filesystem_type
from tools.bench.measure import files_below, megabytes, set_aside
from tools.bench.peer import Fal

LARGE_COLUMNS = ["what", "median", "least", "most", "of writing", "peak memory"]

_VERB = """
import json, re, sys, time
from pathlib import Path
from casinductor.cache import Cache
from casinductor.settings import Settings
verb, store, local, state = sys.argv[1:5]
cache = Cache("large", settings=Settings(store=store, local_dir=Path(local), gpu_type="H100",
              state_dir=Path(state), restore_deadline=3600, sync_deadline=3600))
status = Path("/proc/self/status").read_text
start = time.perf_counter()
report = cache.sync() if verb == "sync" else cache.restore(verb)
print(json.dumps({"seconds": time.perf_counter() - start,
                  "rss": int(re.search(r"VmHWM:\\s*(\\d+)", status())[1]) * 1024}))
"""


def repeat(tree: Path, target: Path, *, files: int = 0, size: int = 0) -> None:
    """Copies of ``tree`` until there are so many files or bytes; each file changed a little.

    Names get the copy's number in place of their last letters, contents a run of it every 4 KiB.
    """
    sources = [
        (path.relative_to(tree), path.read_bytes(), path.stat().st_mode)
        for path in sorted(tree.rglob("*"))
        if path.is_file() and path.stat().st_size
    ]
    made, written, copy = 0, 0, 0
    while (files and made < files) or (size and written < size):
        mark = f"{copy:04d}".translate(str.maketrans("0123456789", "abcdefghij"))
        for relative, data, mode in sources:
            if (files and made >= files) or (size and written >= size):
                break
            path = target / _renamed(relative, mark)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_changed(data, mark) if copy else data)
            path.chmod(mode)
            made, written = made + 1, written + len(data)
        copy += 1


def _renamed(path: Path, mark: str) -> Path:
    parts = list(path.parts)
    if parts[0] == "triton":
        parts[2] = parts[2][:-4] + mark.upper()
    elif parts[0] in ("fxgraph", "aotautograd"):
        parts[-2] = parts[-2][:-4] + mark
        parts[-1] = parts[-1][:-4] + mark
    else:
        stem, dot, suffix = parts[-1].partition(".")
        parts[-1] = stem[:-4] + mark + dot + suffix
    return Path(*parts)


def _changed(data: bytes, mark: str) -> bytes:
    """Change bytes inside payloads only: entries stay whole pickles, group files whole JSON."""
    if len(data) < 2000 or data[:1] == b"{":
        return data
    changed = bytearray(data)
    for at in range(1500, len(data) - 500, 4096):
        window = changed[at : at + 400]
        spot = window.find(b"mov")  # PTX and sources are full of it; cubins change nowhere
        if spot >= 0:
            changed[at + spot : at + spot + 3] = mark[1:].encode()
    return bytes(changed)


def measured(verb: str, store: Path, local: Path, state: Path) -> dict[str, float]:
    return _told(_VERB, verb, store, local, state)


def _told(script: str, *arguments: object) -> dict[str, float]:
    """What a script, in a process of its own, tells in JSON."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return dict(json.loads(result.stdout))


def rows(tree: Path, folder: Path, counts: list[int], size: int) -> list[list[str]]:
    """A row for each number of files, and one for the cache of ``size`` bytes."""
    found = []
    for name, files, limit in [*((f"{n:,} files", n, 0) for n in counts), ("2 GB", 0, size)]:
        place = folder / name.replace(",", "").replace(" ", "-")
        local = place / "local"
        repeat(tree, local, files=files, size=limit)
        raw = sum(path.stat().st_size for path in local.rglob("*") if path.is_file())
        sync = measured("sync", place / "store", local, place / "state")
        row = [name, f"{files_below(local):,}", megabytes(raw)]
        row += [f"{sync['seconds']:.2f} s", megabytes(int(sync["rss"]))]
        for mode in ("needed", "all"):
            restore = measured(mode, place / "store", place / mode, place / f"state-{mode}")
            row += [f"{restore['seconds']:.2f} s", megabytes(int(restore["rss"]))]
        found.append(row)
        subprocess.run(["rm", "-rf", str(place)], check=True)
    return found


_WRITE = """
import json, os, sys, time
from pathlib import Path
source, target = map(Path, sys.argv[1:])
made = [(str(p.relative_to(source)), p.read_bytes()) for p in source.rglob("*") if p.is_file()
        and ".casinductor" not in p.parts]
start = time.perf_counter()
folders = set()
for name, data in made:
    path = f"{target}/{name}"
    folder = os.path.dirname(path)
    if folder not in folders:
        os.makedirs(folder, exist_ok=True)
        folders.add(folder)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(descriptor, data)
    os.close(descriptor)
print(json.dumps({"seconds": time.perf_counter() - start}))
"""
_UNPACK = """
import json, sys, time
from pathlib import Path
from tools.bench.peer import Fal
fal = Fal(Path(sys.argv[1]))
start = time.perf_counter()
fal.load("large", Path(sys.argv[2]))
print(json.dumps({"seconds": time.perf_counter() - start}))
"""


def large_restore(tree: Path, folder: Path, size: int, rounds: int) -> list[list[str]]:
    """A cache of ``size`` bytes restored in turns with fal's zip, and with writing the same files
    from memory and nothing else, each in a process of its own.
    """
    local, store = folder / "local", folder / "store"
    repeat(tree, local, size=size)
    measured("sync", store, local, folder / "state")
    Fal(folder / "peer").sync("large", local)
    peaks: dict[str, float] = {}

    def restored(verb: str, place: Path) -> float:
        told = measured(verb, store, place / verb, place / f"state-{verb}")
        peaks[f"casinductor, `{verb}`"] = told["rss"]
        return told["seconds"]

    def copied(place: Path) -> float:
        start = time.perf_counter()
        shutil.copytree(local, place / "copy", copy_function=shutil.copyfile)
        return time.perf_counter() - start

    ways: list[tuple[str, Callable[[Path], float]]] = [
        ("casinductor, `needed`", partial(restored, "needed")),
        ("casinductor, `all`", partial(restored, "all")),
        ("fal's zip", lambda place: _told(_UNPACK, folder / "peer", place / "zip")["seconds"]),
        ("writing the files", lambda place: _told(_WRITE, local, place / "written")["seconds"]),
        ("`shutil.copytree`", copied),
    ]
    seconds: dict[str, list[float]] = {what: [] for what, _ in ways}
    for number in range(rounds + 1):
        place = folder / f"round{number}"
        place.mkdir()
        turned = number % len(ways)  # whoever comes first meets other memory than who comes last
        for what, way in ways[turned:] + ways[:turned]:
            seconds[what].append(way(place))
        if filesystem_type(str(place)) == "tmpfs":
            shutil.rmtree(place)  # it is memory, and deletions cost the next run nothing there
        else:
            set_aside(place)
    writing = statistics.median(seconds["writing the files"][1:])
    rows = []
    for what, every in seconds.items():
        kept = every[1:]
        middle = statistics.median(kept)
        peak = megabytes(int(peaks[what])) if what in peaks else ""
        spread = [f"{min(kept):.2f} s", f"{max(kept):.2f} s"]
        rows.append([what, f"{middle:.2f} s", *spread, f"{middle / writing:.1f}", peak])
    return rows
