"""What ninja builds at run time: torch's C++ extensions, tvm-ffi's, FlashInfer's operators.

Invariant: a directory that ninja built is one group, with what ninja remembers of it, and is valid
at the producer's path only. Since ninja looks at times alone, what it would no
longer notice after a restore (sources, headers, compilers) is demanded by content instead.
Layout: ``torch/utils/cpp_extension.py``, ``tvm_ffi/cpp/extension.py``, ``flashinfer/jit/core.py``.
"""

from __future__ import annotations

import os

from casinductor.families.family import (
    Environ,
    Family,
    below_caches,
    below_home,
    first_set,
    home,
    rule,
)
from casinductor.families.place import JUNK, UNKNOWN, Kind, Place, has_junk, share
from casinductor.util.pattern import Pattern

_NAME = r"[^/]+"
_EXTENSION = Pattern(rf"((?:py\d+{_NAME}/)?{_NAME})/{_NAME}")
_BUILT = Pattern(rf"({_NAME}_[0-9a-f]{{8,64}})/{_NAME}")
_CUTE = Pattern(rf"({_NAME}/{_NAME}/cached_ops/{_NAME}_cute_dsl)/{_NAME}")
_OPERATOR = Pattern(rf"({_NAME}/{_NAME}/cached_ops/{_NAME})/.+")
_GENERATED = Pattern(rf"{_NAME}/{_NAME}/generated/.+")
#: Held while a directory is built, a log for people, and binaries that are downloaded.
_OWN = Pattern(r"(?:.*/)?(?:lock|flashinfer_jit\.log)|(?:.*/)?cubins/.*")


def _is_own(path: str) -> bool:
    return has_junk(path) or _OWN.fullmatch(path) is not None


def classify_flashinfer(path: str) -> Place:
    """The place of a file below FlashInfer's directory: an operator's objects, and the sources that
    were generated for operators, whose names do not say for which.
    """
    if _is_own(path):
        return JUNK
    if match := _CUTE.fullmatch(path):
        return share(Kind.KERNEL, match[1])
    if _GENERATED.fullmatch(path):
        return share(Kind.SIDE, path)
    match = _OPERATOR.fullmatch(path)
    return share(Kind.BUILD, match[1]) if match else UNKNOWN


def root_flashinfer(environ: Environ) -> str:
    """``.cache/flashinfer`` below ``FLASHINFER_WORKSPACE_BASE``, else below the home."""
    base = first_set(environ, "FLASHINFER_WORKSPACE_BASE") or home(environ)
    return os.path.join(base, ".cache", "flashinfer")


#: In the default root a folder names Python and accelerator.
TORCH_EXTENSIONS = Family(
    "torch_extensions",
    below_home("TORCH_EXTENSIONS_DIR", ".cache", "torch_extensions"),
    rule(_EXTENSION, Kind.BUILD, _is_own),
    bound=True,
)
TVM_FFI = Family(
    "tvm_ffi",
    below_caches("TVM_FFI_CACHE_DIR", "tvm-ffi"),
    rule(_BUILT, Kind.BUILD, _is_own),
    packages=("apache-tvm-ffi",),
    bound=True,
)
FLASHINFER = Family(
    "flashinfer",
    root_flashinfer,
    classify_flashinfer,
    packages=("flashinfer-python", "nvidia-cutlass-dsl"),
    bound=True,
)
