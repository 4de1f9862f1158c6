"""The grace time: how long a collector waits until every client sees what it did.

Invariant: the wait is measured on this process's own monotonic clock; no two clocks are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from casinductor.store.backend import Backend

#: Waits so many seconds; :func:`time.sleep` but in the tests.
Wait = Callable[[float], None]
#: Waits until what another client wrote must be visible.
Pause = Callable[[], None]


def grace_of(backend: Backend, grace: float | None) -> float:
    """Seconds to wait at each step: what was asked for, or twice the backend's staleness.

    Twice, because a sync may overlook a tombstone that is ``staleness`` old, and what it published
    just before may show that much later still; the model of the tests finds less to be unsafe.
    """
    return 2 * backend.staleness if grace is None else grace


def pause(seconds: float, wait: Wait) -> None:
    """Wait, if there is anything to wait for."""
    if seconds > 0:
        wait(seconds)
