"""DeepGEMM's directory: one folder a kernel, renamed into place when it is whole.

Invariant: a kernel's source and its binary are one group. Layout: DeepGEMM of June 2026,
``csrc/jit/compiler.hpp``, read and not run (``docs/families.md``).
"""

from __future__ import annotations

from casinductor.families.family import Family, below_home, rule
from casinductor.families.place import Kind
from casinductor.util.pattern import Pattern

classify = rule(Pattern(r"(cache/kernel\.[^/]+)/[^/]+"), Kind.KERNEL)

#: vLLM and SGLang keep it below their own root.
FAMILY = Family(
    "deepgemm",
    below_home("DG_JIT_CACHE_DIR", ".deep_gemm"),
    classify,
    packages=("deep_gemm", "deep-gemm"),
)
