"""The model of the protocol: explored to the end, its unsafe variants found out, and their traces
replayed against the real code, which survives them, and against the real code with the same
mistake put in, which does not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from casinductor.store.format.names import CacheId, condemned
from casinductor.store.index import union
from casinductor.store.maintain import protocol as gc
from casinductor.store.store import Store
from casinductor.store.write import publish
from casinductor.store.write.publish import pack_is_there
from casinductor.sync import look
from casinductor.sync import run as sync
from tests.simulation.fleet import GPU, Fleet, inline_threads
from tests.simulation.model import LARGE, SAFE, UNSAFE, explore
from tests.simulation.world import Client, World

STALENESS = 1000.0


@pytest.mark.parametrize("name", SAFE)
def test_the_protocol_is_safe(name: str) -> None:
    explored = explore(SAFE[name])
    assert explored.trace is None
    assert explored.states > 3_000


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LARGE)
def test_the_protocol_is_safe_in_the_large(name: str) -> None:
    explored = explore(LARGE[name], limit=30_000_000)
    print(f"{name}: {explored.states:,} states")
    assert explored.trace is None


@pytest.mark.parametrize("name", UNSAFE)
def test_each_variant_is_unsafe(name: str) -> None:
    explored = explore(UNSAFE[name])
    assert explored.trace is not None
    assert explored.trace[0][1] == "read" or "choose" in explored.trace[0][1]


class OldestView:
    """Listings are as stale as they may be."""

    def uniform(self, low: float, high: float) -> float:
        return high


class Replay:
    """Drives the real sync and the real sweep through a trace of the model."""

    def __init__(self, *, stale: bool, graces: int = 2) -> None:
        self.world = World(STALENESS if stale else 0.0)
        self.fleet = Fleet(self.world)
        self.grace = graces * self.world.staleness
        self.fleet.make("old", "ab", 1)
        self.fleet.sync("old", "old").finish()
        self.world.now += 10 * STALENESS
        if stale:
            self.world.random = OldestView()  # type: ignore[assignment]
        self.fleet.make("w", "ab", 1)
        self.packs = [self.newest("packs/")]
        self.manifest = self.newest("manifests/")
        self.actors: dict[str, Client] = {}

    def newest(self, prefix: str) -> str:
        name = max(n for n in self.world.names() if n.startswith(prefix))
        born = max((o[-1].born, n) for n, o in self.world.past.items() if n.startswith(prefix))
        name = born[1]
        return name.rpartition("/")[2].split(".")[0]

    def run(self, trace: Iterable[tuple[str, str]], dies: str = "") -> None:
        for who, what in trace:
            if who not in self.actors:
                self.actors[who] = self.start(who, what)
            client = self.actors[who]
            if what == "publish" and who.startswith("worker"):
                self.world.now += self.world.staleness / 2  # well after any tombstone
            if not client.done and not what.startswith("choose"):
                MOVES[what](client)
            if what in ("copy", "write pack"):
                self.packs.append(self.newest("packs/"))
        for who, client in self.actors.items():
            while not client.done:
                client.grant("die" if who == dies else "do")

    def start(self, who: str, what: str) -> Client:
        if who.startswith("worker"):
            return self.fleet.sync("w", "one")
        pack = self.packs[int(what.split()[1])]
        old = {self.manifest: CacheId(GPU, "old")} if pack == self.packs[0] else {}

        def collect(store: Store, client: Client) -> Any:
            return gc.sweep(store, {pack}, old, grace=self.grace, wait=client.sleep)

        return self.fleet.start(who, collect)

    def lost(self) -> bool:
        """Whether a worker was told that its group is safe, and it is not."""
        workers = [client for who, client in self.actors.items() if who.startswith("worker")]
        told = [client.result for client in workers if client.error is None]
        if not told:
            return False
        self.world.now += 10 * STALENESS
        self.fleet.gc().finish()  # the next collector goes on with what it finds
        self.world.now += 10 * STALENESS
        there, _ = self.fleet.restore("one").finish()
        return not all(result.keys() <= there.keys() for result in told)

    def close(self) -> None:
        shutil.rmtree(self.fleet.folder, ignore_errors=True)


def until(*wanted: str, then_while: str = "\0") -> Callable[[Client], None]:
    """Grant calls up to and with the first of this kind, and those like it that follow."""

    def move(client: Client) -> None:
        while client.call is not None:
            call = client.grant()
            if f"{call.verb} {call.name}".startswith(wanted):
                break
        while client.call is not None and _is(client, then_while):
            client.grant()

    return move


def before(*wanted: str) -> Callable[[Client], None]:
    """Grant all calls before the first of this kind."""

    def move(client: Client) -> None:
        while client.call is not None and not _is(client, *wanted):
            client.grant()

    return move


def _is(client: Client, *wanted: str) -> bool:
    return client.call is not None and f"{client.call.verb} {client.call.name}".startswith(wanted)


def until_over(client: Client) -> None:
    """Let a sleep end."""
    if _is(client, "sleep"):
        client.grant()


def die(client: Client) -> None:
    client.grant("die")


MOVES: dict[str, Callable[[Client], None]] = {
    "read": before("put packs/", "put manifests/"),
    "rely": before("put packs/", "put manifests/"),
    "touch": lambda client: None,
    "write pack": until("put packs/"),
    "publish": until("put manifests/"),
    "list tombstones": until("list condemned/"),
    "check packs": until("size packs/", then_while="size packs/"),
    "tombstone": until("put condemned/", then_while="put condemned/"),
    "wait": until_over,
    "list": before("put", "delete", "sleep"),
    "copy": until("put packs/"),
    "handshake": before("put", "delete", "sleep"),
    "delete": until("delete packs/"),
    "lift": until("delete condemned/", then_while="delete condemned/"),
    "die": die,
}


@pytest.fixture(autouse=True)
def _inline() -> Iterator[None]:
    with inline_threads():
        yield


def replayed(name: str, graces: int = 2, dies: str = "") -> bool:
    """Whether replaying the variant's trace, then killing ``dies``, loses what was acknowledged."""
    trace = explore(UNSAFE[name]).trace
    assert trace is not None
    replay = Replay(stale=UNSAFE[name].stale, graces=graces)
    try:
        replay.run(trace, dies)
        return replay.lost()
    finally:
        replay.close()


