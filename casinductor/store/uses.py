"""When caches were last used, by the marks that restores and syncs leave.

Invariant: a mark stands for the whole of its ten seconds or its day, so nothing looks older than it
is.
"""

from __future__ import annotations

import calendar
import time
from collections import defaultdict

from casinductor.store.format import names
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import ulid_ms
from casinductor.store.marks import SLOT_SECONDS
from casinductor.store.store import Store

DAY_MS = 86_400_000
Uses = dict[CacheId, set[str]]


def marks_of_use(store: Store) -> Uses:
    """The days on which each cache was used, by a fresh listing."""
    found: Uses = defaultdict(set)
    for item in store.backend.list(f"{names.USES}/", recursive=True):
        parsed = names.parse_use(item.name)
        if parsed:
            found[parsed[0]].add(parsed[1])
    return dict(found)


def last_use(days: set[str], origins: set[str], now: float) -> float:
    """When a cache was last restored or synced, in Unix milliseconds, never later than ``now``.

    A mark of use stands for the whole of its ten seconds or its day.
    """
    ends = [end for day in days if (end := _end_of(day)) is not None]
    return min(max([*ends, *map(ulid_ms, origins)], default=0.0), now)


def _end_of(mark: str) -> float | None:
    """The last millisecond that a mark of use stands for: of its day, or of its ten seconds."""
    long = "T" in mark
    try:
        start = time.strptime(mark, "%Y-%m-%dT%H%M%S" if long else "%Y-%m-%d")
    except ValueError:
        return None
    return calendar.timegm(start) * 1000.0 + (SLOT_SECONDS * 1000 if long else DAY_MS) - 1
