"""Why an engine looked for its compiled code under another name: what its own key was made of.

Invariant: only what a run compiled needs a cause, and what is compared was written down by the
engine itself: vLLM's ``cache_key_factors.json``, and its configuration as its processes told it.
"""

from __future__ import annotations

from typing import Any

from casinductor.families.place import Kind
from casinductor.inspect.causes import Cause
from casinductor.inspect.view import Item, View
from casinductor.reports.warmup import WarmupReport, from_record
from casinductor.store.write.journal import Record

_SHOWN = 6
_ENVIRONMENT = "env"
#: What the digests in vLLM's factors stand for.
_DIGESTS = {
    "config_hash": "its configuration (model, limits, parallelism)",
    "code_hash": "the source files that it traced",
    "compiler_hash": "its compiler's settings and torch's build",
}


def engine_causes(run: WarmupReport, view: View, earlier: list[Record]) -> list[Cause]:
    """Causes of a run that compiled, from the run's engine and the ``earlier`` records' and from
    the key factors that were stored, the run's own beside others.
    """
    if not run.compiled:
        return []
    causes = _other_configuration(run, earlier)
    items = view.of(Kind.INDEX.value)
    made = [item for item in items if run.made(item.version.origin)]
    others = [item for item in items if item not in made and _factors(item)]
    for item in made:
        causes += _other_factors(item, others)
    return causes


def _other_configuration(run: WarmupReport, earlier: list[Record]) -> list[Cause]:
    """How the engine's configuration differs from that of the earlier run that is most like it."""
    mine = run.worker.get("engine")
    reports = [from_record(record.fields) for record in earlier]
    known = [report.worker.get("engine") for report in reports if report is not None]
    others = [other for other in known if isinstance(other, dict) and other]
    if not isinstance(mine, dict) or not mine or not others or mine in others:
        return []
    nearest = min(others, key=lambda other: len(_changed(other, mine)))
    return [Cause("engine", f"vLLM: {_listed(_changed(nearest, mine))}", -1.5, ["vLLM's key"])]


def _other_factors(item: Item, others: list[Item]) -> list[Cause]:
    mine = _factors(item)
    candidates = [other for other in others if _place(other) == _place(item)]
    if not mine or not candidates:
        return []
    nearest = min(candidates, key=lambda other: len(_differences(_factors(other), mine)))
    differing = _differences(_factors(nearest), mine)
    if not differing:
        return []
    text = f"vLLM's key: {_listed(differing)}"
    return [Cause("engine", text, -1.4, [item.version.id], nearest.version.id)]


def _factors(item: Item) -> dict[str, Any]:
    found = item.fact.get("factors")
    return found if isinstance(found, dict) else {}


def _place(item: Item) -> str:
    """Rank and tag: of the same place in the model."""
    return "/".join(item.version.id.split("/")[-2:])


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs: variables with their values, digests by what they stand for."""
    one, other = before.get(_ENVIRONMENT), now.get(_ENVIRONMENT)
    found = []
    if isinstance(one, dict) and isinstance(other, dict):
        found = _changed(one, other)
    found += [what for name, what in _DIGESTS.items() if before.get(name) != now.get(name)]
    return found


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    names = sorted(before.keys() | now.keys())
    return [
        f"{name}: {_shown(before.get(name))} -> {_shown(now.get(name))}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _shown(value: object) -> str:
    return "unset" if value is None else str(value)[:200]


def _listed(parts: list[str]) -> str:
    more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return "; ".join(parts[:_SHOWN]) + more
