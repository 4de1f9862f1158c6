"""The warm-ups of a store's caches as rows, and what they add up to.

Invariant: counts only what workers recorded; how far back that goes is told beside every sum.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from casinductor.inspect.facts import Facts
from casinductor.reports.warmup import WarmupReport, from_record
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import ulid_ms
from casinductor.store.store import Store
from casinductor.store.uses import DAY_MS
from casinductor.store.write.journal import Record, listed

#: Each is a small object that is read once by each machine.
MOST = 10_000


@dataclass
class RunLine:
    """One warm-up. ``run`` is its ULID, for ``explain --run``; graphs by what happened to them;
    times are seconds, ``started_ms`` Unix time.
    """

    run: str
    cache: str
    host: str
    started_ms: int
    hits: int
    misses: int
    bypasses: int
    kernels_built: int
    rebuilt: int
    refused: int
    lost: int
    saved_seconds: float
    spent_seconds: float
    torch: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Tally:
    """What the warm-ups of a time did together: ``days`` back, None for all that are kept."""

    days: int | None = None
    warmups: int = 0
    hits: int = 0
    misses: int = 0
    bypasses: int = 0
    rebuilt: int = 0
    refused: int = 0
    lost: int = 0
    saved_seconds: float = 0.0
    spent_seconds: float = 0.0

    @property
    def hit_rate(self) -> float | None:
        """Hits of all lookups, 0 to 1; None where there was none."""
        looked_up = self.hits + self.misses + self.bypasses
        return self.hits / looked_up if looked_up else None

    def add(self, line: RunLine) -> None:
        self.warmups += 1
        for name in ("hits", "misses", "bypasses", "rebuilt", "refused", "lost"):
            setattr(self, name, getattr(self, name) + getattr(line, name))
        self.saved_seconds += line.saved_seconds
        self.spent_seconds += line.spent_seconds

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "hit_rate": self.hit_rate}


def run_lines(store: Store, facts: Facts, cache: CacheId | None = None) -> list[RunLine]:
    """The recorded warm-ups of one cache or all, the newest first and at most :data:`MOST`;
    unreadable ones are left out.
    """
    store.require_there()
    names = [(owner, ulid) for owner, ulids in listed(store, cache).items() for ulid in ulids]
    names = sorted(names, key=lambda name: name[1], reverse=True)[:MOST]
    lines = []
    for record in facts.records(store, names):
        report = from_record(record.fields)
        if report is not None:
            lines.append(run_line(record, report))
    return sorted(lines, key=lambda line: line.run, reverse=True)


def run_line(record: Record, report: WarmupReport) -> RunLine:
    """One warm-up as a row."""
    fingerprint = report.worker.get("fingerprint")
    torch = fingerprint.get("torch") if isinstance(fingerprint, dict) else ""
    return RunLine(
        run=record.ulid,
        cache=str(record.cache),
        host=str(report.worker.get("host") or "?"),
        started_ms=report.started_ms or record.made_ms,
        hits=report.count("hit"),
        misses=report.count("miss"),
        bypasses=report.count("bypass"),
        kernels_built=report.kernels_built,
        rebuilt=len(report.rebuilt),
        refused=sum(report.refused.values()),
        lost=report.lost,
        saved_seconds=report.saved_seconds,
        spent_seconds=report.spent_seconds,
        torch=str(torch or ""),
    )


def tallies(
    lines: Iterable[RunLine], windows: tuple[int | None, ...] = (7, 30, None)
) -> list[Tally]:
    """What the warm-ups of each window of days add up to, by their names' time."""
    now = time.time() * 1000
    found = [Tally(days) for days in windows]
    for line in lines:
        for tally in found:
            if tally.days is None or now - ulid_ms(line.run) <= tally.days * DAY_MS:
                tally.add(line)
    return found
