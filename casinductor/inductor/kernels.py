"""What the files of a kernel say about it: Triton's metadata, a tuning result, C++ source.

Invariant: everything here is read as data; a field that is missing or of another type is None.
Formats: Triton's ``<name>.json`` (``triton/compiler/compiler.py``), torch's ``.best_config``
(``torch/_inductor/runtime/autotune_cache.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from casinductor.inductor.cubin import resources

#: Files of a Triton folder that tell something; the others only have a size.
TELLING = (".json", ".cubin", ".source", ".ttir")
_MODULE = re.compile(rb'loc\("[^"\n]{0,4000}/([0-9a-z]{2}/c[a-z2-7]{51,52})\.py"')
_CONFIG_NAMES = re.compile(r"[A-Z][A-Z0-9_]*|num_\w+|waves_per_eu|matrix_instr_nonkdim|kpack")


@dataclass
class TritonKernel:
    """``name`` of the function; ``backend`` such as ``cuda``, ``arch`` such as ``90`` or
    ``gfx942``; ``shared`` memory in bytes per block; ``registers`` and ``stack_bytes`` per thread;
    ``module``: path without ending of the generated source; ``sizes``: bytes by file ending.
    """

    name: str = ""
    backend: str | None = None
    arch: str | None = None
    warps: int | None = None
    stages: int | None = None
    ctas: int | None = None
    shared: int | None = None
    registers: int | None = None
    stack_bytes: int | None = None
    module: str | None = None
    triton: str | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    opaque: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def triton_kernel(files: Mapping[str, bytes], sizes: Mapping[str, int]) -> TritonKernel:
    """A kernel from its folder: telling files' bytes and all files' sizes, by name."""
    kernel = TritonKernel(sizes={_ending(name): size for name, size in sorted(sizes.items())})
    names = [n for n in files if n.endswith(".json") and not n.startswith("__grp__")]
    if len(names) != 1:
        kernel.opaque = "its folder does not hold one description (.json)"
        return kernel
    stem = names[0].removesuffix(".json")
    kernel.name = stem
    try:
        told = json.loads(files[names[0]])
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        kernel.opaque = f"{names[0]} is no JSON object"
        return kernel
    _describe(kernel, told)
    if cubin := files.get(f"{stem}.cubin"):
        found = resources(cubin)
        kernel.registers, kernel.stack_bytes = found.registers, found.stack_bytes
    for ending in (".source", ".ttir"):
        if match := _MODULE.search(files.get(stem + ending, b"")[:65536]):
            kernel.module = match[1].decode("ascii")
            break
    return kernel


def _describe(kernel: TritonKernel, told: dict[str, Any]) -> None:
    name = told.get("name")
    kernel.name = name[:500] if isinstance(name, str) and name else kernel.name
    target = told.get("target")
    target = target if isinstance(target, dict) else {}
    kernel.backend = _text(target.get("backend"))
    kernel.arch = _text(target.get("arch"))
    kernel.triton = _text(told.get("triton_version"))
    kernel.warps, kernel.stages = _count(told.get("num_warps")), _count(told.get("num_stages"))
    kernel.ctas, kernel.shared = _count(told.get("num_ctas")), _count(told.get("shared"))


def _ending(name: str) -> str:
    return "__grp__" if name.startswith("__grp__") else name.rpartition(".")[2]


def _text(value: object) -> str | None:
    return str(value)[:100] if isinstance(value, (str, int)) else None


def _count(value: object) -> int | None:
    small = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62
    return int(value) if isinstance(value, int) and small else None


@dataclass
class Tuning:
    """An autotuning result: the chosen ``config``, the Triton hash of the kernel it is for (2.8
    and later), and the milliseconds that tuning took.
    """

    config: dict[str, Any] = field(default_factory=dict)
    kernel: str | None = None
    milliseconds: int | None = None
    coordinate_descent: bool = False
    opaque: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def tuning(data: bytes) -> Tuning:
    """A ``.best_config`` as data."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        return Tuning(opaque="it is no JSON object")
    config = {
        name: value
        for name, value in sorted(told.items())
        if _CONFIG_NAMES.fullmatch(name) and isinstance(value, (int, str, float, bool))
    }
    return Tuning(
        config,
        _text(told.get("triton_cache_hash")),
        _count(told.get("time_taken_ms")),
        told.get("found_by_coordesc") is True,
    )


_INCLUDE = b"/torch/include"


def torch_folders(library: bytes) -> set[str]:
    """Folders of the torch packages whose headers went into a C++ kernel, from its debug
    information (torch compiles with ``-g1``); empty where there is none.
    """
    found = set()
    position = library.find(_INCLUDE)
    while position >= 0:
        start = library.rfind(b"\0", max(0, position - 4096), position) + 1
        if library[start : start + 1] == b"/":
            found.add(library[start:position].decode("utf-8", "replace"))
        position = library.find(_INCLUDE, position + 1)
    return found


_CPP_CALL = "async_compile.cpp"
_NAME_BEFORE = re.compile(r"(\w{1,200}) = \Z")
_QUOTES = "'''"


def cpp_blocks(source: str) -> dict[str, str]:
    """The C++ kernels in a graph's generated code: source by name. Linear in the code's length."""
    found: dict[str, str] = {}
    call = source.find(_CPP_CALL)
    while call >= 0:
        start = source.find(_QUOTES, call) + len(_QUOTES)
        end = source.find(_QUOTES, start)
        if start < len(_QUOTES) or end < 0:
            break
        if match := _NAME_BEFORE.search(source[max(0, call - 210) : call]):
            found[match[1]] = source[start:end].strip()
        call = source.find(_CPP_CALL, end)
    return found
