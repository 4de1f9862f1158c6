"""Triton's own directory: hand-written ``@triton.jit`` kernels, compiled outside Inductor.

Invariant: a kernel is the folder of its hash, whole; launchers and utilities that Triton builds for
a Python lie in folders of their own. Layout: Triton's ``runtime/cache.py`` (``FileCacheManager``).
"""

from __future__ import annotations

import os

from casinductor.families.family import Environ, Family, first_set, home, rule
from casinductor.families.place import Kind
from casinductor.util.pattern import Pattern

#: 52 characters of base32, or 43 of base64url (Triton 3.2), or 64 hexadecimal digits (before).
_FOLDER = Pattern(r"([0-9A-Za-z_-]{43,64})/[^/]+")


classify = rule(_FOLDER, Kind.TRITON)


def root(environ: Environ) -> str:
    """``TRITON_CACHE_DIR``, else ``$TRITON_HOME/.triton/cache``, else the same in the home."""
    chosen = first_set(environ, "TRITON_CACHE_DIR")
    base = first_set(environ, "TRITON_HOME") or home(environ)
    return chosen or os.path.join(base, ".triton", "cache")


FAMILY = Family("triton", root, classify, packages=("triton",), demands=("triton", "platform"))
