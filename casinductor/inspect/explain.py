"""Explains a worker's run, or why the graphs of one place are not found in another.

Invariant: works from what is stored, without torch; each miss that the run's record has gets a
cause or an honest "cannot be known".
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from casinductor.errors import CacheNotFound
from casinductor.families.place import Kind
from casinductor.inspect.causes import BYPASSES, Cause, bypass_kind, merge_causes
from casinductor.inspect.engines import engine_causes
from casinductor.inspect.facts import Facts
from casinductor.inspect.graphs import Graph, of_view
from casinductor.inspect.misses import SAME_GRAPHS, Explained, explain
from casinductor.inspect.view import View, look_at
from casinductor.reports.warmup import Rebuilt, WarmupReport, from_record, split
from casinductor.store.format.names import CacheId
from casinductor.store.store import Store
from casinductor.store.write.journal import Record, listed, read_record
from casinductor.util.human import counted

_KINDS = (Kind.FXGRAPH.value, Kind.AOTAUTOGRAD.value, Kind.CPP.value, Kind.INDEX.value)
#: Among so many of the newest warm-ups the one to explain is looked for.
_LOOKED_AT = 50


@dataclass
class Explanation:
    """``subject`` says what was explained; ``causes`` sum up those of ``graphs`` and rebuilds, the
    most likely first; ``run`` is the warm-up, if it was one.
    """

    subject: str
    causes: list[Cause] = field(default_factory=list)
    graphs: list[Explained] = field(default_factory=list)
    run: WarmupReport | None = None
    ulid: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "causes": [cause.as_dict() for cause in self.causes],
            "graphs": [graph.as_dict() for graph in self.graphs],
            "run": self.run.as_dict() if self.run else None,
            "record": self.ulid,
        }


def last_run(
    store: Store, cache: CacheId, worker: str | None = None, ulid: str | None = None
) -> tuple[Record, WarmupReport]:
    """The newest warm-up of a cache, of one worker's host, or the one of this name.

    Raises :class:`CacheNotFound` where there is none.
    """
    for name in listed(store, cache).get(cache, [])[: None if ulid else _LOOKED_AT]:
        if ulid and name != ulid:
            continue
        record = read_record(store, cache, name)
        report = from_record(record.fields)
        if report and (worker is None or report.worker.get("host") == worker):
            return record, report
    which = f" of worker {worker}" if worker else f" named {ulid}" if ulid else ""
    raise CacheNotFound(f"{store.backend.url} holds no warm-up record{which} of {cache}")


def explain_run(store: Store, facts: Facts, record: Record, run: WarmupReport) -> Explanation:
    """Explain what one warm-up missed and rebuilt."""
    cache = record.cache
    view = look_at(store, facts, cache, *_KINDS, runs=0)
    here = of_view(view, facts)
    made = [graph for graph in here if run.made(graph.origin)]
    pool = [graph for graph in here if graph not in made]
    pool += _elsewhere(store, facts, cache)
    worker = run.worker.get("fingerprint")
    worker = worker if isinstance(worker, dict) else {}
    explained = [
        _explained(cache_, status, key, reason, guard, made or here, pool, worker, run)
        for cache_, status, key, reason, guard in _missed(run, made)
    ]
    _follow(explained, here)
    again = [*_restarted(run, explained, here), *_rebuilt(run, view)]
    _name_seeds(run, explained)
    engine = engine_causes(run, view, _earlier(store, record))
    if engine:  # it looked below another name, where nothing of what is stored can be
        for graph in explained:
            graph.causes = [c for c in graph.causes if c.kind not in ("unrestored", "late")]
    again += engine
    causes = merge_causes([graph.causes for graph in explained] + [[cause] for cause in again])
    causes = [cause for cause in causes if cause.kind != "follows"] or causes
    subject = f"{cache}: warm-up {record.ulid} of worker {run.worker.get('host', '?')}"
    return Explanation(subject, causes, explained, run, record.ulid)


def _earlier(store: Store, record: Record) -> list[Record]:
    """The warm-ups of the same cache before one, the newest first."""
    names = [n for n in listed(store, record.cache).get(record.cache, []) if n < record.ulid]
    return [read_record(store, record.cache, name) for name in names[:_LOOKED_AT]]


def _name_seeds(run: WarmupReport, explained: list[Explained]) -> None:
    """An aotautograd key that differs although its graphs and settings are stored ones may depend
    on the process's hash seed (pytorch#170683, #193418).
    """
    seed = str(run.worker.get("hash_seed", "random"))
    if seed != "random":
        return
    for graph in explained:
        for cause in graph.causes:
            if cause.kind == "unknown" and cause.text.startswith(SAME_GRAPHS):
                cause.kind = "seed"
                cause.text = (
                    f"{SAME_GRAPHS}, and PYTHONHASHSEED was not set: for some graphs torch's "
                    "aotautograd key depends on it"
                )


Missed = tuple[str, str, str, str, str]


def _missed(run: WarmupReport, made: list[Graph]) -> list[Missed]:
    """(cache, status, key, reason, guard) of what did not hit; without a trace, what was made."""
    told = [
        (h.cache, h.status, h.key, h.reason, h.guard) for h in run.happened if h.status != "hit"
    ]
    if run.happened:
        return told
    return [(graph.kind, "miss", graph.key, "", "") for graph in made]


def _explained(
    kind: str,
    status: str,
    key: str,
    reason: str,
    guard: str,
    made: list[Graph],
    pool: list[Graph],
    worker: dict[str, Any],
    run: WarmupReport,
) -> Explained:
    if status == "bypass":
        text = f"torch does not cache it: {reason or 'it gives no reason'}"
        return Explained(key, kind, [Cause(bypass_kind(reason), text, 0.0, [key])])
    wanted = next((g for g in made if g.key == key and g.kind == kind), None)
    if wanted is None:
        stored = [g for g in pool if g.key == key and g.kind == kind]
        wanted = Graph(kind, key, None, "this worker", list, opaque="it was not stored")
        if not stored:
            return explain(wanted, pool, worker, run.started_ms)
        wanted.guards = stored[0].guards
    result = explain(wanted, pool, worker, run.started_ms)
    if guard and any(cause.kind == "guard" for cause in result.causes):
        for cause in result.causes:
            cause.text += f" (torch looked at `{guard}`)" if guard not in cause.text else ""
    return result


def _elsewhere(store: Store, facts: Facts, cache: CacheId) -> list[Graph]:
    """The same key's entries of other GPU types."""
    found: list[Graph] = []
    for other in store.caches():
        if other.key == cache.key and other != cache:
            found += of_view(look_at(store, facts, other, *_KINDS[:2], runs=0), facts)
    return found


