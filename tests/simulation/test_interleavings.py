"""Any interleaving of many clients' calls, with faults, against a plain dictionary.

The dictionary says which contents some worker's acknowledged sync published under which path of
which cache. A restore must find every path that was acknowledged longer ago than listings are
stale, with one of those contents, whatever collectors and compactions do meanwhile.
"""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from casinductor.errors import CasinductorError
from tests.simulation.fleet import Fleet, inline_threads
from tests.simulation.world import Client, Killed, World

workers = st.sampled_from(["w1", "w2", "w3"])
keys = st.sampled_from(["one", "two"])
names = st.sampled_from(["ab", "cd", "ef"])


class Interleavings(RuleBasedStateMachine):
    """Up to six clients at once; each rule starts one or moves some on."""

    @initialize(staleness=st.sampled_from([0.0, 5.0, 20.0]), seed=st.integers(0, 1 << 16))
    def begin(self, staleness: float, seed: int) -> None:
        self.exits = contextlib.ExitStack()
        self.exits.enter_context(inline_threads())
        self.world = World(staleness, seed)
        self.fleet = Fleet(self.world)
        self.running: list[tuple[Client, str, str, dict[str, set[bytes]]]] = []
        self.published: dict[str, dict[str, set[bytes]]] = {"one": {}, "two": {}}
        self.acknowledged: dict[str, dict[str, float]] = {"one": {}, "two": {}}
        self.choice = 0

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.settle()
        finally:
            self.fleet.close()
            self.exits.close()

    @rule(worker=workers, name=names)
    def compile(self, worker: str, name: str) -> None:
        if not any(verb == f"sync {worker}" for _, verb, _, _ in self.running):
            self.choice += 1
            self.fleet.make(worker, name, self.choice)

    def begin_client(self, client: Client, verb: str, key: str) -> None:
        expected: dict[str, set[bytes]] = {}
        if verb == "restore":
            visible = self.world.now - self.world.staleness
            expected = {p: set() for p, when in self.acknowledged[key].items() if when < visible}
        self.running.append((client, verb, key, expected))
        self.reap()

    @precondition(lambda self: len(self.running) < 6)
    @rule(worker=workers, key=keys)
    def sync(self, worker: str, key: str) -> None:
        for path, data in self.fleet_content(worker).items():
            # even if it is never acknowledged, what it publishes may be seen
            self.published[key].setdefault(path, set()).add(data)
        self.begin_client(self.fleet.sync(worker, key), f"sync {worker}", key)

    @precondition(lambda self: len(self.running) < 6)
    @rule(key=keys)
    def restore(self, key: str) -> None:
        self.begin_client(self.fleet.restore(key), "restore", key)

    @precondition(lambda self: len(self.running) < 6)
    @rule(key=keys)
    def compact(self, key: str) -> None:
        self.begin_client(self.fleet.compact(key), "compact", key)

    @precondition(lambda self: len(self.running) < 6)
    @rule(unused=st.sampled_from([0.0, 0.5]))
    def gc(self, unused: float) -> None:
        self.begin_client(self.fleet.gc(max_unused=unused), "gc", "")

    @precondition(lambda self: self.running)
    @rule(data=st.data(), steps=st.integers(1, 12))
    def go_on(self, data: st.DataObject, steps: int) -> None:
        index = data.draw(st.integers(0, len(self.running) - 1))
        client = self.running[index][0]
        for _ in range(steps):
            if client.done:
                break
            client.grant()
        self.reap()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), fate=st.sampled_from(["fail", "lose", "die", "die after", "late"]))
    def fault(self, data: st.DataObject, fate: str) -> None:
        index = data.draw(st.integers(0, len(self.running) - 1))
        self.running[index][0].grant(fate)
        self.reap()

    @rule(seconds=st.integers(1, 50))
    def time_passes(self, seconds: int) -> None:
        self.world.now += seconds

    def fleet_content(self, worker: str) -> dict[str, bytes]:
        from tests.conftest import content

        root = self.fleet.local(worker)
        return content(root) if root.is_dir() else {}

    def reap(self) -> None:
        for entry in [entry for entry in self.running if entry[0].done]:
            self.running.remove(entry)
            client, verb, key, expected = entry
            if client.error is not None:
                assert isinstance(client.error, (CasinductorError, Killed)), client.error
            elif verb.startswith("sync"):
                for path in client.result:
                    self.acknowledged[key][path] = min(
                        self.world.now, self.acknowledged[key].get(path, self.world.now)
                    )
            elif verb == "restore":
                self.judge(key, client.result[0], expected)

    def judge(self, key: str, there: dict[str, bytes], expected: Any) -> None:
        assert expected.keys() <= there.keys(), f"lost: {expected.keys() - there.keys()}"
        for path, data in there.items():
            assert data in self.published[key][path]

    def settle(self) -> None:
        """All come to an end; then everything acknowledged is there, and nothing else."""
        while self.running:
            for client, *_ in list(self.running):
                if not client.done:
                    client.grant()
            self.reap()
        for _ in range(2):
            self.world.now += 20 * self.world.staleness + 400
            self.world.tick()
            for key in ("one", "two"):
                there, lost = self.fleet.restore(key).finish()
                assert lost == 0 or not self.acknowledged[key]
                self.judge(key, there, self.acknowledged[key])
                if there:
                    self.fleet.compact(key).finish()
            assert self.fleet.gc().finish().problems == []
        self.fleet.exact()


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
