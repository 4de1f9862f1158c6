"""TileLang's directory: one folder a kernel, renamed into place when it is whole.

Invariant: a kernel whose folder lacks a file is a miss, so it is one group; what TileLang stages or
tunes is not shared. Layout: TileLang 0.1.15, run for ``sm_90`` without a GPU.
"""

from __future__ import annotations

import os
import re

from casinductor.families.family import Environ, Family, first_set, home
from casinductor.families.place import JUNK, UNKNOWN, Kind, Place, is_junk, share

_KERNEL = re.compile(r"([^/]+/(?:[^/]+/kernels|cuda-binaries)/[0-9a-f]{64})/[^/]+")


def classify(path: str) -> Place:
    """The place of a file below ``TILELANG_CACHE_DIR``."""
    if any(map(is_junk, path.split("/"))):
        return JUNK
    match = _KERNEL.fullmatch(path)
    return share(Kind.KERNEL, match[1]) if match else UNKNOWN


def root(environ: Environ) -> str:
    """``TILELANG_CACHE_DIR``, else ``~/.tilelang/cache``."""
    chosen = first_set(environ, "TILELANG_CACHE_DIR")
    return chosen or os.path.join(home(environ), ".tilelang", "cache")


FAMILY = Family("tilelang", root, classify, packages=("tilelang", "apache-tvm-ffi"))
