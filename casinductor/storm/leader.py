"""Leads: signs from time to time that whoever compiles for the others still lives.

Invariant: the signs end with the process; a store that takes none makes the others compile, and
nothing else.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace

from casinductor.errors import CasinductorError
from casinductor.store.backend import Backend
from casinductor.store.format.names import CacheId
from casinductor.store.leads import Lead, forget, sign

BEAT_SECONDS = 5.0


class Leader:
    """The lead of this process; :meth:`finish` once what it compiled is published."""

    def __init__(self, backend: Backend, cache: CacheId, lead: Lead) -> None:
        self._backend = backend
        self._cache = cache
        self._lead = lead
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="casinductor-lead", daemon=True)

    def start(self) -> Leader:
        """Say that it leads, and go on saying it."""
        self.beat()
        self._thread.start()
        return self

    def beat(self) -> None:
        """One sign; raises what writing raises."""
        self._lead = replace(self._lead, beat=self._lead.beat + 1)
        sign(self._backend, self._cache, self._lead)
        before = self._lead.beat - 1
        forget(self._backend, self._cache, self._lead, range(max(0, before - 1), before))

    def finish(self) -> None:
        """Let the others go on; a second call does nothing."""
        if self._over.is_set():
            return
        self._over.set()
        with suppress(CasinductorError):
            sign(self._backend, self._cache, replace(self._lead, ended=True))
            last = self._lead.beat
            forget(self._backend, self._cache, self._lead, range(max(0, last - 2), last + 1))

    def _work(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            with suppress(CasinductorError):
                self.beat()
