"""DeepGEMM's directory: one folder a kernel, renamed into place when it is whole.

Invariant: a kernel's source and its binary are one group. Layout: DeepGEMM of June 2026,
``csrc/jit/compiler.hpp``, read and not run (``docs/families.md``).
"""

from __future__ import annotations

import os
import re

from casinductor.families.family import Environ, Family, first_set, home
from casinductor.families.place import JUNK, UNKNOWN, Kind, Place, is_junk, share

_KERNEL = re.compile(r"(cache/kernel\.[^/]+)/[^/]+")


def classify(path: str) -> Place:
    """The place of a file below ``DG_JIT_CACHE_DIR``."""
    if any(map(is_junk, path.split("/"))):
        return JUNK
    match = _KERNEL.fullmatch(path)
    return share(Kind.KERNEL, match[1]) if match else UNKNOWN


def root(environ: Environ) -> str:
    """``DG_JIT_CACHE_DIR``, else ``~/.deep_gemm``; vLLM and SGLang keep it below their own."""
    chosen = first_set(environ, "DG_JIT_CACHE_DIR")
    return chosen or os.path.join(home(environ), ".deep_gemm")


FAMILY = Family("deepgemm", root, classify, packages=("deep_gemm", "deep-gemm"))
