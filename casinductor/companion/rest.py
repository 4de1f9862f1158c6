"""When what a worker does has come to rest.

Invariant: each rest is said once; what never changed comes to rest too, only later.
"""

from __future__ import annotations


class Rest:
    """Says that what is seen did not change for ``seconds``; for ``first`` seconds where it never
    changed at all, as what is only loaded may leave no trace.
    """

    def __init__(self, seconds: float, first: float) -> None:
        self._seconds = seconds
        self._limit = first
        self._seen: tuple[int, ...] | None = None
        self._since = 0.0
        self._said = False

    def reached(self, seen: tuple[int, ...], moment: float) -> bool:
        """Whether a rest is reached with what is ``seen`` at a ``moment`` (monotonic seconds)."""
        if self._seen is None:
            self._seen, self._since = seen, moment
        elif seen != self._seen:
            self._seen, self._since = seen, moment
            self._limit, self._said = self._seconds, False
        if self._said or moment - self._since < self._limit:
            return False
        self._said = True
        return True
