"""The CUDA driver's own cache of code that it compiled from PTX.

Invariant: its index and files are opaque, so the whole tree is one group, and it demands the very
driver: NVIDIA calls such a cache valid until the driver is upgraded. Only where the user names it.
"""

from __future__ import annotations

from casinductor.families.family import Family, below_home
from casinductor.families.place import JUNK, Kind, Place, has_junk, share


def classify(path: str) -> Place:
    """The place of a file below ``CUDA_CACHE_PATH``."""
    return JUNK if has_junk(path) else share(Kind.DRIVER, "tree")


FAMILY = Family(
    "nv",
    below_home("CUDA_CACHE_PATH", ".nv", "ComputeCache"),
    classify,
    demands=("driver", "device", "platform"),
    opt_in=True,
)
