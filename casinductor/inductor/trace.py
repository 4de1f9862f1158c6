"""Listens to torch's structured trace for what its compile caches did, graph by graph.

Invariant: listening changes nothing that torch computes and never raises into it; at most
:data:`MAX_EVENTS` events are kept. Format: artifacts ``fx_graph_cache_<status>`` and
``aotautograd_cache_<status>`` on the logger ``torch.__trace``, with a JSON payload (torch 2.6 and
later: ``torch/_inductor/compile_fx.py``, ``torch/_functorch/_aot_autograd/autograd_cache.py``).
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Any

import msgspec

MAX_EVENTS = 4096
_LOGGER = "torch.__trace"
_NAME = re.compile(r"(fx_graph|aotautograd)_cache_(hit|miss|bypass)")
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
    cache_status_detailed: str | None = None
    cache_status_guard_expr: str | None = None
    cache_bypass_reason: str | None = None
    time_saved_ns: float | None = None
    time_taken_ns: float | None = None
    time_saved_ms: float | None = None


_DECODER = msgspec.json.Decoder(_Payload)  # built at import, as two threads must not


class Trace(logging.Handler):
    """A handler that is on the logger while somebody listens."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self._guard = threading.Lock()
        self._listeners = 0

    def start(self) -> int:
        """Begin to listen; returns the number of events so far, for :meth:`since`."""
        with self._guard:
            if self._listeners == 0:
                # First, as torch's own handler removes itself while the first event is handed
                # on, which makes logging skip whoever comes behind it.
                logging.getLogger(_LOGGER).handlers.insert(0, self)
            self._listeners += 1
            return len(self.events)

    def stop(self) -> None:
        """End one :meth:`start`; without listeners torch computes no payloads for us."""
        with self._guard:
            self._listeners = max(0, self._listeners - 1)
            if self._listeners == 0:
                logging.getLogger(_LOGGER).removeHandler(self)
                self.events = []

    def since(self, number: int) -> list[Event]:
        return self.events[number:]

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = _event(record)
        except Exception:  # a later torch may say it otherwise; that must not stop a compile
            return
        if event is not None and len(self.events) < MAX_EVENTS:
            self.events.append(event)


#: The one handler of this process.
TRACE = Trace()


def _event(record: logging.LogRecord) -> Event | None:
    metadata: Any = getattr(record, "metadata", None)
    artifact = metadata.get("artifact") if isinstance(metadata, dict) else None
    match = _NAME.fullmatch(artifact.get("name", "")) if isinstance(artifact, dict) else None
    if match is None:
        return None
    told = _DECODER.decode(getattr(record, "payload", None) or "{}")
    saved = told.time_saved_ns or (told.time_saved_ms or 0) * 1e6
    return Event(
        "fxgraph" if match[1] == "fx_graph" else match[1],
        match[2],
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
