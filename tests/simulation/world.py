"""A simulated store: the backend's contract in memory, seen through clients that lag behind.

Every call of a client is one step. It waits until the schedule grants it, with a fate: ``do``;
``fail`` (no effect, an error); ``lose`` (the effect, and an error as if the reply was lost);
``die`` and ``die after`` (the client is killed before or after the effect); ``late`` (the client is
killed and what it wrote appears much later). A client's listings and lookups are as old as the
schedule says, up to ``staleness``; what it wrote itself it always sees.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from casinductor.errors import Damaged, NameTaken, ObjectMissing, StoreUnavailable
from casinductor.store.backend import MAX_WHOLE_BYTES, Listed

FATES = ("do", "fail", "lose", "die", "die after", "late")


class Killed(BaseException):
    """The client's process is gone; nothing it would do afterwards happens."""


@dataclass
class Object:
    data: bytes
    author: str
    born: float
    died: float = float("inf")
    undertaker: str = ""


@dataclass
class Call:
    """A step that waits: what a client is about to do."""

    verb: str
    name: str
    fate: str = ""
    ready: threading.Event = field(default_factory=threading.Event)
    wakes: float = 0.0


class World:
    """The objects, with their past, and a clock that every step moves on."""

    def __init__(self, staleness: float = 0.0, seed: int = 0) -> None:
        self.staleness = staleness
        self.random = random.Random(seed)
        self.now = 1000.0
        self.past: dict[str, list[Object]] = {}
        self.pending: list[tuple[float, Callable[[], None]]] = []
        self.calls = 0

    def alive(self, name: str) -> Object | None:
        there = self.past.get(name, ())
        return there[-1] if there and there[-1].died > self.now else None

    def tick(self) -> None:
        self.now += 1.0
        self.calls += 1
        due = [effect for when, effect in self.pending if when <= self.now]
        self.pending = [item for item in self.pending if item[0] > self.now]
        for effect in due:
            effect()

    def put(self, name: str, data: bytes, author: str) -> int:
        if self.alive(name):
            raise NameTaken(f"{name} exists already")
        self.past.setdefault(name, []).append(Object(data, author, self.now))
        return len(data)

    def delete(self, name: str, author: str) -> None:
        there = self.alive(name)
        if there is not None:
            there.died, there.undertaker = self.now, author

    def seen(self, name: str, client: str, view: float) -> Object | None:
        """What a client sees under a name whose cached view is from the time ``view``."""
        for thing in reversed(self.past.get(name, ())):
            born = thing.born <= view or thing.author == client
            gone = thing.died <= view or (thing.undertaker == client and thing.died <= self.now)
            if born and not gone:
                return thing
        return None

    def names(self) -> list[str]:
        return sorted(name for name in self.past if self.alive(name))

    def copy(self, seed: int = 0) -> World:
        """The same objects in a world of their own, for another continuation."""
        other = World(self.staleness, seed)
        other.now = self.now
        other.past = {
            name: [Object(o.data, "past", o.born, o.died, "past") for o in objects]
            for name, objects in self.past.items()
        }
        return other