def _follow(explained: list[Explained], here: list[Graph]) -> None:
    """An aotautograd entry whose graphs missed has their causes and none of its own."""
    missed = {graph.key for graph in explained if graph.kind == "fxgraph"}
    for result in explained:
        if result.kind != "aotautograd" or not result.causes:
            continue
        if result.causes[0].kind in ("guard", "worker", "late", "unrestored", *BYPASSES):
            continue
        owners = [g for g in here if g.key == result.key and g.kind == result.kind]
        followed = sorted({key for graph in owners for key in graph.fx_keys} & missed)
        if followed:
            text = f"it misses with its graphs ({', '.join(key[:12] for key in followed)})"
            result.causes = [Cause("follows", text, 0.0, [result.key])]


def _restarted(run: WarmupReport, explained: list[Explained], here: list[Graph]) -> list[Cause]:
    """aotautograd lookups that left nothing while every graph hit; they have no other cause."""
    if not run.restarted:
        return []
    stored = {graph.key for graph in here if graph.kind == "aotautograd"}
    without = [g for g in explained if g.kind == "aotautograd" and g.key not in stored]
    for graph in without:
        graph.causes = []
    number = len(without) if run.happened else run.restarted
    if not number:
        return []
    text = (
        f"{counted(number, 'aotautograd lookup')} missed and left nothing, while every graph hit: "
        "torch began the analysis of these frames anew, or their backward never ran"
    )
    return [Cause("restart", text, 0.0, [graph.key for graph in without])]


def _rebuilt(run: WarmupReport, view: View) -> list[Cause]:
    """What was compiled although nothing that missed accounts for it."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    sources = {i.version.id: i.fact.get("source") for i in view.of(Kind.CPP.value)}
    others = _passed_over(run, view)
    for item in run.rebuilt:
        groups[_cause_of(item, sources, others)].append(item.path)
    causes = [
        Cause(
            kind,
            f"{counted(len(paths), 'kernel')} {_SAID.get(kind, 'rebuilt')}: {why}",
            -1.0,
            paths,
        )
        for (kind, why), paths in groups.items()
    ]
    if run.worker.get("compiler") == "":
        text = "there is no C++ compiler in PATH, so torch fails though everything is cached"
        causes.append(Cause("compiler", text, -2.0))
    if run.headers_built:
        text = "torch built its precompiled C++ header, which no cache directory holds"
        causes.append(Cause("header", text, -0.5))
    return causes


_SAID = {"moved cache": "tuned again"}


def _passed_over(run: WarmupReport, view: View) -> set[Any]:
    """The sources of stored kernels that this run neither made nor read.

    Those it made or read do not tell of another command: torch itself compiles some of its probes
    twice from one source, with other flags.
    """
    used = set(split(run.used))
    return {
        i.fact.get("source")
        for i in view.of(Kind.CPP.value)
        if not run.made(i.version.origin) and i.version.content[:8].hex() not in used
    }


def _cause_of(item: Rebuilt, sources: dict[str, Any], others: set[Any]) -> tuple[str, str]:
    """A cause's kind and text; a kernel that nobody stored may be stored under another name:
    ``sources`` by name, and ``others``, those of kernels that were passed over.
    """
    kind = item.cause or "absent"
    if item.kind != "cpp" or kind != "absent":
        return kind, item.why
    source = sources.get(item.path.removesuffix(".so"))
    if source and source in others:
        return "command", (
            "the same source is stored under another name, so the command that compiles it "
            "differs (compiler, flags, paths of Python's or torch's headers)"
        )
    return kind, item.why


def explain_sets(wanted: list[Graph], stored: list[Graph], subject: str) -> Explanation:
    """Why entries of one place do not hit in another."""
    have = {(graph.kind, graph.key, graph.guards) for graph in stored}
    lacking = [graph for graph in wanted if (graph.kind, graph.key, graph.guards) not in have]
    explained = [explain(graph, stored, {}) for graph in lacking]
    _follow(explained, wanted)
    return Explanation(subject, merge_causes([graph.causes for graph in explained]), explained)


def explain_pair(wanted: Graph, stored: Graph, subject: str) -> Explanation:
    """What differs between two entries."""
    if (wanted.key, wanted.guards) == (stored.key, stored.guards):
        return Explanation(subject)
    result = explain(wanted, [stored], {})
    return Explanation(subject, result.causes, [result])