@pytest.mark.parametrize("name", UNSAFE)
def test_the_real_code_survives_the_trace(name: str) -> None:
    assert not replayed(name)
    assert not replayed(name, dies="collector 0")
    assert not replayed(name, dies="worker 0")


def test_packs_before_tombstones_would_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    def conflicts(store: Store, packs: Iterable[tuple[str, int]], *_: object) -> set[str]:
        named = list(packs)
        gone = {ulid for ulid, size in named if not pack_is_there(store, ulid, size)}
        return gone | {ulid for ulid, _ in named} & store.marks.condemned()

    monkeypatch.setattr(publish, "conflicts", conflicts)
    assert replayed("packs before tombstones")


def test_lifting_a_tombstone_would_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    real = gc.evacuate

    def evacuate(store: Store, packs: set[str], *rest: Any) -> Any:
        doomed = rest[0]
        if store.catalog.packs.naming(packs) - doomed.keys():
            for ulid in packs | doomed.keys():
                store.backend.delete(condemned(ulid))
            packs.clear()
            doomed.clear()
        return real(store, packs, *rest)

    monkeypatch.setattr(gc, "evacuate", evacuate)
    assert replayed("lifting a tombstone")


def test_no_tombstones_would_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "conflicts", lambda *_: set())
    monkeypatch.setattr(gc, "condemn", lambda store, ulids: store.marks.condemned())
    monkeypatch.setattr(gc, "require_all_manifests", lambda store: None)
    monkeypatch.setattr(gc, "evacuate", lambda *_: ({}, set()))
    assert replayed("mtime grace")


def test_a_grace_of_one_staleness_would_lose() -> None:
    assert replayed("a grace of one staleness", graces=1)


def test_trusting_other_workers_would_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "bad_packs", lambda *_, **__: set())
    monkeypatch.setattr(sync, "relied_packs", lambda *_: set())
    assert replayed("trusting other workers", dies="worker 0")


def test_hiding_what_is_replaced_would_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    def removed(catalog: Any, cache: CacheId) -> set[str]:
        return set().union(*catalog.manifests.lineage(cache).stands_for.values())

    monkeypatch.setattr(union, "removed", removed)
    assert replayed("hiding what is replaced", dies="collector 0")
