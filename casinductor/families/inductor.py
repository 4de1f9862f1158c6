"""What every path of a ``TORCHINDUCTOR_CACHE_DIR`` is: its kind, group, order and fate.

Invariant: classification is a pure function of the relative path, so all workers group alike; a
path that no rule knows is never shared. Layout as measured on torch 2.13 and 2.14 and read in the
sources of 2.4 to 2.14 (``docs/torch.md`` says where each rule comes from).
"""

from __future__ import annotations

from casinductor.families.place import (
    JUNK,
    PRODUCT,
    UNKNOWN,
    Fate,
    Kind,
    Place,
    has_junk,
    is_junk,
    share,
)
from casinductor.util.pattern import Pattern

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
_FXGRAPH = Pattern(rf"fxgraph/{_XX}/{_STEM}/{_STEM}")
_AOT = Pattern(rf"aotautograd/{_STEM}/{_STEM}")
_CPP = Pattern(rf"({_XX}/{_STEM})\.(cpp|so|h)")
#: "This probe of the compiler loads here" (torch 2.14, cpu_vec_isa.py: VecISA.check_build).
_LOADS = Pattern(rf"({_XX}/{_STEM})\.so\.load_ok")
_MODULE = Pattern(rf"{_XX}/{_STEM}\.py")
_TUNING = Pattern(rf"{_XX}/{_STEM}\.best_config")
#: What torch decided by timing, named by a hash of device, Triton and CUDA; written aside and
#: renamed (torch/_inductor/codecache.py: CacheBase.update_local_cache).
_DECISIONS = Pattern(r"cache/[0-9a-f]{64}")
#: What AOTInductor compiles: a folder of its own, named by the hash of the wrapper's code.
_AOTI = Pattern(r"c[a-z2-7]{51,52}/[^/]+")
_TRITON = Pattern(r"(triton/[0-9A-Za-z]+/[0-9A-Za-z_-]+)/[^/]+")


def classify(path: str) -> Place:
    """The place of one regular file, by its path relative to the cache directory (with ``/``)."""
    parts = path.split("/")
    if parts[0] in _PRIVATE_TOPS or has_junk(path):
        return JUNK
    if match := _TRITON.fullmatch(path):
        return share(Kind.TRITON, match[1], needed=False)
    if _FXGRAPH.fullmatch(path):
        return share(Kind.FXGRAPH, path)
    if _AOT.fullmatch(path):
        return share(Kind.AOTAUTOGRAD, path)
    if _TUNING.fullmatch(path):
        return share(Kind.TUNING, path)
    if parts[0] == "cache":
        shared_ = _DECISIONS.fullmatch(path)
        return share(Kind.DECISIONS, path) if shared_ else JUNK
    if match := _LOADS.fullmatch(path):
        return Place(Fate.SHARE, Kind.CPP, match[1], needed=True, mark=True)
    if match := _CPP.fullmatch(path):
        return share(Kind.CPP, match[1], needed=match[2] == "so")
    if _MODULE.fullmatch(path):
        return share(Kind.MODULE, path, needed=False)
    return PRODUCT if _AOTI.fullmatch(path) else UNKNOWN


def reads_decisions(torch: str) -> bool:
    """Whether a torch of this version reads what it decided before it makes a graph's key, so that
    workers that decided otherwise never hit: 2.5 and 2.6 pad matrices by it (``pad_mm``).
    """
    return torch.startswith(("2.5.", "2.6."))


def folder_place(prefix: str) -> Place | None:
    """The place that all files of a folder (path with a closing slash) have, unless junk."""
    if match := _TRITON.fullmatch(prefix + "*"):
        return share(Kind.TRITON, match[1], needed=False)
    return None


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
