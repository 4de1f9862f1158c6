"""Publishes in the background for a process that loaded a cache: in its block and after it.

Invariant: one cache at a time, as torch has one cache directory for all threads; loading another
one ends it, and nothing is left to run when the process exits.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from casinductor.util.voice import say, warn

if TYPE_CHECKING:
    from casinductor.cache import Cache
    from casinductor.companion.companion import Companion

#: How long what is on its way to the store is waited for.
_STOP_SECONDS = 5.0


class Live:
    """The cache that is shared live, if any."""

    def __init__(self) -> None:
        self._companion: Companion | None = None
        self._guard = threading.Lock()

    def begin(self, cache: Cache, every: float, *, records: bool = False) -> None:
        """Share ``cache`` from now on, at least ``every`` so many seconds; 0 shares nothing.

        ``records``: nobody else syncs it, so warm-ups are told and kept from here.
        """
        self.end()
        if every:
            from casinductor.companion.companion import Companion  # most workers never need it

            with self._guard:
                self._companion = Companion(cache, every, _tell, records=records)
                self._companion.start()

    def end(self) -> None:
        """Share nothing from now on."""
        with self._guard:
            companion, self._companion = self._companion, None
        if companion is not None:
            companion.stop(_STOP_SECONDS)


def _tell(event: str, sentence: str, fields: dict[str, object]) -> None:
    del fields
    (warn if event == "failed" else say)(sentence)


#: The one of this process.
LIVE = Live()
