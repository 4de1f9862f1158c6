"""Every verb is killed before and after each of its calls; nothing acknowledged is ever lost."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest

from casinductor.errors import CasinductorError, StoreUnavailable
from tests.simulation.fleet import Fleet, inline_threads
from tests.simulation.world import Client, Killed, World

Verb = Callable[[Fleet], Client]
VERBS: dict[str, Verb] = {
    "sync": lambda fleet: fleet.sync("w3", "one"),
    "restore": lambda fleet: fleet.restore("one"),
    "compact": lambda fleet: fleet.compact("one"),
    "gc": lambda fleet: fleet.gc(),
}
FATES = ("die", "die after", "late", "fail", "lose")


@pytest.fixture(autouse=True)
def _inline() -> Iterator[None]:
    with inline_threads():
        yield


class Scene:
    """A store with history: three syncs, a lent blob, an orphan pack, a condemned living pack."""

    def __init__(self, staleness: float) -> None:
        self.world = World(staleness)
        fleet = Fleet(self.world)
        fleet.make("w1", "ab", 1)
        fleet.make("w2", "cd", 2)
        fleet.make("w2", "ab", 3)
        fleet.make("w3", "ef", 4)
        self.acknowledged: dict[str, dict[str, set[bytes]]] = {"one": {}, "two": {}}
        for worker, key in (("w1", "one"), ("w2", "one"), ("w1", "two")):
            self.note(key, fleet.sync(worker, key).finish())
        self.world.now += 10 * staleness + 1
        orphan = fleet.sync("w3", "two")
        while orphan.call is not None and not orphan.call.name.startswith("manifests/H100/two/0"):
            orphan.grant()
        orphan.grant("die")
        living = next(name for name in self.world.names() if name.startswith("packs/"))
        ulid = living.rpartition("/")[2].removesuffix(".pack")
        self.world.put(f"condemned/{ulid}", b"", "dead collector")
        self.world.now += 10 * staleness + 1
        self.fleet = fleet

    def note(self, key: str, published: dict[str, bytes]) -> None:
        for path, data in published.items():
            self.acknowledged[key].setdefault(path, set()).add(data)

    def again(self, seed: int) -> Fleet:
        """The fleet on a copy of the world; local directories are as they were."""
        self.fleet.world = self.world.copy(seed)
        return self.fleet

    def verify(self, fleet: Fleet, at_rest: bool = True) -> None:
        for key, wanted in self.acknowledged.items():
            there, lost = fleet.restore(key).finish()
            # what was published just now may be seen in part while listings and lookups lag
            assert lost == 0 or not at_rest
            assert wanted.keys() <= there.keys()
            assert all(there[path] in wanted[path] for path in wanted)


def calls_of(scene: Scene, verb: str) -> int:
    client, count = VERBS[verb](scene.again(0)), 0
    while not client.done:
        client.grant()
        count += 1
    assert client.error is None
    return count


def survive(scene: Scene, verb: str, at: int, fate: str, seed: int) -> None:
    fleet = scene.again(seed)
    choose = random.Random(seed)
    client = VERBS[verb](fleet)
    other = VERBS[choose.choice(["sync", "compact", "gc"])](fleet) if seed % 2 else None
    for _ in range(at):
        step_beside(other, choose)
        client.grant()
        if client.done:
            break
    if not client.done:
        client.grant(fate)
    while not client.done:
        step_beside(other, choose)
        client.grant()
    assert client.error is None or isinstance(client.error, (CasinductorError, Killed))
    if other is not None:
        while not other.done:
            other.grant()
        assert other.error is None or isinstance(other.error, StoreUnavailable), other.error
    scene.verify(fleet, at_rest=not fleet.world.staleness)
    fleet.world.now += 20 * fleet.world.staleness + 100  # whatever is late arrives
    fleet.world.tick()
    scene.verify(fleet)
    for key in scene.acknowledged:
        fleet.compact(key).finish()
    report = fleet.gc().finish()
    assert report.problems == []
    scene.verify(fleet)
    fleet.exact()


def step_beside(other: Client | None, choose: random.Random) -> None:
    """The clients' calls interleave at random, in a way that the seed alone decides."""
    while other is not None and not other.done and choose.random() < 0.5:
        other.grant()


def crash_everywhere(staleness: float, stride: int, offset: int, seed: int = 0) -> int:
    scene = Scene(staleness)
    points = 0
    try:
        for verb in VERBS:
            for at in range(calls_of(scene, verb)):
                for fate in FATES:
                    points += 1
                    if points % stride == offset:
                        survive(scene, verb, at, fate, seed=points + seed)
    finally:
        scene.fleet.close()
    return points


@pytest.mark.parametrize("staleness", [0.0, 10.0])
def test_a_sample_of_all_crash_points(staleness: float) -> None:
    assert crash_everywhere(staleness, stride=5, offset=3) >= 300


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("staleness", [0.0, 10.0])
def test_all_crash_points(staleness: float) -> None:
    rounds = int(os.environ.get("ROUNDS", "6"))
    points = sum(crash_everywhere(staleness, 1, 0, 1001 * number) for number in range(rounds))
    print(f"{points} crash points survived with staleness {staleness}")
