"""Graphs to compare, wherever they lie: entries of caches and of local directories.

Invariant: a graph's components are read when they are asked for, and once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from casinductor.errors import LocalDirectory
from casinductor.families.place import Kind, entry_key
from casinductor.inductor.components import Component, unpack
from casinductor.inductor.description import describe
from casinductor.inductor.differences import Named, by_name
from casinductor.inductor.directory import Unstable, read_stable, walk
from casinductor.inspect.facts import Facts
from casinductor.inspect.view import View

_KINDS = (Kind.FXGRAPH.value, Kind.AOTAUTOGRAD.value)


@dataclass
class Graph:
    """One entry. ``place`` says where it lies; ``demands`` what it asks of a worker (empty for a
    local directory); ``made_ms``: Unix time; ``origin``: the manifest that brought it.
    """

    kind: str
    key: str
    guards: str | None
    place: str
    load: Callable[[], list[Component]]
    made_ms: int = 0
    origin: str = ""
    host: str = ""
    opaque: str = ""
    device: str | None = None
    fx_keys: list[str] = field(default_factory=list)
    demands: dict[str, Any] = field(default_factory=dict)
    _components: list[Component] | None = None
    _named: Named | None = None

    @property
    def components(self) -> list[Component]:
        if self._components is None:
            self._components = self.load()
        return self._components

    @property
    def named(self) -> Named:
        if self._named is None:
            self._named = by_name(self.components)
        return self._named

    def label(self) -> str:
        """For people: the key's beginning, where it lies and when it was made."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.made_ms / 1000))
        maker = f" by {self.host}" if self.host else ""
        return f"{self.key[:12]} of {self.place}" + (
            f", made {when}{maker}" if self.made_ms else ""
        )


def of_view(view: View, facts: Facts) -> list[Graph]:
    """The entries of a cache."""
    found = []
    for item in view.of(*_KINDS):
        content, fact = item.version.content, item.fact
        found.append(
            Graph(
                item.version.kind,
                fact.get("key") or item.version.id,
                fact.get("guards"),
                str(view.cache),
                lambda content=content: unpack(facts.parts(content)),  # type: ignore[misc]
                item.made_ms,
                item.version.origin,
                item.producer.host,
                fact.get("opaque", ""),
                fact.get("device"),
                list(fact.get("fx_keys", ())),
                item.demands,
            )
        )
    return found


def of_directory(root: str) -> list[Graph]:
    """The entries below a ``TORCHINDUCTOR_CACHE_DIR``. Raises :class:`LocalDirectory`."""
    found = []
    for path, file in walk(root).files.items():
        if file.place.kind is None or file.place.kind.value not in _KINDS:
            continue
        try:
            data = read_stable(root, file)
        except Unstable:
            continue
        told = describe(file.place.kind.value, entry_key(path), data)
        entry, parts = told.entry, told.components
        found.append(
            Graph(
                entry.kind,
                entry.key,
                entry.guards,
                root,
                lambda parts=parts: parts,  # type: ignore[misc]
                file.stamp.mtime // 1_000_000,
                opaque=entry.reason,
                device=entry.device,
                fx_keys=entry.fx_keys,
            )
        )
    if not found:
        raise LocalDirectory(f"{root} holds no fxgraph or aotautograd entries")
    return found


def chosen(graphs: Iterable[Graph], beginning: str) -> list[Graph]:
    """The graphs whose key begins so."""
    return [graph for graph in graphs if graph.key.startswith(beginning)]