class SimulatedBackend:
    """One client's access to a world; keeps the contract of ``store/backend.py``."""

    def __init__(self, world: World, client: Client | None = None) -> None:
        self.world = world
        self.client = client
        self.name = client.name if client else "nobody"

    @property
    def url(self) -> str:
        return "simulated"

    @property
    def staleness(self) -> float:
        return self.world.staleness

    modes = ("put",)
    mode = "put"
    parallel = 1  # every client is one thread that the schedule moves
    appears_whole = True
    there = True

    def probe(self) -> str:
        return self.mode

    def list_from(self, prefix: str, start: str, most: int) -> list[Listed]:
        found = [item for item in self.list(prefix, recursive=True) if item.name > start]
        return found[:most]

    def put(self, name: str, parts: Iterable[bytes], *, durable: bool = True) -> int:
        data = b"".join(parts)
        return int(self._step("put", name, lambda: self.world.put(name, data, self.name)))

    def get(self, name: str, limit: int = MAX_WHOLE_BYTES) -> bytes:
        data: bytes = self._step("get", name, lambda: self._content(name))
        if len(data) > limit:
            raise Damaged(f"{name} has {len(data)} bytes, more than {limit}")
        return data

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        data: bytes = self._step("read", name, lambda: self._content(name))
        for offset, length in ranges:
            if offset < 0 or length < 0 or offset + length > len(data):
                raise Damaged(f"{name} ends at byte {len(data)}")
            yield data[offset : offset + length]

    def size(self, name: str) -> int:
        def look() -> int:
            there = self.world.seen(name, self.name, self._view())
            if there is None:
                raise ObjectMissing(f"{name} is not there")
            return len(there.data)

        return int(self._step("size", name, look))

    def list(self, prefix: str, *, recursive: bool = False) -> list[Listed]:
        def look() -> list[Listed]:
            view, found = self._view(), []
            for name in sorted(self.world.past):
                if name.startswith(prefix) and (recursive or "/" not in name[len(prefix) :]):
                    there = self.world.seen(name, self.name, view)
                    if there is not None:
                        found.append(Listed(name, len(there.data)))
            return found

        listed: list[Listed] = self._step("list", prefix, look)
        return listed

    def delete(self, name: str) -> None:
        self._step("delete", name, lambda: self.world.delete(name, self.name))

    def _content(self, name: str) -> bytes:
        there = self.world.seen(name, self.name, self._view())
        if there is None or there.died <= self.world.now:
            raise ObjectMissing(f"{name} is not there")
        return there.data

    def _view(self) -> float:
        return self.world.now - self.world.random.uniform(0.0, self.world.staleness)

    def _step(self, verb: str, name: str, effect: Callable[[], Any]) -> Any:
        fate = self.client.arrive(Call(verb, name)) if self.client else "do"
        self.world.tick()
        if fate == "do":
            return effect()
        if fate == "fail":
            raise StoreUnavailable(f"{verb} {name}: the simulated store failed")
        if fate in ("lose", "die after"):
            effect()
        if fate == "late" and verb in ("put", "delete"):
            delay = self.world.random.uniform(1.0, 8.0 * self.world.staleness + 40.0)
            self.world.pending.append((self.world.now + delay, lambda: _quietly(effect)))
        if fate == "lose":
            raise StoreUnavailable(f"{verb} {name}: the reply of the simulated store was lost")
        raise Killed


def _quietly(effect: Callable[[], Any]) -> None:
    with suppress(NameTaken):  # somebody else's attempt came first
        effect()


class Client:
    """One process: runs ``work`` in a thread that stops before every call until it is granted."""

    def __init__(self, world: World, name: str, work: Callable[[SimulatedBackend], Any]) -> None:
        self.world = world
        self.name = name
        self.call: Call | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.dead = False
        self.done = False
        self.began = world.now
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        self._idle.wait()

    def _run(self, work: Callable[[SimulatedBackend], Any]) -> None:
        try:
            self.result = work(SimulatedBackend(self.world, self))
        except BaseException as error:
            self.error = error
        self.done = True
        self.call = None
        self._idle.set()

    def arrive(self, call: Call) -> str:
        """Called in the client's thread: wait for the grant, return the fate."""
        if self.dead:
            raise Killed
        self.call = call
        self._idle.set()
        call.ready.wait()
        return call.fate

    def sleep(self, seconds: float) -> None:
        """What the client uses instead of ``time.sleep``."""
        call = Call("sleep", "", wakes=self.world.now + seconds)
        if self.arrive(call) != "do":
            raise Killed

    def grant(self, fate: str = "do") -> Call:
        """Let the waiting call happen, and wait until the client waits again or has ended."""
        call = self.call
        assert call is not None
        if call.verb == "sleep":
            self.world.now = max(self.world.now, call.wakes)
            fate = "do" if fate in ("do", "fail", "lose") else "die"
        if fate in ("die", "die after", "late"):
            self.dead = True
        self.call = None
        self._idle.clear()
        call.fate = fate
        call.ready.set()
        self._idle.wait()
        return call

    def finish(self) -> Any:
        """Grant everything; return the result or raise the error."""
        while not self.done:
            self.grant()
        if self.error is not None:
            raise self.error
        return self.result
