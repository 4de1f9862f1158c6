"""The code of one kernel in all the forms that are stored, down to the Python it was made from.

Invariant: what is given are stored bytes; nothing is run or disassembled to make them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from casinductor.families.place import Kind, entry_key
from casinductor.inductor.description import describe
from casinductor.inspect.facts import MAX_ENTRY, Facts
from casinductor.inspect.view import Item, look_at
from casinductor.store.format.names import CacheId
from casinductor.store.index.groups import File
from casinductor.store.read.files import read_files
from casinductor.store.store import Store

#: The forms of a kernel, and what colours each: a lexer of Pygments, or the command line's own.
KERNEL_FORMS = {
    "ptx": "ptx",
    "ttir": "mlir",
    "ttgir": "mlir",
    "llir": "llvm",
    "amdgcn": "gas",
    "cubin": "binary",
    "hsaco": "binary",
    "json": "json",
}


def stored_forms(kind: str, content: Iterable[tuple[File, bytes]]) -> dict[str, tuple[bytes, str]]:
    """The forms of a kernel's files: bytes and lexer by form."""
    found = {}
    for file, data in content:
        name = file.path.rpartition("/")[2]
        ending = name.rpartition(".")[2]
        if name.startswith("__grp__"):
            continue
        if kind == Kind.CPP.value:
            if ending == "cpp":
                found["source"] = data, "cpp"
        elif ending == "source":
            found["source"] = data, "mlir"
        elif ending in KERNEL_FORMS:
            found[ending] = data, KERNEL_FORMS[ending]
    return found


def python_of(store: Store, facts: Facts, cache: CacheId, item: Item) -> str:
    """The Python of a Triton kernel: its generated module, or its part of a graph's code; empty
    where neither is stored.
    """
    view = look_at(store, facts, cache, Kind.MODULE.value, Kind.FXGRAPH.value, runs=0, fresh=False)
    module = item.fact.get("module")
    if module:
        for other in view.of(Kind.MODULE.value):
            if other.version.id.removesuffix(".py").endswith(module):
                return _text(store, other)
    name = str(item.fact.get("name") or "")
    for graph in view.of(Kind.FXGRAPH.value):
        if item.version.id.rpartition("/")[2] in graph.fact.get("bundle", {}):
            code = _block(_source(store, graph), name)
            if code:
                return code
    return ""


def _source(store: Store, graph: Item) -> str:
    for file, data in _files(store, graph):
        return describe(graph.version.kind, entry_key(file.path), data).source or ""
    return ""


def _text(store: Store, item: Item) -> str:
    return "".join(data.decode("utf-8", "replace") for _, data in _files(store, item))


def _files(store: Store, item: Item) -> list[tuple[File, bytes]]:
    members = store.catalog.groups.files([item.version])[item.version.row]
    small = [file for file in members if file.size <= MAX_ENTRY]
    return [(file, data) for file, data in read_files(store, small) if data is not None]


def _block(source: str, name: str) -> str:
    """What Inductor's wrapper hands to ``async_compile.triton`` under this name."""
    start = re.search(rf"async_compile\.triton\('{re.escape(name)}', '''\n", source)
    if start is None:
        return ""
    return source[start.end() :].partition("'''")[0]
