"""What one fxgraph or aotautograd entry shows to people: code, kernels, inputs, key components.

Invariant: nothing of the entry is executed; what cannot be read is opaque with a reason. Made on
demand: a sync reads the cheaper :class:`~casinductor.inductor.entries.Entry` alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from casinductor.inductor.components import Component, components
from casinductor.inductor.entries import (
    KERNEL_HASH,
    TEXT,
    Entry,
    Payload,
    read_entry,
    scan,
    text_of,
)
from casinductor.inductor.kernels import cpp_blocks

_FILE_NAME = re.compile(rb"[\w.-]{1,400}\.\w{1,12}")
_BYTES = {0x43, 0x42, 0x8E, 0x96}

#: A file of a bundled kernel: where its bytes start and end in the entry.
Span = tuple[int, int]


@dataclass
class Description:
    """``source``: the generated wrapper; ``module``: its file's stem; ``bundle``: spans of files by
    Triton hash and file name; ``cpp``: C++ sources by kernel name.
    """

    entry: Entry
    components: list[Component] = field(default_factory=list)
    source: str | None = None
    module: str | None = None
    bundle: dict[str, dict[str, Span]] = field(default_factory=dict)
    cpp: dict[str, str] = field(default_factory=dict)


def describe(kind: str, key: str, data: bytes) -> Description:
    """Read one entry for people; ``kind`` and ``key`` as for :func:`read_entry`. Never raises."""
    try:
        payloads = scan(data)
    except ValueError as error:
        return Description(Entry(kind, key, reason=str(error)))
    entry = read_entry(kind, key, data, payloads)
    found = Description(entry, components(data, payloads))
    if kind == "fxgraph":
        found.source = text_of(data, payloads, "source_code")
        found.module = text_of(data, payloads, "cache_key")
        found.cpp = cpp_blocks(found.source or "")
        if entry.bundled:
            found.bundle = _bundle(data, payloads)
    return found


def _bundle(data: bytes, payloads: list[Payload]) -> dict[str, dict[str, Span]]:
    """The files of bundled kernels: a hash, then file names, each followed by its bytes."""
    kernels: dict[str, dict[str, Span]] = {}
    files: dict[str, Span] | None = None
    name: str | None = None
    begin = data.find(b"_triton_bundle")
    for opcode, start, end in payloads:
        if start < begin:
            continue
        if opcode == 0x8C and end - start == 52 and KERNEL_HASH.fullmatch(data, start, end):
            files = kernels.setdefault(data[start:end].decode("ascii"), {})
            name = None
        elif opcode in TEXT and end - start < 512 and _FILE_NAME.fullmatch(data, start, end):
            name = data[start:end].decode("ascii", "replace")
        elif opcode in _BYTES and files is not None and name is not None:
            files[name] = (start, end)
            name = None
    return kernels


def kernel_name(files: dict[str, Span]) -> str:
    """The name of a bundled kernel, from its description's file name."""
    stems = [n.removesuffix(".json") for n in files if n.endswith(".json") and n[:2] != "__"]
    return stems[0] if len(stems) == 1 else ""
