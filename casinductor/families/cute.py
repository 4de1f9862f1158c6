"""What NVIDIA's CuTe DSL compiles: the DSL's own files, and those of the package quack.

Invariant: each file is written aside, renamed and valid by itself. Layout: ``cutlass``'s
``cache_helpers.py`` and ``quack/cache.py`` of August 2026, read and not run.
"""

from __future__ import annotations

import os

from casinductor.families.family import Environ, Family, first_set, rule
from casinductor.families.place import Kind
from casinductor.util.pattern import Pattern

_MODULE = Pattern(r"(?:[^/]+/)*cute_dsl_[^/]+\.mlir")
_OBJECT = Pattern(r"[^/]+/[0-9a-f]+\.o")


def root(environ: Environ) -> str:
    """``CUTE_DSL_CACHE_DIR``, else the DSL's folder in the temporary directory."""
    chosen = first_set(environ, "CUTE_DSL_CACHE_DIR")
    return chosen or os.path.join(_own_temporary(environ), "cutlass_python_cache")


def root_quack(environ: Environ) -> str:
    """quack's folder in the temporary directory."""
    return os.path.join(_own_temporary(environ), "quack_cache")


def _own_temporary(environ: Environ) -> str:
    base = first_set(environ, "TMPDIR") or "/tmp"  # noqa: S108 - where those packages write
    return os.path.join(base, environ.get("USER") or str(os.getuid()))


FAMILY = Family("cutedsl", root, rule(_MODULE, Kind.KERNEL), packages=("nvidia-cutlass-dsl",))
QUACK = Family(
    "quack",
    root_quack,
    rule(_OBJECT, Kind.KERNEL),
    packages=("quack-kernels", "nvidia-cutlass-dsl"),
)
