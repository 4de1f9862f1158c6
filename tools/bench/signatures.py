"""What verifying signatures costs a restore: a cache of 100 manifests, with keys and without.

Invariant: both restores read the same signed store, in turns, each into a directory and a catalog
of its own; nothing is deleted between them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.settings import Settings
from casinductor.store.format.frame import split
from casinductor.store.opening import settings_trust
from casinductor.trust.pair import new_pair

MANIFESTS = 100
#: Files of 20 kB that each manifest brings.
_FILES = 20
COLUMNS = ["what", "median"]


def rows(folder: Path, runs: int) -> list[list[str]]:
    """Build the store, then time ``runs`` pairs of restores."""
    folder.mkdir(parents=True)
    pair = new_pair(str(folder / "key"), "ed25519", "bench", ())
    base = Settings(store=str(folder / "store"), gpu_type="H100", compact_after=0)
    _fill(folder, replace(base, signing_key=pair.private))
    with_keys, without, loading = [], [], []
    for number in range(runs):
        settings = replace(base, trusted_keys=pair.public)
        start = time.perf_counter()
        settings_trust(settings)
        loading.append(time.perf_counter() - start)
        with_keys.append(_restore(folder, f"with-{number}", settings))
        without.append(_restore(folder, f"without-{number}", base))
    verifying = [_verify(settings) for _ in range(runs)]
    more = statistics.median(a - b for a, b in zip(with_keys, without, strict=True))
    return [
        [f"restore of {MANIFESTS} manifests, no keys", _ms(without)],
        ["the same, keys set", _ms(with_keys)],
        ["difference (median of pairs)", f"{more * 1000:.1f} ms"],
        [f"verifying {MANIFESTS} signatures alone", _ms(verifying)],
        ["importing the library, once in a process", f"{_importing():.0f} ms"],
        ["loading the keys", _ms(loading)],
    ]


def _fill(folder: Path, settings: Settings) -> None:
    """Many workers, each of which compiled another graph."""
    for number in range(MANIFESTS):
        local = folder / f"made-{number}"
        for part in range(_FILES):
            stem = f"c{number:03d}{part:03d}".translate(str.maketrans("0189", "abcd")) + "x" * 45
            path = local / stem[1:3] / f"{stem}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(20_000))
        own = replace(settings, local_dir=local, state_dir=folder / "state" / f"made-{number}")
        Cache("bench/v1", settings=own).sync()


def _restore(folder: Path, name: str, settings: Settings) -> float:
    own = replace(settings, local_dir=folder / name, state_dir=folder / "state" / name)
    start = time.perf_counter()
    report = Cache("bench/v1", settings=own).restore("all")
    took = time.perf_counter() - start
    if report.files_written != MANIFESTS * _FILES:
        raise RuntimeError(f"restored {report.summary()}")
    return took


def _verify(settings: Settings) -> float:
    """Seconds to verify all manifests of the store, read before."""
    trust, store = settings_trust(settings), Path(settings.store)
    read = [
        (str(path.relative_to(store)), *split(path.read_bytes()))
        for path in store.glob("manifests/**/*.manifest")
    ]
    start = time.perf_counter()
    for name, data, envelope in read:
        trust.admit("H100/bench/v1", name, data, envelope)
    return time.perf_counter() - start


def _importing() -> float:
    """Milliseconds to import what verifies, in a process that has imported casinductor."""
    code = (
        "import time, casinductor.cache, casinductor.trust.keys as k; a = time.perf_counter();"
        "k.sslib(); import securesystemslib.dsse; print(time.perf_counter() - a)"
    )
    command = [sys.executable, "-c", code]
    told = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(5)]
    return statistics.median(float(done.stdout) * 1000 for done in told)


def _ms(values: list[float]) -> str:
    return f"{statistics.median(values) * 1000:.1f} ms"
