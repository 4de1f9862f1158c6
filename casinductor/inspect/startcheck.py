"""What makes a warm start longer than it must be, for ``casinductor doctor``.

Invariant: torch is found, never imported; every advice is one that ``docs/warm-start.md`` measured.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import cache_from_source, find_spec

from casinductor.inspect.checkup import Checkup, ok

_THREADS = "TORCHINDUCTOR_COMPILE_THREADS"


def check_start(environ: Mapping[str, str]) -> list[Checkup]:
    """Bytecode of torch and of casinductor, and torch's pool of compile workers."""
    return [_bytecode("torch"), _bytecode("casinductor"), _pool(environ)]


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
