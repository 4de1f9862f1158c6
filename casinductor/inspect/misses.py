"""Why one graph missed: the nearest stored entry, and what about the keys or workers differs.

Invariant: says what can be known from what is stored, and says so where it cannot be known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from casinductor.inductor.components import Component, graphs
from casinductor.inductor.differences import (
    by_name,
    differences,
    differing_names,
    distance,
    likeness,
)
from casinductor.inductor.guards import failed_guards
from casinductor.inspect.causes import Cause
from casinductor.inspect.graphs import Graph

#: So many candidates, those with the fewest unlike components, are compared in full.
_CLOSEST = 40
#: A graph with less of its operators in common is another graph, not a version of the same.
ALIKE = 0.5
_OF_THE_MODEL = ("option", "dtype", "shape", "graph", "layout", "other")


#: How the text of an aotautograd miss begins that its graphs do not account for.
SAME_GRAPHS = "its graphs have the keys of stored ones"


@dataclass
class Explained:
    """One graph and its causes, the most likely first; ``known`` is False where none can be told.
    ``nearest`` describes the stored entry it was compared with.
    """

    key: str
    kind: str
    causes: list[Cause] = field(default_factory=list)
    nearest: str = ""
    known: bool = True

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "causes": [cause.as_dict() for cause in self.causes]}


def explain(
    wanted: Graph, stored: Iterable[Graph], worker: Mapping[str, Any], before_ms: int | None = None
) -> Explained:
    """Why ``wanted`` was not found among ``stored``.

    ``worker``: the fingerprint of the worker that looked (empty if unknown); entries made after
    ``before_ms`` were not there yet.
    """
    result = Explained(wanted.key, wanted.kind)
    candidates = [graph for graph in stored if graph.kind == wanted.kind and graph is not wanted]
    same = [graph for graph in candidates if graph.key == wanted.key]
    if same:
        return _of_same_key(result, wanted, same, worker, before_ms)
    earlier = [g for g in candidates if before_ms is None or g.made_ms <= before_ms]
    if not earlier:
        return _told(result, "empty", "nothing was stored that it could be compared with")
    if wanted.opaque and not wanted.components:
        return _unknown(result, f"its entry cannot be read: {wanted.opaque}")
    if not wanted.components:
        return _unknown(
            result, "its entry does not say what its key was made of, as torch does from 2.8 on"
        )
    nearest = nearest_of(wanted, earlier)
    if nearest is None:
        return _unknown(
            result, "no stored entry says what its key was made of, as torch does from 2.8 on"
        )
    result.nearest = nearest.label()
    result.causes = compare(nearest, wanted)
    return result


def _of_same_key(
    result: Explained,
    wanted: Graph,
    same: list[Graph],
    worker: Mapping[str, Any],
    before_ms: int | None,
) -> Explained:
    """The key is stored: another worker's demands, other guards, or it came too late."""
    earlier = [g for g in same if before_ms is None or g.made_ms <= before_ms]
    if not earlier:
        result.nearest = same[0].label()
        return _told(result, "late", "another worker published it after this one had restored")
    misfits = [(graph, unmet(graph.demands, worker)) for graph in earlier]
    fitting = [graph for graph, reasons in misfits if not reasons]
    if not fitting:
        graph, reasons = min(misfits, key=lambda item: len(item[1]))
        result.nearest = graph.label()
        result.causes = [Cause("worker", text) for text in reasons]
        return _named(result)
    alike = [graph for graph in fitting if graph.guards == wanted.guards]
    if alike:
        result.nearest = alike[0].label()
        return _told(result, "unrestored", "it was stored, and not there when torch looked")
    result.nearest = fitting[0].label()
    for graph in fitting:
        failed = failed_guards(graph.guards or "", wanted.guards or "")
        text = " or ".join(f"`{part}`" for part in failed) or f"`{graph.guards}`"
        result.causes.append(Cause("guard", f"guard failed: {text}"))
    return _named(result)


