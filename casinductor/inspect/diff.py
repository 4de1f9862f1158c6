"""Which graphs and kernels appeared, went or changed between two selections.

Invariant: everything of both sides is accounted for once: the same, changed into one other thing,
gone, or new.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from casinductor.inspect.facts import Facts
from casinductor.inspect.graphs import Graph, of_view
from casinductor.inspect.misses import ALIKE, compare, nearest_of, resemblance
from casinductor.inspect.selection import Selection, items_of
from casinductor.inspect.tables import KERNEL_KINDS, KernelRow, kernel_rows
from casinductor.store.store import Store

_FIGURES = ("target", "warps", "stages", "shared", "registers", "stack_bytes", "bytes", "chosen")


@dataclass
class Change:
    """One thing: ``what`` is ``graph`` or ``kernel``; ``status`` is ``appeared``, ``went`` or
    ``changed``; ``old`` and ``new`` are keys or hashes; ``how`` says what changed.
    """

    what: str
    status: str
    name: str
    old: str = ""
    new: str = ""
    how: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class CacheDifference:
    """The changes, and how many graphs and kernels are the same on both sides."""

    old: str
    new: str
    changes: list[Change] = field(default_factory=list)
    same_graphs: int = 0
    same_kernels: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "changes": [change.as_dict() for change in self.changes]}

    def count(self, what: str, status: str) -> int:
        return sum(1 for c in self.changes if (c.what, c.status) == (what, status))


def diff(store: Store, facts: Facts, old: Selection, new: Selection) -> CacheDifference:
    """Compare two selections of caches. Raises :class:`CacheNotFound` for an empty one."""
    before = items_of(store, facts, old, *KERNEL_KINDS)
    after = items_of(store, facts, new, *KERNEL_KINDS)
    result = CacheDifference(str(old), str(new))
    _graphs(result, of_view(before, facts), of_view(after, facts))
    _kernels(result, kernel_rows(before, facts), kernel_rows(after, facts))
    return result


def _graphs(result: CacheDifference, old: list[Graph], new: list[Graph]) -> None:
    def identity(graph: Graph) -> tuple[str, str, str | None]:
        return graph.kind, graph.key, graph.guards

    went, came, result.same_graphs = _split(old, new, identity)
    for graph in went:
        alike = [g for g in came if g.kind == graph.kind]
        nearest = nearest_of(graph, alike) if graph.components else None
        if nearest is None or resemblance(graph, nearest) < ALIKE:
            result.changes.append(Change("graph", "went", graph.kind, graph.key))
            continue
        came.remove(nearest)
        how = [cause.text for cause in compare(graph, nearest)] or [_of_guards(graph, nearest)]
        result.changes.append(Change("graph", "changed", graph.kind, graph.key, nearest.key, how))
    result.changes += [Change("graph", "appeared", g.kind, "", g.key) for g in came]


def _of_guards(old: Graph, new: Graph) -> str:
    return f"guards: {old.guards or 'none'} -> {new.guards or 'none'}"


def _kernels(result: CacheDifference, old: list[KernelRow], new: list[KernelRow]) -> None:
    def identity(row: KernelRow) -> tuple[str, str]:
        return row.kind, row.hash

    went, came, result.same_kernels = _split(old, new, identity)
    named: dict[tuple[str, str], list[KernelRow]] = defaultdict(list)
    for row in sorted(came, key=_order, reverse=True):
        named[row.kind, row.name].append(row)
    for row in sorted(went, key=_order):
        partners = named[row.kind, row.name]
        if not partners:
            result.changes.append(Change("kernel", "went", row.name, row.hash))
            continue
        other = partners.pop()
        how = [
            f"{name}: {getattr(row, name)} -> {getattr(other, name)}"
            for name in _FIGURES
            if getattr(row, name) != getattr(other, name)
        ] or ["its code"]
        result.changes.append(Change("kernel", "changed", row.name, row.hash, other.hash, how))
    left = sorted((row for rows in named.values() for row in rows), key=_order)
    result.changes += [Change("kernel", "appeared", row.name, "", row.hash) for row in left]


def _order(row: KernelRow) -> tuple[str, int, int, str]:
    return row.name, row.warps or 0, row.stages or 0, row.hash


def _split(
    old: list[Any], new: list[Any], identity: Callable[[Any], Any]
) -> tuple[list[Any], list[Any], int]:
    """What only the old side has, what only the new one has, and how many are on both."""
    before = {identity(item): item for item in old}
    after = {identity(item): item for item in new}
    went = [item for name, item in before.items() if name not in after]
    came = [item for name, item in after.items() if name not in before]
    return went, came, len(before.keys() & after.keys())
