"""A store and its fleet as Prometheus metrics, by the library ``prometheus-client``.

Invariant: seconds and bytes, no label for a worker, nothing that a scrape cannot act on. What
workers did is told for the last day: their records are no counters, as old ones are removed. The
list of metrics is ``docs/operations.md``'s, and the tests compare both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from casinductor.errors import Unsupported
from casinductor.inspect.accounts import accounts
from casinductor.inspect.facts import Facts
from casinductor.inspect.runs import Tally, run_lines
from casinductor.store.format.ulid import ulid_ms
from casinductor.store.stats import Figures, cache_lines, figures
from casinductor.store.store import Store
from casinductor.store.uses import DAY_MS
from casinductor.store.write.chores import Chore, last_chores

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily, Metric

_PREFIX = "casinductor"
_LABELS = ("gpu", "key")


def registry(store: Store, facts: Facts) -> CollectorRegistry:
    """A registry of its own with everything, for a file or an answer.

    Raises :class:`Unsupported` without the library, and what reading the store raises.
    """
    try:
        from prometheus_client import CollectorRegistry
    except ImportError as error:
        raise Unsupported(
            "metrics need prometheus-client: pip install 'casinductor[metrics]'"
        ) from error
    found = CollectorRegistry(auto_describe=False)
    found.register(_Collector(store, facts))
    return found


class _Collector:
    """Reads the store once, when it is made, and hands that out."""

    def __init__(self, store: Store, facts: Facts) -> None:
        self._figures = figures(store, None)
        self._caches = cache_lines(store, None)
        runs = run_lines(store, facts)
        since = time.time() * 1000 - DAY_MS
        recent = [run for run in runs if ulid_ms(run.run) >= since]
        self._accounts = {account.cache: account for account in accounts(store, runs, None)}
        self._day: dict[str, Tally] = {}
        for run in recent:
            self._day.setdefault(run.cache, Tally()).add(run)
        self._chores = last_chores(store.backend)

    def collect(self) -> Iterator[Metric]:
        yield from _store(self._figures)
        yield from _chores(self._chores)
        yield from self._of_caches()
        yield from self._of_the_day()

    def _of_caches(self) -> Iterator[Metric]:
        own = _gauge("cache_own_bytes", "Bytes that a cache alone needs.", _LABELS)
        shared = _gauge("cache_shared_bytes", "Bytes of packs that it shares.", _LABELS)
        used = _gauge("cache_last_used_timestamp_seconds", "Last restore or sync.", _LABELS)
        for line in self._caches:
            labels, account = [line.gpu, line.key], self._accounts.get(line.cache)
            used.add_metric(labels, line.used_ms / 1000)
            if account is not None:
                own.add_metric(labels, account.own_bytes)
                shared.add_metric(labels, account.shared_bytes)
        yield from (own, shared, used)

    def _of_the_day(self) -> Iterator[Metric]:
        graphs = _gauge(
            "day_graphs", "Graphs that warm-ups of the last day looked up.", (*_LABELS, "result")
        )
        plain = {
            name: _gauge(f"day_{name}", f"{what}, in warm-ups of the last day.", _LABELS)
            for name, what in _DAY.items()
        }
        for cache, tally in sorted(self._day.items()):
            gpu, _, key = cache.partition("/")
            for result, count in (
                ("hit", tally.hits),
                ("miss", tally.misses),
                ("bypass", tally.bypasses),
            ):
                graphs.add_metric([gpu, key, result], count)
            for name, family in plain.items():
                family.add_metric([gpu, key], getattr(tally, _FIELDS.get(name, name)))
        yield from (graphs, *plain.values())


_DAY = {
    "warmups": "Warm-ups",
    "saved_seconds": "Compile time that hits saved",
    "spent_seconds": "Compile time that was spent",
    "rebuilt_kernels": "Kernels compiled although nothing missed",
    "refused_groups": "Groups that workers could not load",
    "lost_groups": "Groups that the store could not give",
}
_FIELDS = {"rebuilt_kernels": "rebuilt", "refused_groups": "refused", "lost_groups": "lost"}


def _store(found: Figures) -> Iterator[Metric]:
    for name, what, value in (
        ("stored_bytes", "Bytes of packs and manifests.", found.stored_bytes),
        ("logical_bytes", "Bytes of all artifacts of all caches.", found.logical_bytes),
        ("unique_bytes", "Bytes of all distinct blobs.", found.unique_bytes),
        ("caches", "Caches.", found.caches),
        ("groups", "Groups of artifacts.", found.groups),
        ("packs", "Packs.", found.packs),
        ("manifests", "Manifests.", found.manifests),
        ("unreadable_manifests", "Manifests that cannot be read.", len(found.damage)),
    ):
        family = _gauge(f"store_{name}", what)
        family.add_metric([], value)
        yield family


def _chores(found: dict[str, Chore]) -> Iterator[Metric]:
    last = _gauge("last_run_timestamp_seconds", "When it was last done.", ("command",))
    taken = _gauge("last_run_duration_seconds", "How long that took.", ("command",))
    problems = _gauge("last_run_problems", "What it found wrong.", ("command",))
    for kind, chore in sorted(found.items()):
        last.add_metric([kind], chore.done_ms / 1000)
        taken.add_metric([kind], chore.seconds)
        problems.add_metric([kind], chore.problems)
    yield from (last, taken, problems)


def _gauge(name: str, what: str, labels: tuple[str, ...] = ()) -> GaugeMetricFamily:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"{_PREFIX}_{name}", what, labels=labels)
