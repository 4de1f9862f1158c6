"""What every path of a ``TORCHINDUCTOR_CACHE_DIR`` is: its kind, group, order and fate.

Invariant: classification is a pure function of the relative path, so all workers group alike; a
path that no rule knows is never shared. Layout as measured on torch 2.13 and 2.14 and read in the
sources of 2.4 to 2.14 (``docs/torch.md`` says where each rule comes from).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple


class Fate(Enum):
    """Whether a file is shared, and if not, why."""

    SHARE = "share"
    JUNK = "junk"
    PRODUCT = "product"
    UNKNOWN = "unknown"


class Kind(str, Enum):
    """The kinds of artifacts."""

    CPP = "cpp"
    TUNING = "best_config"
    DECISIONS = "decisions"
    FXGRAPH = "fxgraph"
    AOTAUTOGRAD = "aotautograd"
    MODULE = "module"
    TRITON = "triton"


#: Restore order: a kernel must be in place before the entry that loads it.
RANK: dict[Kind, int] = {
    Kind.CPP: 0,
    Kind.TRITON: 1,
    Kind.MODULE: 2,
    Kind.TUNING: 3,
    Kind.DECISIONS: 3,
    Kind.FXGRAPH: 4,
    Kind.AOTAUTOGRAD: 5,
}


#: What torch rewrites by itself: a worker that has one of its own keeps it.
REWRITTEN = (Kind.TUNING, Kind.DECISIONS)

#: What torch pickles: one file an entry, its key the name of its directory.
ENTRY_KINDS = (Kind.FXGRAPH, Kind.AOTAUTOGRAD)


def entry_key(path: str) -> str:
    """The key of the entry at ``path``: torch names the directory by it."""
    return path.split("/")[-2]


class Place(NamedTuple):
    """Where a path stands. ``group`` is the stem its artifacts share; entries are their own until
    their guards are read. ``needed``: a full hit reads it (Triton: only where nothing bundles it).
    ``mark``: torch only asks whether the file is there, and writes it empty.
    """

    fate: Fate
    kind: Kind | None = None
    group: str = ""
    needed: bool = False
    mark: bool = False


JUNK = Place(Fate.JUNK)
UNKNOWN = Place(Fate.UNKNOWN)
PRODUCT = Place(Fate.PRODUCT)

#: Directories at the top whose contents are never shared: empty lock files, per-job profiles,
#: compilers, and files changed in place.
_PRIVATE_TOPS = frozenset(
    {
        "locks",
        "dynamo",
        "gcc",
        "autoheuristic",
        "cutedsl_compile_cache",
        "aoti_eager",
        "unhashed_kernel_inputs",
        "halide",
    }
)
_STEM = r"[0-9A-Za-z][0-9A-Za-z_.-]*"
_XX = r"[0-9a-z]{2}"
_FXGRAPH = re.compile(rf"fxgraph/{_XX}/{_STEM}/{_STEM}")
_AOT = re.compile(rf"aotautograd/{_STEM}/{_STEM}")
_CPP = re.compile(rf"({_XX}/{_STEM})\.(cpp|so|h)")
#: "This probe of the compiler loads here" (torch 2.14, cpu_vec_isa.py: VecISA.check_build).
_LOADS = re.compile(rf"({_XX}/{_STEM})\.so\.load_ok")
_MODULE = re.compile(rf"{_XX}/{_STEM}\.py")
_TUNING = re.compile(rf"{_XX}/{_STEM}\.best_config")
#: What torch decided by timing, named by a hash of device, Triton and CUDA; written aside and
#: renamed (torch/_inductor/codecache.py: CacheBase.update_local_cache).
_DECISIONS = re.compile(r"cache/[0-9a-f]{64}")
#: What AOTInductor compiles: a folder of its own, named by the hash of the wrapper's code.
_AOTI = re.compile(r"c[a-z2-7]{51,52}/[^/]+")
_TRITON = re.compile(r"(triton/[0-9A-Za-z]+/[0-9A-Za-z_-]+)/[^/]+")


def classify(path: str) -> Place:
    """The place of one regular file, by its path relative to the cache directory (with ``/``)."""
    parts = path.split("/")
    if parts[0] in _PRIVATE_TOPS or any(map(is_junk, parts)):
        return JUNK
    if match := _TRITON.fullmatch(path):
        return Place(Fate.SHARE, Kind.TRITON, match[1], needed=False)
    if _FXGRAPH.fullmatch(path):
        return Place(Fate.SHARE, Kind.FXGRAPH, path, needed=True)
    if _AOT.fullmatch(path):
        return Place(Fate.SHARE, Kind.AOTAUTOGRAD, path, needed=True)
    if _TUNING.fullmatch(path):
        return Place(Fate.SHARE, Kind.TUNING, path, needed=True)
    if parts[0] == "cache":
        shared_ = _DECISIONS.fullmatch(path)
        return Place(Fate.SHARE, Kind.DECISIONS, path, needed=True) if shared_ else JUNK
    if match := _LOADS.fullmatch(path):
        return Place(Fate.SHARE, Kind.CPP, match[1], needed=True, mark=True)
    if match := _CPP.fullmatch(path):
        return Place(Fate.SHARE, Kind.CPP, match[1], needed=match[2] == "so")
    if _MODULE.fullmatch(path):
        return Place(Fate.SHARE, Kind.MODULE, path, needed=False)
    return PRODUCT if _AOTI.fullmatch(path) else UNKNOWN


def shared(place: Place, size: int) -> bool:
    """Whether a file of this many bytes is shared: an empty one is torn, unless it is a mark."""
    return place.fate is Fate.SHARE and (size > 0 or place.mark)


def reads_decisions(torch: str) -> bool:
    """Whether a torch of this version reads what it decided before it makes a graph's key, so that
    workers that decided otherwise never hit: 2.5 and 2.6 pad matrices by it (``pad_mm``).
    """
    return torch.startswith(("2.5.", "2.6."))


def folder_place(prefix: str) -> Place | None:
    """The place that all files of a folder (path with a closing slash) have, unless junk."""
    if match := _TRITON.fullmatch(prefix + "*"):
        return Place(Fate.SHARE, Kind.TRITON, match[1], needed=False)
    return None


_JUNK_ENDS = (".lock", ".tmp", ".error", ".pt", "_CxxBuild")


def is_junk(name: str) -> bool:
    """Whether a file or directory of this name is unfinished, private, or a cached failure."""
    return name.startswith((".", "tmp")) or name.endswith(_JUNK_ENDS)


def is_private_top(name: str) -> bool:
    """Whether nothing below this top-level directory is shared, so that it need not be walked."""
    return name in _PRIVATE_TOPS or is_junk(name)


def complete(kind: Kind, names: dict[str, int]) -> bool:
    """Whether a group is finished, from its files' names and permission modes.

    The linker opens the final ``.so`` first and sets its x bit last, so one without it is still
    being written; a ``.cpp`` alone has not been compiled yet. A header (torch before 2.7 copies its
    prefix there) is whole at once.
    """
    if kind is Kind.CPP and not all(name.endswith(".h") for name in names):
        libraries = [mode for name, mode in names.items() if name.endswith(".so")]
        return bool(libraries) and all(mode & 0o100 for mode in libraries)
    return True


def shareable_mode(mode: int) -> int:
    """The mode an artifact is stored and restored with: 0755 for programs, else 0644."""
    return 0o755 if mode & 0o100 else 0o644
