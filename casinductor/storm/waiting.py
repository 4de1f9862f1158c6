"""Waits for a leader, or becomes one.

Invariant: whoever goes on has tried a restore after the last leader it waited for ended; the wait
ends at its limit whatever others do, and a store that fails ends it at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace

from casinductor.inductor.fingerprint import Fingerprint
from casinductor.store.backend import Backend
from casinductor.store.format.frame import blake3_digest
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import new_ulid
from casinductor.store.leads import Lead, list_leads, sign
from casinductor.storm.leader import BEAT_SECONDS, Leader
from casinductor.storm.watch import Watch

#: So many beats without a sign, and a leader is dead; on a filesystem whose listings lag, its
#: attribute cache (nfs(5): 60 s) is waited for too.
_BEATS = 4
_LAG_SECONDS = 90.0
#: How long others' claims are given to show before the first of them leads.
_SETTLE_SECONDS, _SETTLE_LAGGING = 0.5, 3.0
_POLL_SECONDS, _POLL_MOST, _POLL_GROWTH = 0.5, 5.0, 1.3
#: The team of a process that compiles alone.
ALONE = "0" * 8


class Waiting:
    """One worker before a cold cache. ``kind`` and ``team``: see :class:`Lead`; ``limit``: seconds.

    ``restore`` tries again and returns whether the cache still has nothing for this worker;
    ``waited`` is how long was waited for others, ``lost`` how many leaders died meanwhile.
    """

    def __init__(
        self,
        backend: Backend,
        cache: CacheId,
        kind: str,
        team: str,
        limit: float,
        restore: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        lag = min(backend.staleness, _LAG_SECONDS)
        self.waited = 0.0
        self.lost = 0
        self._backend = backend
        self._cache = cache
        self._mine = Lead("", kind, team)
        self._watch = Watch(kind, _BEATS * BEAT_SECONDS + lag)
        self._settle = _SETTLE_LAGGING if lag else _SETTLE_SECONDS
        self._restore = restore
        self._clock = clock
        self._until = clock() + limit

    def lead_or_wait(self, *, cold: bool) -> Lead | None:
        """A claim that leads, to be signed from now on, or None once this worker is to go on.

        ``cold``: the restore before found nothing. Raises what the store's operations raise.
        """
        began = self._clock()
        steps = self.steps(cold=cold)
        try:
            while True:
                time.sleep(next(steps))
        except StopIteration as stop:
            return stop.value if isinstance(stop.value, Lead) else None
        finally:
            self.waited = self._clock() - began

    def steps(self, *, cold: bool) -> Generator[float, None, Lead | None]:
        """As :meth:`lead_or_wait`, each pause handed to the caller: seconds."""
        pause, followed = _POLL_SECONDS, ""
        while True:
            leads = list_leads(self._backend, self._cache)
            living = self._watch.living(leads, self._clock())
            if any(lead.team == self._mine.team != ALONE for lead in living):
                return None  # processes of one job compile together, or wait for each other forever
            if living and self._clock() < self._until:
                followed = living[0].ulid
                yield min(pause, max(0.0, self._until - self._clock()))
                pause = min(pause * _POLL_GROWTH, _POLL_MOST)
                continue
            if followed:
                cold = self._restore()
                finished = any(lead.ulid == followed and lead.ended for lead in leads)
                self.lost += not (finished or living)
                cold = cold or not (finished or living)
                followed = ""
            if not cold or self._clock() >= self._until:
                return None
            if (lead := (yield from self._claim())) is not None:
                return lead

    def _claim(self) -> Generator[float, None, Lead | None]:
        """Claim to lead; the claim if it is the first, once others had time to show."""
        mine = replace(self._mine, ulid=new_ulid())
        sign(self._backend, self._cache, mine)
        yield self._settle
        living = self._watch.living(list_leads(self._backend, self._cache), self._clock())
        if living and living[0].ulid == mine.ulid:
            return mine
        sign(self._backend, self._cache, replace(mine, ended=True))
        return None


def lead(backend: Backend, cache: CacheId, claimed: Lead) -> Leader:
    """Begin to lead with a claim; raises what writing raises."""
    return Leader(backend, cache, claimed).start()


def kind_of(worker: Fingerprint) -> str:
    """The workers that can use what each other compiles, as 8 hexadecimal digits."""
    names = ("torch", "triton", "accelerator", "python", "platform", "libc", "device", "isa")
    told = "\n".join(str(getattr(worker, name)) for name in names)
    return blake3_digest(told.encode()).hex()[:8]


def team_of(environ: Mapping[str, str]) -> str:
    """The job that a process is a rank of (torchrun, Slurm), as 8 hexadecimal digits, or
    :data:`ALONE`.
    """
    if not any(environ.get(name, "1") not in ("", "1") for name in ("WORLD_SIZE", "SLURM_NTASKS")):
        return ALONE
    names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_STEP_ID")
    told = "\n".join(environ.get(name, "") for name in names)
    return blake3_digest((told if told.strip() else str(os.getppid())).encode()).hex()[:8]
