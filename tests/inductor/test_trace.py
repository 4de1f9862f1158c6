"""The structured trace: events as torch logs them, and nothing that could disturb torch."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from casinductor.inductor import counters
from casinductor.inductor.trace import MAX_EVENTS, Event, Trace, saved_ns

LOGGER = logging.getLogger("torch.__trace")


@pytest.fixture(autouse=True)
def _no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever caches other tests left open, and pytest, which listens to loggers that do not
    propagate, as torch makes this one where a test imported it.
    """
    monkeypatch.setattr(LOGGER, "handlers", [])
    monkeypatch.setattr(LOGGER, "propagate", True)


@pytest.fixture
def trace() -> Any:
    made = Trace()
    LOGGER.setLevel(logging.DEBUG)
    made.start()
    yield made
    made.stop()


def log(name: str, payload: object, frame: int = 0) -> None:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    metadata = {"artifact": {"name": name, "encoding": "json"}, "frame_id": frame}
    LOGGER.debug("", extra={"metadata": metadata, "payload": text})


def test_events_are_kept_with_what_they_say(trace: Trace) -> None:
    told = {"key": "fabc", "cache_status_detailed": "guard_miss", "time_taken_ns": 5}
    log("fx_graph_cache_miss", {**told, "cache_status_guard_expr": "s0 < 4", "components": ["x"]})
    log("aotautograd_cache_bypass", {"cache_bypass_reason": "no idea", "key": None})
    log("inductor_output_code", "code")
    miss, bypass = trace.events
    assert miss == Event("fxgraph", "miss", "fabc", "guard_miss", "s0 < 4", frame="0/", taken_ns=5)
    assert (bypass.cache, bypass.status, bypass.reason) == ("aotautograd", "bypass", "no idea")


def test_torch_2_5_says_the_status_inside(trace: Trace) -> None:
    told = {"key": "fabc", "cache_state": "hit", "time_saved_ns": 7, "components": ["[a] gm: x"]}
    log("fx_graph_cache_hash", told)
    log("aotautograd_cache_hash", {"key": None, "cache_state": "bypass"})
    log("fx_graph_cache_hash", {"key": "fabc"})
    hit, bypass = trace.events
    assert hit == Event("fxgraph", "hit", "fabc", frame="0/", saved_ns=7)
    assert (bypass.cache, bypass.status) == ("aotautograd", "bypass")


def trace_structured(name: str, metadata_fn: Any, payload_fn: Any) -> None:
    """As torch does: render only where there are handlers."""
    if LOGGER.handlers:
        extra = {"metadata": {name: metadata_fn()}, "payload": payload_fn()}
        LOGGER.debug("", extra=extra)


def test_only_what_is_kept_is_rendered(trace: Trace) -> None:
    rendered: list[str] = []

    def payload(text: str) -> Callable[[], str]:
        def render() -> str:
            rendered.append(text)
            return text

        return render

    trace_structured("artifact", lambda: {"name": "fx_graph_cache_hit"}, payload("{}"))
    trace_structured("artifact", lambda: {"name": "inductor_output_code"}, payload("code"))
    trace_structured("dynamo_output_graph", dict, payload("graph"))
    trace_structured("artifact", lambda: 1 / 0, payload("broken"))
    assert rendered == ["{}"]
    assert [event.status for event in trace.events] == ["hit"]
    assert not LOGGER.handlers, "whoever else asks is told that nobody listens"


def test_handlers_of_others_get_everything(trace: Trace) -> None:
    records: list[logging.LogRecord] = []

    class Other(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    other = Other()
    LOGGER.addHandler(other)
    trace_structured("dynamo_output_graph", dict, lambda: "graph")
    LOGGER.removeHandler(other)
    assert len(records) == 1
    trace_structured("dynamo_output_graph", dict, lambda: "graph")
    assert len(records) == 1


def test_the_logger_is_left_as_it_was_found() -> None:
    early, late = logging.NullHandler(), logging.NullHandler()
    LOGGER.addHandler(early)
    found = LOGGER.handlers
    made = Trace()
    made.start()
    LOGGER.addHandler(late)
    LOGGER.removeHandler(early)
    made.stop()
    assert LOGGER.handlers is found
    assert type(found) is list
    assert found == [late]
    LOGGER.removeHandler(late)


def test_a_list_that_was_put_in_its_place_stays() -> None:
    made = Trace()
    made.start()
    replaced = [*LOGGER.handlers, logging.NullHandler()]
    LOGGER.handlers = replaced
    made.stop()
    assert LOGGER.handlers is replaced
    assert made not in replaced
    replaced.clear()


def test_a_handler_that_removes_itself_costs_no_event() -> None:
    class Lazy(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            LOGGER.removeHandler(self)

    LOGGER.setLevel(logging.DEBUG)
    LOGGER.addHandler(Lazy())
    made = Trace()
    made.start()
    log("fx_graph_cache_hit", {"key": "first"})
    assert [event.key for event in made.events] == ["first"]
    made.stop()


def test_bad_payloads_disturb_nobody(trace: Trace) -> None:
    for payload in ("", "{", "[1]", '{"key": 5}'):
        log("fx_graph_cache_hit", payload)
    LOGGER.debug("", extra={"metadata": 7})
    LOGGER.debug("", extra={"metadata": {"artifact": {"name": None}}})
    assert [event.key for event in trace.events] == [""], "an empty payload is an event"


def test_only_so_many_are_kept(trace: Trace) -> None:
    for _ in range(MAX_EVENTS + 5):
        log("fx_graph_cache_hit", {"key": "k"})
    assert len(trace.events) == MAX_EVENTS


def test_without_listeners_nothing_is_attached() -> None:
    made = Trace()
    made.start()
    made.start()
    made.stop()
    assert made in LOGGER.handlers
    made.stop()
    assert made not in LOGGER.handlers
    made.stop()


def test_saved_time_is_not_counted_twice() -> None:
    events = [
        Event("fxgraph", "hit", frame="0/0", saved_ns=5),
        Event("aotautograd", "hit", frame="0/0", saved_ns=7),
        Event("fxgraph", "hit", frame="1/0", saved_ns=11),
        Event("fxgraph", "miss", frame="2/0", taken_ns=13),
    ]
    assert saved_ns(events) == 18


def test_counters_are_read_where_torch_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch._dynamo.utils", raising=False)
    assert set(counters.read_counters().values()) == {0}
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    module: Any = SimpleNamespace(counters=counted)
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", module)
    assert isinstance(module, ModuleType | SimpleNamespace)
    before = counters.read_counters()
    counted["inductor"]["fxgraph_cache_hit"] = 3
    counted["inductor"]["benchmarking.CachedBenchmarker.benchmark_gpu"] = 4
    assert counters.since(before)["fxgraph_hit"] == 3
    assert counters.since(before)["benchmarks"] == 4
    before = counters.read_counters()
    counted.clear()
    counted["inductor"]["fxgraph_cache_hit"] = 2
    assert counters.since(before)["fxgraph_hit"] == 2, "cleared counters count from zero"
