"""The figures of a report page: bytes by kind and name, growth, runs and reasons, idle groups.

Invariant: nothing here draws; every figure comes from views, the catalog or warm-up records, and
``logical``, ``unique`` and ``stored`` mean what ``store.stats`` says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from casinductor.errors import CasinductorError
from casinductor.families.place import Kind
from casinductor.inspect.explain import explain_run
from casinductor.inspect.facts import Facts
from casinductor.inspect.tables import GraphRow, KernelRow, graph_rows, kernel_rows
from casinductor.inspect.view import Item, View, look_at
from casinductor.reports.warmup import WarmupReport, from_record
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import is_ulid, ulid_ms
from casinductor.store.stats import Figures, figures
from casinductor.store.store import Store
from casinductor.store.write.journal import Record

_RUNS = 200
_EXPLAINED = 20


@dataclass
class Leaf:
    """Bytes of one named thing: its cache, kind and name."""

    cache: str
    kind: str
    name: str
    bytes: int


@dataclass
class Run:
    """One warm-up and the reasons for its misses, the most likely first."""

    record: Record
    report: WarmupReport
    reasons: list[str] = field(default_factory=list)


@dataclass
class Idle:
    """A group that warm-ups restored and never read."""

    cache: str
    kind: str
    name: str
    bytes: int
    restored: int


@dataclass
class Summary:
    """``growth``: Unix milliseconds, logical and stored bytes so far, in order of time."""

    store: str
    caches: list[CacheId]
    figures: Figures
    leaves: list[Leaf] = field(default_factory=list)
    growth: list[tuple[int, int, int]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    graphs: list[tuple[str, GraphRow]] = field(default_factory=list)
    kernels: list[tuple[str, KernelRow]] = field(default_factory=list)
    idle: list[Idle] = field(default_factory=list)

    @property
    def hits(self) -> int:
        return sum(run.report.count("hit") for run in self.runs)

    @property
    def lookups(self) -> int:
        return sum(sum(run.report.graphs.values()) for run in self.runs)


def summarize(store: Store, facts: Facts, cache: CacheId | None) -> Summary:
    """The figures of one cache, or of the whole store. Raises :class:`CacheNotFound`."""
    found = Summary(store.backend.url, [], figures(store, cache))
    if cache is not None:
        found.caches = [cache]
    else:
        found.caches = store.catalog.manifests.caches()
    born: list[tuple[int, int]] = []
    for number, one in enumerate(found.caches):
        store.watch("reading caches", number, len(found.caches), "caches")
        view = look_at(store, facts, one, runs=_RUNS, fresh=cache is not None)
        found.leaves += _leaves(view, facts)
        found.graphs += [(str(one), row) for row in graph_rows(view)]
        found.kernels += [(str(one), row) for row in kernel_rows(view, facts)]
        found.idle += _idle(view, facts)
        found.runs += _runs(store, facts, view)
        born += [(item.made_ms, item.bytes) for item in view.items]
    found.growth = _growth(born, _packs(store, cache))
    found.runs.sort(key=lambda run: run.record.ulid)
    found.graphs.sort(key=lambda pair: -(pair[1].own_seconds or 0))
    found.kernels.sort(key=lambda pair: (-(pair[1].stack_bytes or 0), -(pair[1].registers or 0)))
    found.idle.sort(key=lambda idle: -idle.bytes)
    return found


def _names(view: View, facts: Facts) -> dict[str, str]:
    """What kernels are called, by hash."""
    return {row.hash: row.name for row in kernel_rows(view, facts)}


def _title(item: Item, names: dict[str, str]) -> str:
    stem = item.version.id.rpartition("/")[2]
    if item.version.kind in (Kind.FXGRAPH.value, Kind.AOTAUTOGRAD.value):
        return str(item.fact.get("key") or stem)[:16]
    if item.version.kind == Kind.TUNING.value:
        return names.get(str(item.fact.get("kernel")), stem[:16])
    known = names.get(stem.removesuffix(".main"))
    return known or stem.removesuffix(".main").removesuffix(".py")[:16]


def _leaves(view: View, facts: Facts) -> list[Leaf]:
    names = _names(view, facts)
    total: dict[tuple[str, str], int] = defaultdict(int)
    for item in view.items:
        total[item.version.kind, _title(item, names)] += item.bytes
    return [Leaf(str(view.cache), kind, name, n) for (kind, name), n in sorted(total.items())]


def _idle(view: View, facts: Facts) -> list[Idle]:
    names = _names(view, facts)
    return [
        Idle(str(view.cache), i.version.kind, _title(i, names), i.bytes, i.restored)
        for i in view.items
        if i.restored and not i.used
    ]


def _runs(store: Store, facts: Facts, view: View) -> list[Run]:
    runs = []
    for record in view.runs:
        report = from_record(record.fields)
        if report is not None:
            runs.append(Run(record, report))
    for run in [r for r in runs if r.report.count("miss") or r.report.rebuilt][-_EXPLAINED:]:
        try:
            found = explain_run(store, facts, run.record, run.report)
        except CasinductorError as error:
            run.reasons = [f"cannot be explained: {error}"]
        else:
            run.reasons = [cause.text for cause in found.causes if cause.kind != "follows"][:3]
    return runs


def _packs(store: Store, cache: CacheId | None) -> list[tuple[int, int]]:
    """When each pack was made (Unix milliseconds), and its bytes."""
    if cache is None:
        packs: Iterable[tuple[str, int]] = store.packs().items()
    else:
        packs = store.catalog.packs.of_cache(cache)
    return [(ulid_ms(ulid), size) for ulid, size in packs if is_ulid(ulid)]


def _growth(
    born: list[tuple[int, int]], packed: list[tuple[int, int]]
) -> list[tuple[int, int, int]]:
    steps: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for column, events in ((0, born), (1, packed)):
        for when, size in events:
            steps[when][column] += size
    found, logical, stored = [], 0, 0
    for when in sorted(steps):
        logical, stored = logical + steps[when][0], stored + steps[when][1]
        found.append((when, logical, stored))
    return found
