"""What ``--json`` prints, command by command, as JSON Schema (draft 2020-12).

Invariant: made from the types whose fields are printed, so a field that is renamed changes the
schema; ``docs/schema`` holds it as published, and the tests hold both together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from casinductor.cli.hide import HiddenLine
from casinductor.cli.key import KeyLine
from casinductor.inductor.interpreter import Interpreter
from casinductor.inspect.accounts import Account
from casinductor.inspect.causes import Cause
from casinductor.inspect.checkup import Checkup
from casinductor.inspect.diff import CacheDifference
from casinductor.inspect.explain import Explanation
from casinductor.inspect.export import Exported
from casinductor.inspect.image import Image
from casinductor.inspect.runs import RunLine, Tally
from casinductor.inspect.show import Shown
from casinductor.inspect.tables import GraphRow, KernelRow
from casinductor.pruning import PruneReport
from casinductor.reports.transfer import RestoreReport, SyncReport
from casinductor.reports.warmup import Happened, WarmupReport
from casinductor.store.maintain.collect import CollectReport
from casinductor.store.maintain.compact import CompactReport
from casinductor.store.maintain.copying import CopyReport
from casinductor.store.maintain.hiding import HideReport
from casinductor.store.maintain.removal import RemovalReport
from casinductor.store.maintain.resign import ResignReport
from casinductor.store.signers import SignerLine
from casinductor.store.stats import CacheLine, Figures, GroupLine, KindLine
from casinductor.store.verify.check import CheckReport
from casinductor.store.verify.repair import RepairReport

#: Raised when a field is renamed, removed or changes its meaning; new ones may come at any time.
VERSION = 1


@dataclass(frozen=True)
class Document:
    """One command's document: an object of type ``shape``, or a list of them (``rows``).

    ``more``: what is printed beside its fields, by type.
    """

    shape: type
    rows: bool = False
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Report:
    """The file that ``report`` wrote, its bytes, and the warm-ups in it."""

    path: str
    bytes: int
    runs: int


@dataclass
class DemoWorker:
    """What one fresh process of the demo did; ``compiler_runs``: libraries that it compiled."""

    worker: str
    first_call_seconds: float
    hits: int
    misses: int
    compiler_runs: int
    checksum: float
    restore: RestoreReport
    sync: SyncReport
    warmup: str


@dataclass
class Pair:
    """The files of a new key pair, and its id."""

    private: str
    public: str
    keyid: str


@dataclass
class Failure:
    """What a command that fails prints to standard error, below ``error``."""

    code: str
    status: int
    message: str


#: By command, with a word that says which if it has several.
DOCUMENTS: dict[str, Document] = {
    "push": Document(SyncReport),
    "pull": Document(RestoreReport),
    "worker": Document(Interpreter),
    "assert-warm": Document(WarmupReport, more={"record": str, "compiled": list[str]}),
    "demo": Document(DemoWorker, rows=True),
    "ls": Document(CacheLine, rows=True),
    "ls CACHE": Document(GroupLine, rows=True),
    "ls --by-kind": Document(KindLine, rows=True),
    "stats": Document(Figures, more={"warmups": list[Tally], "by_cache": list[Account]}),
    "runs": Document(RunLine, rows=True),
    "inspect": Document(GraphRow, rows=True),
    "kernels": Document(KernelRow, rows=True),
    "show": Document(Shown),
    "diff": Document(CacheDifference),
    "explain": Document(Explanation),
    "doctor": Document(Checkup, rows=True),
    "report": Document(Report),
    "catalog": Document(Exported),
    "copy": Document(CopyReport, rows=True),
    "copy --image": Document(Image),
    "prune": Document(PruneReport),
    "gc": Document(CollectReport),
    "compact": Document(CompactReport),
    "rm": Document(RemovalReport),
    "undelete": Document(RemovalReport),
    "check": Document(CheckReport),
    "repair": Document(RepairReport),
    "key new": Document(Pair),
    "key show": Document(KeyLine, rows=True),
    "trust": Document(SignerLine, rows=True),
    "resign": Document(ResignReport, rows=True),
    "hide": Document(HideReport),
    "hide --list": Document(HiddenLine, rows=True),
    "unhide": Document(HideReport),
    "any, failing": Document(Failure),
}

_REF = "#/$defs/{name}"
#: What types print otherwise than their fields stand: fields by type, None for none.
_PRINTED: dict[type, dict[str, Any]] = {
    CacheLine: {"cache": str},
    Tally: {"hit_rate": float | None},
    Account: {"hit_rate": float | None, "days": None},
    Cause: {"advice": str},
    Explanation: {"record": str, "ulid": None},
    WarmupReport: {"used": list[str], "unused": list[str]},
    RestoreReport: {"refusals": dict[str, int], "refused": int},
    Shown: {"lexer": None, "data": str | None},
}


def schema(name: str) -> dict[str, Any]:
    """The schema of one of :data:`DOCUMENTS`."""
    document = DOCUMENTS[name]
    (root,), components = msgspec.json.schema_components([document.shape], ref_template=_REF)
    own = components[document.shape.__name__]
    for field_name, kind in document.more.items():
        own["properties"][field_name] = _of(kind, components)
    for printed, changes in _PRINTED.items():
        if printed.__name__ in components:
            _change(components[printed.__name__], changes, components)
    for title, component in components.items():
        if "properties" in component and title != Happened.__name__:  # leaves out what is empty
            component["required"] = sorted(component["properties"])
            for told in component["properties"].values():
                told.pop("default", None)
    shape = {"type": "array", "items": root} if document.rows else root
    if document.shape is Failure:
        shape = {"type": "object", "properties": {"error": root}, "required": ["error"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"casinductor {name} --json",
        "$comment": f"version {VERSION}",
        **shape,
        "$defs": dict(sorted(components.items())),
    }


def _change(component: dict[str, Any], changes: dict[str, Any], known: dict[str, Any]) -> None:
    for name, kind in changes.items():
        if kind is None:
            component["properties"].pop(name, None)
        else:
            component["properties"][name] = _of(kind, known)


def _of(kind: Any, known: dict[str, Any]) -> dict[str, Any]:
    (found,), more = msgspec.json.schema_components([kind], ref_template=_REF)
    for name, component in more.items():
        known.setdefault(name, component)
    return found
