"""A point in time by which a store must have answered, and how long calls are cut off there.

Invariant: after :meth:`Deadline.cancel` (or the time itself) no guarded step begins any more, so
work abandoned in a stuck system call writes nothing once the call returns.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from casinductor.errors import DeadlineExceeded

T = TypeVar("T")


class Deadline:
    """``seconds`` from now on the monotonic clock; ``None`` never ends."""

    def __init__(self, seconds: float | None, what: str = "the operation") -> None:
        self.seconds = seconds
        self.what = what
        self._end = None if seconds is None else time.monotonic() + seconds
        self._cancelled = False
        self._releases: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """End the time now, for work that nobody waits for any more; what it holds is released."""
        self._cancelled = True
        for release in self._releases:
            release()

    def on_cancel(self, release: Callable[[], None]) -> None:
        """Call ``release``, which must not raise, if the work is left behind."""
        if self.seconds is not None:
            self._releases.append(release)

    def part(self, share: float) -> Deadline:
        """A deadline that ends after this share of what is left, or with this one."""
        left = self.remaining()
        return Deadline(None if left is None else left * share, self.what)

    def remaining(self) -> float | None:
        """Seconds left (0 when over), or None without a limit."""
        if self._cancelled:
            return 0.0
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def over(self) -> bool:
        return self.remaining() == 0.0

    def check(self) -> None:
        """Raise :class:`DeadlineExceeded` once the time is over."""
        if self.over():
            raise DeadlineExceeded(f"{self.what} did not finish within {self.seconds:g} s")


#: No limit, and nobody cancels it.
UNLIMITED = Deadline(None)


def bounded(work: Callable[[Deadline], T], deadline: Deadline) -> T:
    """Run ``work`` and return or raise what it does, but never wait beyond the deadline.

    A hung network filesystem blocks a thread inside the kernel where nothing can interrupt it, so
    the work runs in a daemon thread that is left behind; its deadline is cancelled, which stops it
    at its next step. Raises :class:`DeadlineExceeded`.
    """
    if deadline.seconds is None:
        return work(deadline)
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work(deadline))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="casinductor", daemon=True)
    thread.start()
    thread.join(deadline.remaining())
    if thread.is_alive():
        deadline.cancel()
        raise DeadlineExceeded(f"{deadline.what} did not finish within {deadline.seconds:g} s")
    if failure:
        raise failure[0]
    return outcome[0]
