"""Any interleaving of workers' verbs against a plain dictionary: a store never forgets a group."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from casinductor.store.maintain.compact import compact
from casinductor.store.maintain.protocol import sweep
from casinductor.store.opening import with_store
from casinductor.store.stats import figures
from tests.conftest import Fleet, Tree, content

workers = st.sampled_from(["w1", "w2", "w3"])
keys = st.sampled_from(["one", "two"])
names = st.sampled_from(["ab", "cd", "ef", "gh"])


class StoreMachine(RuleBasedStateMachine):
    """The model: for each key, the module and tuning files that some worker's sync acknowledged."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="casinductor-machine-"))
        self.fleet = Fleet(self.folder)
        self.published: dict[str, dict[str, set[bytes]]] = {"one": {}, "two": {}}
        self.choice = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def local(self, worker: str) -> Path:
        return self.folder / "local" / worker

    @rule(worker=workers, name=names)
    def compile(self, worker: str, name: str) -> None:
        self.choice += 1
        tree = Tree(self.local(worker), seed=self.choice)
        tree.module(name)
        tree.kernel(name, name.encode() * 700)
        tree.tuning(name, self.choice)

    @rule(worker=workers, key=keys)
    def push(self, worker: str, key: str) -> None:
        report = self.fleet.cache(worker, key).sync()
        assert not report.damage
        for path, data in content(self.local(worker)).items():
            self.published[key].setdefault(path, set()).add(data)

    @rule(worker=workers, key=keys)
    def restore_into_nothing(self, worker: str, key: str) -> None:
        shutil.rmtree(self.local(worker), ignore_errors=True)
        report = self.fleet.cache(worker, key).restore("all")
        assert report.lost == 0
        there = content(self.local(worker))
        assert there.keys() == self.published[key].keys()
        for path, data in there.items():
            assert data in self.published[key][path]

    @rule(key=keys)
    def compact(self, key: str) -> None:
        cache = self.fleet.cache("compactor", key)
        if self.published[key]:
            report = with_store(cache.settings, lambda store: compact(store, cache.id))
            assert report.groups_lost == 0

    @rule(worker=workers)
    def lose_the_catalog(self, worker: str) -> None:
        shutil.rmtree(self.folder / "state" / worker, ignore_errors=True)

    @rule(data=st.data())
    def condemn_a_living_pack(self, data: st.DataObject) -> None:
        """A collector that is wrong about a pack still loses nothing: it evacuates."""
        cache = self.fleet.cache("collector", "one")
        packs = sorted(path.stem for path in self.fleet.files("*.pack"))
        if packs:
            pack = data.draw(st.sampled_from(packs))
            with_store(cache.settings, lambda store: sweep(store, {pack}, grace=0))
            assert pack not in {path.stem for path in self.fleet.files("*.pack")}

    @invariant()
    def nothing_is_half_there(self) -> None:
        if hasattr(self, "folder") and self.fleet.store.exists():
            assert not self.fleet.files("*.tmp")
            assert not self.fleet.files("condemned/*")
            assert not self.fleet.files("quarantine/*")

    @rule()
    def figures_add_up(self) -> None:
        if self.fleet.store.exists():
            cache = self.fleet.cache("counter", "one")
            found = with_store(cache.settings, lambda store: figures(store, None))
            objects = self.fleet.files("*.pack") + self.fleet.files("*.manifest")
            assert found.stored_bytes == sum(path.stat().st_size for path in objects)
            assert found.unique_bytes <= found.logical_bytes


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
