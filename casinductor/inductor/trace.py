"""Listens to torch's structured trace for what its compile caches did, graph by graph.

Invariant: listening changes nothing that torch computes, never raises into it, and makes it render
no event but those that are kept, at most :data:`MAX_EVENTS`. Format: artifacts
``fx_graph_cache_<status>``, ``fx_graph_bundled_cache_<status>`` (a graph inside an aotautograd
entry) and ``aotautograd_cache_<status>`` on the logger ``torch.__trace``, with
a JSON payload (torch 2.6 and later: ``torch/_inductor/compile_fx.py``,
``torch/_functorch/_aot_autograd/autograd_cache.py``). Torch 2.5 calls both ``<cache>_hash``, and
its payload has the status (``torch/_inductor/codecache.py``).
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec

from casinductor.util.pattern import Pattern

MAX_EVENTS = 4096
_LOGGER = "torch.__trace"
_NAME = Pattern(r"(fx_graph|fx_graph_bundled|aotautograd)_cache_(hit|miss|bypass|hash)")
_LONGEST = 2000


class Event(msgspec.Struct, gc=False, omit_defaults=True):
    """What happened to one graph. ``cache``: ``fxgraph`` or ``aotautograd``; ``status``: ``hit``,
    ``miss`` or ``bypass``; ``detail`` such as ``guard_miss``; ``guard``: an expression looked at;
    ``frame`` tells which compile it belongs to; ``saved_ns`` and ``taken_ns`` are compile times.
    """

    cache: str
    status: str
    key: str = ""
    detail: str = ""
    guard: str = ""
    reason: str = ""
    frame: str = ""
    saved_ns: int = 0
    taken_ns: int = 0


class _Payload(msgspec.Struct, gc=False):
    """The fields of torch's payloads that matter; the key's components are passed over."""

    key: str | None = None
    cache_state: str | None = None
    cache_status_detailed: str | None = None
    cache_status_guard_expr: str | None = None
    cache_bypass_reason: str | None = None
    time_saved_ns: float | None = None
    time_taken_ns: float | None = None
    time_saved_ms: float | None = None


_DECODER = msgspec.json.Decoder(_Payload)  # built at import, as two threads must not


class SelectiveHandlers(list[logging.Handler]):
    """The handlers of torch's trace logger, which count as none unless an event is wanted.

    ``torch._logging.trace_structured`` renders an event's payload (a graph's or module's whole
    text: a fifth of a warm start) only ``if trace_log.handlers``. Where ``listener`` is the only
    handler, the answer is that there are some for the events it keeps. Where a user has
    handlers too (``TORCH_TRACE``), they get everything, as without casinductor.
    """

    def __init__(self, listener: logging.Handler, others: list[logging.Handler]) -> None:
        # First, as torch's own handler removes itself while the first event is handed on, which
        # makes logging skip whoever comes behind it.
        super().__init__([listener, *others])
        self.listener = listener

    def __bool__(self) -> bool:
        if any(handler is not self.listener for handler in self):
            return True
        return _is_wanted(sys._getframe(1))


def _is_wanted(caller: FrameType) -> bool:
    """Whether the caller is torch about to log an event that is kept."""
    if caller.f_code.co_name != "trace_structured":
        return False
    try:
        known = caller.f_locals
        if known["name"] != "artifact":
            return False
        return _NAME.fullmatch(known["metadata_fn"]()["name"]) is not None
    except Exception:  # a later torch may ask otherwise: then its counters tell what happened
        return False


class Trace(logging.Handler):
    """A handler that is on the logger while somebody listens; ``sink`` gets each event too, and
    must not raise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.sink: Callable[[Event], None] | None = None
        self._guard = threading.Lock()
        self._listeners = 0
        self._replaced: list[logging.Handler] = []

    def start(self) -> int:
        """Begin to listen; returns the number of events so far, for :meth:`since`."""
        with self._guard:
            if self._listeners == 0:
                logger = logging.getLogger(_LOGGER)
                self._replaced = logger.handlers
                logger.handlers = SelectiveHandlers(self, logger.handlers)
            self._listeners += 1
            return len(self.events)

    def stop(self) -> None:
        """End one :meth:`start`; after the last, the logger is as it would be without us."""
        with self._guard:
            self._listeners = max(0, self._listeners - 1)
            if self._listeners == 0:
                self._detach(logging.getLogger(_LOGGER))
                self.events = []

    def _detach(self, logger: logging.Logger) -> None:
        handlers = logger.handlers
        if isinstance(handlers, SelectiveHandlers) and handlers.listener is self:
            self._replaced[:] = [handler for handler in handlers if handler is not self]
            logger.handlers = self._replaced
        else:  # somebody put another list there meanwhile
            logger.removeHandler(self)
        self._replaced = []

    def since(self, number: int) -> list[Event]:
        return self.events[number:]

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = _event(record)
        except Exception:  # a later torch may say it otherwise; that must not stop a compile
            return
        if event is not None and len(self.events) < MAX_EVENTS:
            self.events.append(event)
            if self.sink is not None:
                self.sink(event)


#: The one handler of this process.
TRACE = Trace()


def _event(record: logging.LogRecord) -> Event | None:
    metadata: Any = getattr(record, "metadata", None)
    artifact = metadata.get("artifact") if isinstance(metadata, dict) else None
    match = _NAME.fullmatch(artifact.get("name", "")) if isinstance(artifact, dict) else None
    if match is None:
        return None
    told = _DECODER.decode(getattr(record, "payload", None) or "{}")
    status = match[2] if match[2] != "hash" else told.cache_state
    if status not in ("hit", "miss", "bypass"):
        return None
    saved = told.time_saved_ns or (told.time_saved_ms or 0) * 1e6
    return Event(
        "fxgraph" if match[1].startswith("fx_graph") else match[1],
        status,
        told.key or "",
        told.cache_status_detailed or "",
        (told.cache_status_guard_expr or "")[:_LONGEST],
        (told.cache_bypass_reason or "")[:_LONGEST],
        f"{metadata.get('frame_id', '')}/{metadata.get('frame_compile_id', '')}",
        int(saved),
        int(told.time_taken_ns or 0),
    )


def saved_ns(events: list[Event]) -> int:
    """Nanoseconds that hits saved: an aotautograd hit's time holds those of its graphs."""
    whole = {e.frame for e in events if e.cache == "aotautograd" and e.status == "hit"}
    return sum(
        e.saved_ns
        for e in events
        if e.status == "hit" and (e.cache == "aotautograd" or e.frame not in whole)
    )
