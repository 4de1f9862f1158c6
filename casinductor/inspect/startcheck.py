"""What makes a warm start longer than it must be, for ``casinductor doctor``.

Invariant: torch is found, never imported; every advice is one that ``docs/warm-start.md`` measured,
or that an issue of torch's own names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import cache_from_source, find_spec

from casinductor.inspect.checkup import Checkup, ok

_ONE_RANK = "TORCH_DISTRIBUTED_COMPILE_ON_ONE_RANK"
_THREADS = "TORCHINDUCTOR_COMPILE_THREADS"


def check_start(environ: Mapping[str, str]) -> list[Checkup]:
    """Bytecode of torch and of casinductor, torch's pool of compile workers, and what is done again
    although everything is cached.
    """
    checks = [_bytecode("torch"), _bytecode("casinductor"), _pool(environ)]
    return [*checks, *_tuning(environ), *_ranks(environ), *_volatile(environ)]


def _tuning(environ: Mapping[str, str]) -> list[Checkup]:
    """Coordinate descent tunes again on warm caches (pytorch#172819)."""
    if environ.get("TORCHINDUCTOR_COORDINATE_DESCENT_TUNING") != "1":
        return []
    told = "coordinate descent is on: torch tunes again at warm starts where it finds no result"
    advice = "tune once, and start workers without it; see tuned kernels in casinductor runs"
    return [Checkup("tuning", "advice", told, advice)]


def _ranks(environ: Mapping[str, str]) -> list[Checkup]:
    """The ranks of a job compile what is the same on all of them."""
    size = environ.get("WORLD_SIZE", "")
    if not size.isdecimal() or int(size) < 2 or environ.get(_ONE_RANK) == "1":
        return []
    told = f"{size} ranks compile at once where the cache is cold"
    advice = (
        f"where ranks run the same code, {_ONE_RANK}=1 (where torch knows it) makes their graphs "
        "equal, so that one rank's cache serves all; CASINDUCTOR_WAIT has other jobs wait for it"
    )
    return [Checkup("ranks", "advice", told, advice)]


def _volatile(environ: Mapping[str, str]) -> list[Checkup]:
    """Directories below a TMPDIR that a scheduler makes anew for each job."""
    folder = environ.get("TMPDIR", "").rstrip("/")
    below = [
        name
        for name in ("TORCHINDUCTOR_CACHE_DIR", "CASINDUCTOR_LOCAL_DIR", "TRITON_CACHE_DIR")
        if folder and environ.get(name, "").startswith(f"{folder}/")
    ]
    if not below or folder in ("/tmp", "/var/tmp"):  # noqa: S108 - the ones that stay the same
        return []
    told = f"{', '.join(below)} lies below TMPDIR ({folder})"
    advice = (
        "where that differs from job to job, autotuning results are not found again: use one path "
        "on all workers"
    )
    return [Checkup("TMPDIR", "advice", told, advice)]


def _bytecode(package: str) -> Checkup:
    """Whether what a package's import runs was compiled before."""
    name = f"bytecode of {package}"
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return ok(name, f"{package} is not installed here")
    if os.path.exists(cache_from_source(spec.origin)):
        return ok(name, "compiled")
    folder = os.path.dirname(spec.origin)
    told = "every start compiles the sources that it imports"
    advice = f"run once, in the image: python -m compileall -q {folder}"
    return Checkup(name, "advice", told, advice)


def _pool(environ: Mapping[str, str]) -> Checkup:
    """Whether torch starts processes to compile with, which warm workers have no use for."""
    if environ.get(_THREADS) == "1":
        return ok("compile workers", f"{_THREADS}=1: torch starts none")
    told = "torch starts them at every start, also where everything is in the cache"
    advice = f"on workers that are expected to be warm, set {_THREADS}=1 (docs/warm-start.md)"
    return Checkup("compile workers", "advice", told, advice)
