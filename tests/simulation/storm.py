"""A cold storm in virtual time: the real election on a store in memory, workers that come and die.

Nothing waits for real: each worker is the generator of ``Waiting.steps``, resumed when its pause is
over by a clock that jumps from event to event.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from casinductor.store.backend import Listed
from casinductor.store.format.names import CacheId
from casinductor.storm.leader import BEAT_SECONDS, Leader
from casinductor.storm.waiting import ALONE, Waiting

CACHE = CacheId("H100", "storm/v1")
KIND = "0123abcd"


class Memory:
    """As much of a backend as claims need; what is put is listed at once."""

    staleness = 0.0

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.listings = 0

    def put(self, name: str, parts: Iterable[bytes], *, durable: bool = True) -> int:
        del parts, durable
        self.names.add(name)
        return 1

    def list(self, prefix: str, *, recursive: bool = False) -> Sequence[Listed]:
        del recursive
        self.listings += 1
        return [Listed(name, 1) for name in sorted(self.names) if name.startswith(prefix)]

    def delete(self, name: str) -> None:
        self.names.discard(name)


@dataclass
class Storm:
    """``compile_seconds`` of each compile, ``limit`` that a worker waits at most; a leader dies
    with a chance of ``deaths`` while it compiles, having published nothing.
    """

    compile_seconds: float
    limit: float
    deaths: float = 0.0
    seed: int = 0
    now: float = 0.0
    warm: bool = False
    compiled: float = 0.0
    compiles: int = 0
    died: int = 0
    waits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.backend: Any = Memory()
        self.random = random.Random(self.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def at(self, moment: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._number), what))

    def arrive(self, moment: float, team: str = ALONE) -> None:
        """A worker comes, restores, and does what the election says."""

        def begin() -> None:
            waiting = Waiting(
                self.backend, CACHE, KIND, team, self.limit, lambda: not self.warm, clock=self.clock
            )
            steps = waiting.steps(cold=not self.warm)
            self.resume(steps, self.now)

        self.at(moment, begin)

    def clock(self) -> float:
        return self.now

    def resume(self, steps: Any, began: float) -> None:
        try:
            pause = next(steps)
        except StopIteration as stop:
            self.waits.append(self.now - began)
            if stop.value is not None:
                self.lead(stop.value)
            elif not self.warm:
                self.work(None)
        else:
            late = self.random.uniform(0, 0.2)  # requests take time
            self.at(self.now + pause + late, lambda: self.resume(steps, began))

    def lead(self, claimed: Any) -> None:
        leader = Leader(self.backend, CACHE, claimed)
        leader.beat()
        self.work(leader)

    def work(self, leader: Leader | None) -> None:
        """Compile; a leader says meanwhile that it lives, unless it dies."""
        self.compiles += 1
        dies = leader is not None and self.random.random() < self.deaths
        end = self.now + self.compile_seconds * (self.random.random() if dies else 1.0)
        moment = self.now + BEAT_SECONDS
        while leader is not None and moment < end:
            self.at(moment, leader.beat)
            moment += BEAT_SECONDS
        began = self.now

        def finish() -> None:
            self.compiled += self.now - began
            if dies:
                self.died += 1
                return
            self.warm = True
            if leader is not None:
                leader.finish()

        self.at(end, finish)

    def run(self) -> Storm:
        while self._events:
            self.now, _, what = heapq.heappop(self._events)
            what()
        return self
