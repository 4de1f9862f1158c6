"""Remembers which stores failed to answer, so that nobody waits for them again at full length.

Invariant: a store that let one call run into its deadline gets a few seconds in the next one to
show that it answers, and everything as before once it does. A process remembers, nothing else.
"""

from __future__ import annotations

import threading

from casinductor.deadline import Deadline, bounded
from casinductor.errors import DeadlineExceeded, StoreUnavailable
from casinductor.store.store import Store

#: What a store that did not answer gets to answer one small request.
PROBE_SECONDS = 5.0


class Breaker:
    """The stores, by address, that did not answer last time."""

    def __init__(self) -> None:
        self._silent: set[str] = set()
        self._guard = threading.Lock()

    def trip(self, address: str) -> None:
        """A call to the store at ``address`` ran into its deadline."""
        with self._guard:
            self._silent.add(address)

    def note(self, address: str, error: Exception, deadline: Deadline) -> None:
        """Remember a call that failed if it ran out of its time, or used half of it in vain."""
        left = deadline.remaining()
        slow = left is not None and left < (deadline.seconds or 0.0) / 2
        if isinstance(error, DeadlineExceeded) or (isinstance(error, StoreUnavailable) and slow):
            self.trip(address)

    def check(self, address: str, store: Store) -> None:
        """Ask the store at ``address``, if it was silent, for one small object.

        Raises :class:`DeadlineExceeded` where it is silent still; an answer, even an error, makes
        it as good as any other.
        """
        if address not in self._silent:
            return
        what = f"{store.backend.url} did not answer before, and a small request to it now"
        deadline = Deadline(PROBE_SECONDS, what)
        try:
            bounded(lambda _: store.format_problem(), deadline)
        except DeadlineExceeded:
            raise
        except Exception:
            self._reset(address)
            raise
        self._reset(address)

    def _reset(self, address: str) -> None:
        with self._guard:
            self._silent.discard(address)


#: The one of this process.
BREAKER = Breaker()
