"""OpenTelemetry spans and metrics of restores and syncs, for programs that use OpenTelemetry.

Invariant: nothing is imported and nothing is told unless the program itself has imported
``opentelemetry`` (whoever configures it has); a fault in telling is never a fault of the work.
Names are in ``docs/operations.md``, "OpenTelemetry"; units are seconds (``s``) and bytes (``By``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, wraps
from time import perf_counter
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from casinductor.cache import Cache

P = ParamSpec("P")
R = TypeVar("R")

_NAME = "casinductor"
#: Fields of reports that become attributes of spans and, of those with a unit, counters.
_COUNTED = {
    "restore": {"bytes_read": "By", "bytes_written": "By", "files_written": "{file}"},
    "sync": {"bytes_uploaded": "By", "files_added": "{file}", "groups_added": "{group}"},
}


def told(verb: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a method of :class:`~casinductor.cache.Cache` tell what it did."""

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        @wraps(method)
        def wrapper(*args: P.args, **given: P.kwargs) -> R:
            if "opentelemetry" not in sys.modules:
                return method(*args, **given)
            with _span(verb, cast("Cache", args[0])) as tell:
                report = method(*args, **given)
                tell(report)
                return report

        return wrapper

    return decorate


@contextmanager
def _span(verb: str, cache: Cache) -> Iterator[Callable[[Any], None]]:
    try:
        from opentelemetry import metrics, trace
    except ImportError:
        yield lambda _: None
        return
    start = perf_counter()
    attributes = {"casinductor.gpu": cache.id.gpu, "casinductor.key": cache.id.key}
    tracer = trace.get_tracer(_NAME)
    with tracer.start_as_current_span(f"{_NAME}.{verb}", attributes=attributes) as span:
        instruments = _instruments(metrics.get_meter_provider())

        def tell(report: Any) -> None:
            with suppress(Exception):
                _tell(verb, report, span, instruments, attributes)

        outcome = "error"
        try:
            yield tell
            outcome = "ok"
        finally:
            with suppress(Exception):
                labels = {**attributes, "casinductor.outcome": outcome}
                instruments[f"{verb}.duration"].record(perf_counter() - start, labels)


def _tell(
    verb: str, report: Any, span: Any, instruments: dict[str, Any], attributes: dict[str, str]
) -> None:
    for name in _COUNTED[verb]:
        value = getattr(report, name)
        span.set_attribute(f"{_NAME}.{name}", value)
        instruments[f"{verb}.{name}"].add(value, attributes)
    if verb == "restore":
        span.set_attribute(f"{_NAME}.source", report.source)
        instruments["groups.refused"].add(sum(report.refused.values()), attributes)
        instruments["groups.lost"].add(report.lost, attributes)
        return
    warmup = report.warmup
    if warmup is None:
        return
    for result in ("hit", "miss", "bypass"):
        count = warmup.count(result)
        span.set_attribute(f"{_NAME}.graphs.{result}", count)
        instruments["graphs"].add(count, {**attributes, f"{_NAME}.result": result})
    instruments["compile.saved"].add(warmup.saved_seconds, attributes)
    instruments["compile.spent"].add(warmup.spent_seconds, attributes)


@lru_cache(maxsize=2)
def _instruments(provider: Any) -> dict[str, Any]:
    """The instruments of a provider, each made once."""
    meter = provider.get_meter(_NAME)
    made: dict[str, Any] = {
        "graphs": meter.create_counter(f"{_NAME}.graphs", "{graph}", "Graphs by result."),
        "compile.saved": meter.create_counter(
            f"{_NAME}.compile.saved", "s", "Compile time that hits saved."
        ),
        "compile.spent": meter.create_counter(
            f"{_NAME}.compile.spent", "s", "Compile time that was spent."
        ),
        "groups.refused": meter.create_counter(
            f"{_NAME}.groups.refused", "{group}", "Groups that this worker could not load."
        ),
        "groups.lost": meter.create_counter(
            f"{_NAME}.groups.lost", "{group}", "Groups that the store could not give."
        ),
    }
    for verb, fields in _COUNTED.items():
        made[f"{verb}.duration"] = meter.create_histogram(
            f"{_NAME}.{verb}.duration", "s", f"How long a {verb} took."
        )
        for name, unit in fields.items():
            made[f"{verb}.{name}"] = meter.create_counter(f"{_NAME}.{verb}.{name}", unit)
    return made
