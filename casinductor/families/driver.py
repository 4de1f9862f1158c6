"""The CUDA driver's own cache of code that it compiled from PTX.

Invariant: its index and files are opaque, so the whole tree is one group, and it demands the very
driver: NVIDIA calls such a cache valid until the driver is upgraded. Only where the user names it.
"""

from __future__ import annotations

import os

from casinductor.families.family import Environ, Family, first_set, home
from casinductor.families.place import JUNK, Kind, Place, is_junk, share


def classify(path: str) -> Place:
    """The place of a file below ``CUDA_CACHE_PATH``."""
    if any(map(is_junk, path.split("/"))):
        return JUNK
    return share(Kind.DRIVER, "tree")


def root(environ: Environ) -> str:
    """``CUDA_CACHE_PATH``, else ``~/.nv/ComputeCache``."""
    chosen = first_set(environ, "CUDA_CACHE_PATH")
    return chosen or os.path.join(home(environ), ".nv", "ComputeCache")


FAMILY = Family("nv", root, classify, demands=("driver", "device", "platform"), opt_in=True)
