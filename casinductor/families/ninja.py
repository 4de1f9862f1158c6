"""What ninja builds at run time: torch's C++ extensions, tvm-ffi's, FlashInfer's operators.

Invariant: a directory that ninja built is one group, with what ninja remembers of it, and is valid
at the producer's path only. Since ninja looks at times alone, what it would no
longer notice after a restore (sources, headers, compilers) is demanded by content instead.
Layout: ``torch/utils/cpp_extension.py``, ``tvm_ffi/cpp/extension.py``, ``flashinfer/jit/core.py``.
"""

from __future__ import annotations

import os
import re

from casinductor.families.family import Environ, Family, cache_home, first_set, home
from casinductor.families.place import JUNK, UNKNOWN, Kind, Place, is_junk, share

_NAME = r"[^/]+"
_EXTENSION = re.compile(rf"((?:py\d+{_NAME}/)?{_NAME})/{_NAME}")
_BUILT = re.compile(rf"({_NAME}_[0-9a-f]{{8,64}})/{_NAME}")
_CUTE = re.compile(rf"({_NAME}/{_NAME}/cached_ops/{_NAME}_cute_dsl)/{_NAME}")
_OPERATOR = re.compile(rf"({_NAME}/{_NAME}/cached_ops/{_NAME})/.+")
_GENERATED = re.compile(rf"{_NAME}/{_NAME}/generated/.+")
#: Held while a directory is built, a log for people, and binaries that are downloaded.
_OWN = re.compile(r"(?:.*/)?(?:lock|flashinfer_jit\.log)|(?:.*/)?cubins/.*")


def _is_own(path: str) -> bool:
    return any(map(is_junk, path.split("/"))) or _OWN.fullmatch(path) is not None


def classify_extension(path: str) -> Place:
    """The place of a file below ``TORCH_EXTENSIONS_DIR``, or below the default one, where a folder
    names Python and accelerator.
    """
    if _is_own(path):
        return JUNK
    match = _EXTENSION.fullmatch(path)
    return share(Kind.BUILD, match[1]) if match else UNKNOWN


def classify_tvm_ffi(path: str) -> Place:
    """The place of a file below ``TVM_FFI_CACHE_DIR``."""
    if _is_own(path):
        return JUNK
    match = _BUILT.fullmatch(path)
    return share(Kind.BUILD, match[1]) if match else UNKNOWN


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


def root_extension(environ: Environ) -> str:
    """``TORCH_EXTENSIONS_DIR``, else ``torch_extensions`` in the user's caches."""
    chosen = first_set(environ, "TORCH_EXTENSIONS_DIR")
    return chosen or os.path.join(home(environ), ".cache", "torch_extensions")


def root_tvm_ffi(environ: Environ) -> str:
    """``TVM_FFI_CACHE_DIR``, else ``tvm-ffi`` in the user's caches."""
    return first_set(environ, "TVM_FFI_CACHE_DIR") or os.path.join(cache_home(environ), "tvm-ffi")


def root_flashinfer(environ: Environ) -> str:
    """``.cache/flashinfer`` below ``FLASHINFER_WORKSPACE_BASE``, else below the home."""
    base = first_set(environ, "FLASHINFER_WORKSPACE_BASE") or home(environ)
    return os.path.join(base, ".cache", "flashinfer")


TORCH_EXTENSIONS = Family("torch_extensions", root_extension, classify_extension, bound=True)
TVM_FFI = Family(
    "tvm_ffi", root_tvm_ffi, classify_tvm_ffi, packages=("apache-tvm-ffi",), bound=True
)
FLASHINFER = Family(
    "flashinfer",
    root_flashinfer,
    classify_flashinfer,
    packages=("flashinfer-python", "nvidia-cutlass-dsl"),
    bound=True,
)
