"""TileLang's directory: one folder a kernel, renamed into place when it is whole.

Invariant: a kernel whose folder lacks a file is a miss, so it is one group; what TileLang stages or
tunes is not shared. Layout: TileLang 0.1.15, run for ``sm_90`` without a GPU.
"""

from __future__ import annotations

from casinductor.families.family import Family, below_home, rule
from casinductor.families.place import Kind
from casinductor.util.pattern import Pattern

_KERNEL = Pattern(r"([^/]+/(?:[^/]+/kernels|cuda-binaries)/[0-9a-f]{64})/[^/]+")
classify = rule(_KERNEL, Kind.KERNEL)

FAMILY = Family(
    "tilelang",
    below_home("TILELANG_CACHE_DIR", ".tilelang", "cache"),
    classify,
    packages=("tilelang", "apache-tvm-ffi"),
)
