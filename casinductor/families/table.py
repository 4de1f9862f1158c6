"""All families, by name, and the place of any artifact's path.

Invariant: a path without a family's name is one of torch's directory; a name that is not in the
table has no rules, so that what a later version stored is refused and never guessed at.
"""

from __future__ import annotations

from casinductor.families import (
    cute,
    deepgemm,
    driver,
    files,
    inductor,
    ninja,
    packages,
    sglang,
    tilelang,
    triton,
    vllm,
)
from casinductor.families.family import Family
from casinductor.families.place import UNKNOWN, Place, below
from casinductor.util.roots import MARK, split

#: The name of torch's own directory, which has no mark in paths.
INDUCTOR = "inductor"

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        vllm.FAMILY,
        sglang.FAMILY,
        sglang.JIT,
        triton.FAMILY,
        deepgemm.FAMILY,
        tilelang.FAMILY,
        cute.FAMILY,
        cute.QUACK,
        ninja.FLASHINFER,
        ninja.TVM_FFI,
        ninja.TORCH_EXTENSIONS,
        driver.FAMILY,
        files.FAMILY,
        packages.FAMILY,
    )
}

#: Every distribution whose version some family's groups demand.
PACKAGES = tuple(dict.fromkeys(name for f in FAMILIES.values() for name in f.packages))


def family_of(path: str) -> Family | None:
    """The family that a path or group names; None for torch's own, and for names not known here."""
    return FAMILIES.get(split(path)[0].removesuffix(MARK))


def classify(path: str) -> Place:
    """The place of one regular file, by its artifact's path."""
    family, rest = split(path)
    if not family:
        return inductor.classify(path)
    known = FAMILIES.get(family.removesuffix(MARK))
    return below(family, known.classify(rest)) if known else UNKNOWN
