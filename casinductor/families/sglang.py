"""SGLang's two roots: one for the caches of all its compilers, and one for its own kernels.

Invariant: each embedded directory follows the rules of its own family; a kernel of SGLang's own is
a leaf that is immutable and checks itself. Layout: SGLang 0.5.23, ``environ.py`` and
``jit_kernel``, read and not run.
"""

from __future__ import annotations

from casinductor.families import deepgemm, inductor, tilelang, triton
from casinductor.families.family import Environ, Family, below_caches, first_set, rule
from casinductor.families.place import JUNK, UNKNOWN, Kind, Place, below, has_junk, share
from casinductor.util.pattern import Pattern

_EMBEDDED = Pattern(r"(torch_compile_cache/(?:.*/)?(inductor_cache|triton_cache)/)(.+)")
_PICTURE = Pattern(r"torch_compile_cache/.*/computation_graph\.py")
_LEAF = Pattern(r"([^/]+/[^/]+/build-[^/]+/deps-[^/]+)/[^/]+")
_AHEAD = Pattern(r"cute_aot/.+|flashinfer/autotune/.+")
classify_jit = rule(_LEAF, Kind.KERNEL)
_RULES = {
    "inductor": inductor.classify,
    "inductor_cache": inductor.classify,
    "triton": triton.classify,
    "triton_cache": triton.classify,
    "deep_gemm": deepgemm.classify,
    "tilelang": tilelang.classify,
}


def classify(path: str) -> Place:
    """The place of a file below ``SGLANG_CACHE_DIR``."""
    if has_junk(path) or _PICTURE.fullmatch(path):
        return JUNK
    if match := _EMBEDDED.fullmatch(path):
        return below(match[1], _RULES[match[2]](match[3]))
    top, _, rest = path.partition("/")
    if rest and top in ("inductor", "triton", "deep_gemm", "tilelang"):
        return below(top + "/", _RULES[top](rest))
    if top == "jit":
        return below("jit/", classify_jit(rest))
    if top == "nv":
        return JUNK  # the driver's: a family of its own, that the user must name
    return share(Kind.KERNEL, path) if _AHEAD.fullmatch(path) else UNKNOWN


def root_jit(environ: Environ) -> str:
    """``SGLANG_JIT_CACHE_DIR``; unset it lies in the other root."""
    return first_set(environ, "SGLANG_JIT_CACHE_DIR") or ""


FAMILY = Family(
    "sglang", below_caches("SGLANG_CACHE_DIR", "sglang"), classify, packages=("sglang",)
)
JIT = Family("sglang_jit", root_jit, classify_jit, packages=("sglang",))