def unmet(demands: Mapping[str, Any], worker: Mapping[str, Any]) -> list[str]:
    """What an entry demands and the worker does not have, in words."""
    reasons = []
    for name, wanted in demands.items():
        have = worker.get(name)
        if have is None:
            continue
        if name == "flags" and isinstance(wanted, list) and isinstance(have, list):
            if missing := sorted(set(wanted) - set(have)):
                reasons.append(f"CPU flags missing here: {' '.join(missing[:8])}")
        elif wanted != have and not (name == "device" and have == "none"):
            reasons.append(f"{_SAID.get(name, name)}: {wanted} -> {have}")
    return reasons


_SAID = {"isa": "vector ISA", "python": "Python ABI", "libc": "C library", "device": "device"}


def nearest_of(wanted: Graph, candidates: list[Graph]) -> Graph | None:
    """The entry whose key differs least, newer ones first among equals."""
    comparable = [graph for graph in candidates if graph.components]
    rough = sorted(
        comparable,
        key=lambda graph: (len(differing_names(graph.named, wanted.named)), -graph.made_ms),
    )
    return min(rough[:_CLOSEST], key=lambda graph: _distance(graph, wanted), default=None)


def _distance(stored: Graph, wanted: Graph) -> float:
    """Over the graphs of an aotautograd entry one by one."""
    pairs = _pairs(stored, wanted)
    return sum(distance(by_name(old), by_name(new)) for old, new in pairs) / len(pairs)


def resemblance(stored: Graph, wanted: Graph) -> float:
    """From 0 to 1: what the code of two entries has in common, on average over their graphs."""
    pairs = _pairs(stored, wanted)
    return sum(likeness(by_name(old), by_name(new)) for old, new in pairs) / len(pairs)


def _pairs(stored: Graph, wanted: Graph) -> list[tuple[list[Component], list[Component]]]:
    old, new = graphs(stored.components), graphs(wanted.components)
    return list(zip(old, new, strict=False)) or [(stored.components, wanted.components)]


def compare(nearest: Graph, wanted: Graph) -> list[Cause]:
    """The differences of two keys as causes, each text once."""
    found: dict[str, Cause] = {}
    for old, new in _pairs(nearest, wanted):
        for d in differences(old, new):
            found.setdefault(
                d.text, Cause(d.kind, _of_builds(d.kind, d.text, nearest, wanted), d.rank)
            )
    causes = sorted(found.values(), key=lambda cause: cause.rank)
    if not causes and wanted.kind == "aotautograd":
        text = (
            f"{SAME_GRAPHS}; torch does not store what else an aotautograd key is made of "
            "(autograd settings, how inputs are used)"
        )
        causes = [Cause("unknown", text)]
    if causes and causes[0].kind in _OF_THE_MODEL and resemblance(nearest, wanted) < ALIKE:
        share = round(100 * resemblance(nearest, wanted))
        text = f"a new graph: the most similar stored one shares {share} % of its operators"
        causes = [Cause("graph", text, causes[0].rank - 1), *causes]
    return _explaining(causes, wanted.key, nearest.label())


def _of_builds(kind: str, text: str, nearest: Graph, wanted: Graph) -> str:
    """Names the builds where both entries say which they were made by."""
    if kind not in ("torch", "triton"):
        return text
    old, new = nearest.demands.get(kind), wanted.demands.get(kind)
    return f"{kind} {old} -> {new}" if old and new and old != new else text


def _told(result: Explained, kind: str, text: str) -> Explained:
    result.causes = [Cause(kind, text)]
    return _named(result)


def _unknown(result: Explained, text: str) -> Explained:
    result.known = False
    return _told(result, "unknown", text)


def _named(result: Explained) -> Explained:
    result.causes = _explaining(result.causes, result.key, result.nearest)
    return result


def _explaining(causes: list[Cause], key: str, nearest: str) -> list[Cause]:
    return [Cause(c.kind, c.text, c.rank, [key], nearest) for c in causes]
