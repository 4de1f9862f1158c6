"""Graphs and kernels of a cache as rows: what ``inspect`` and ``kernels`` print.

Invariant: a row's fields are plain values, ready for JSON; None where the bytes do not tell.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from casinductor.families.place import ENTRY_KINDS, Kind
from casinductor.inspect.facts import Facts, cpp_source
from casinductor.inspect.view import Item, View
from casinductor.store.format.frame import blake3_digest

#: What tables of graphs and of kernels are made from.
GRAPH_KINDS = tuple(kind.value for kind in ENTRY_KINDS)
KERNEL_KINDS = (*GRAPH_KINDS, Kind.TRITON.value, Kind.CPP.value, Kind.TUNING.value)


@dataclass
class GraphRow:
    """One entry. ``seconds`` it took to compile, ``own_seconds`` without those of its ``graphs``;
    ``kernels`` it brings; ``made_ms`` Unix time; ``restored`` and ``used``: in how many of the
    looked-at warm-ups; ``title``: what it computes.
    """

    key: str
    kind: str
    guards: str | None
    seconds: float | None
    bytes: int
    kernels: int
    inputs: int
    device: str | None
    torch: str
    host: str
    made_ms: int
    origin: str
    content: str
    restored: int
    used: int
    graphs: list[str] = field(default_factory=list)
    opaque: str = ""
    title: str = ""
    own_seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class KernelRow:
    """One compiled kernel. ``shared``: bytes per block; ``registers`` per thread, and
    ``stack_bytes`` per thread in local memory (spilled values and local arrays); ``bytes`` of all
    its files, ``sizes`` by ending; ``graphs``: keys of the graphs that use it; ``variants``: how
    many configurations of the same source are stored; ``chosen``: whether autotuning chose this one
    (None if nothing says so), with ``config`` its parameters.
    """

    name: str
    kind: str
    hash: str
    target: str | None = None
    warps: int | None = None
    stages: int | None = None
    shared: int | None = None
    registers: int | None = None
    stack_bytes: int | None = None
    bytes: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    graphs: list[str] = field(default_factory=list)
    module: str | None = None
    variants: int = 1
    chosen: bool | None = None
    config: dict[str, Any] = field(default_factory=dict)
    restored: int = 0
    used: int = 0
    opaque: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def graph_rows(view: View) -> list[GraphRow]:
    """The entries of a cache, fxgraph before aotautograd, the slowest first."""
    rows = [graph_row(item) for item in view.of(*GRAPH_KINDS)]
    titles = {row.key: row.title for row in rows if row.kind == Kind.FXGRAPH.value and row.title}
    taken = {row.key: row.seconds or 0.0 for row in rows if row.kind == Kind.FXGRAPH.value}
    for row in rows:
        inside = [titles[key] for key in row.graphs if key in titles]
        row.title = row.title or " + ".join(inside)
        if row.seconds is not None:
            row.own_seconds = max(0.0, row.seconds - sum(taken.get(key, 0.0) for key in row.graphs))
    return sorted(rows, key=lambda r: (r.kind != "fxgraph", -(r.seconds or 0.0), r.key))


def graph_row(item: Item) -> GraphRow:
    """One entry as a row."""
    fact, version = item.fact, item.version
    nanoseconds = fact.get("compile_ns")
    return GraphRow(
        key=fact.get("key") or version.id,
        kind=version.kind,
        guards=fact.get("guards"),
        seconds=nanoseconds / 1e9 if isinstance(nanoseconds, int) else None,
        bytes=item.bytes,
        kernels=len(fact.get("bundle", ())) or len(fact.get("cpp", ())),
        inputs=fact.get("inputs", 0),
        device=fact.get("device"),
        torch=str(item.demands.get("torch", "")),
        host=item.producer.host,
        made_ms=item.made_ms,
        origin=version.origin,
        content=version.content.hex(),
        restored=item.restored,
        used=item.used,
        graphs=list(fact.get("fx_keys", ())),
        opaque=fact.get("opaque", ""),
        title=fact.get("title", ""),
    )


def kernel_rows(view: View, facts: Facts | None) -> list[KernelRow]:
    """The kernels of a cache by name: Triton's, stored by themselves or inside graphs, and C++.

    ``facts`` finds the names of C++ kernels; without them their paths stand for names.
    """
    graphs_of: dict[str, list[str]] = defaultdict(list)
    bundled: dict[str, str] = {}
    for item in view.of(Kind.FXGRAPH.value):
        for name, title in item.fact.get("bundle", {}).items():
            graphs_of[name].append(item.fact.get("key", ""))
            bundled[name] = title
    rows = [
        _triton(item, graphs_of)
        for item in view.of(Kind.TRITON.value)
        if set(item.fact.get("sizes", {})) != {"so"}  # a launcher, or the driver's utilities
    ]
    stored = {row.hash for row in rows}
    rows += [
        KernelRow(
            title or name, "triton", name, graphs=graphs_of[name], opaque="inside its graph only"
        )
        for name, title in sorted(bundled.items())
        if name not in stored
    ]
    _choose(rows, view)
    rows += _cpp(view, facts)
    return sorted(rows, key=lambda row: (row.name, row.hash))


def _triton(item: Item, graphs_of: dict[str, list[str]]) -> KernelRow:
    fact = item.fact
    name = item.version.id.rpartition("/")[2]
    target = fact.get("backend")
    if target and fact.get("arch"):
        target = f"{target} {fact['arch']}"
    return KernelRow(
        name=fact.get("name") or name,
        kind="triton",
        hash=name,
        target=target,
        warps=fact.get("warps"),
        stages=fact.get("stages"),
        shared=fact.get("shared"),
        registers=fact.get("registers"),
        stack_bytes=fact.get("stack_bytes"),
        bytes=item.bytes,
        sizes=fact.get("sizes", {}),
        graphs=graphs_of.get(name, []),
        module=fact.get("module"),
        restored=item.restored,
        used=item.used,
        opaque=fact.get("opaque", ""),
    )


def _choose(rows: list[KernelRow], view: View) -> None:
    """Mark which configurations of each source autotuning tried and chose."""
    results = {
        item.fact["kernel"]: item.fact.get("config", {})
        for item in view.of(Kind.TUNING.value)
        if item.fact.get("kernel")
    }
    families: dict[str, list[KernelRow]] = defaultdict(list)
    for row in rows:
        families[row.module or row.hash].append(row)
    for family in families.values():
        decided = any(row.hash in results for row in family)
        for row in family:
            row.variants = len(family)
            if decided:
                row.chosen = row.hash in results
                row.config = results.get(row.hash, {})


def _cpp(view: View, facts: Facts | None) -> list[KernelRow]:
    blocks: dict[tuple[int, str], set[tuple[str, str]]] = defaultdict(set)
    for item in view.of(Kind.FXGRAPH.value):
        for name, length, digest in item.fact.get("cpp", ()):
            blocks[length, digest].add((name, item.fact.get("key", "")))
    lengths = sorted({length for length, _ in blocks})
    rows = []
    for item in view.of(Kind.CPP.value):
        if ".main" not in item.version.id:
            continue  # a probe of the compiler
        source = cpp_source(facts.parts(item.version.content)) if facts else b""
        owners: set[tuple[str, str]] = set()
        for length in lengths:
            if length <= len(source):
                owners |= blocks.get((length, blake3_digest(source[:length]).hex()), set())
        stem = item.version.id.rpartition("/")[2].removesuffix(".main")
        names = sorted({name for name, _ in owners})
        rows.append(
            KernelRow(
                name=names[0] if names else stem,
                kind="cpp",
                hash=stem,
                target=str(item.demands.get("isa", "")) or None,
                bytes=item.bytes,
                sizes={"so": item.fact.get("library", 0), "cpp": len(source)},
                graphs=sorted({key for _, key in owners}),
                restored=item.restored,
                used=item.used,
            )
        )
    return rows


def told(config: dict[str, Any]) -> str:
    """A configuration in one line."""
    return " ".join(f"{name}={json.dumps(value)}" for name, value in config.items())
