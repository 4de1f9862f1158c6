"""Workers and collectors on a simulated store: casinductor's own code, in threads that step."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from casinductor.deadline import Deadline
from casinductor.errors import CasinductorError
from casinductor.inductor.fingerprint import worker_fingerprint
from casinductor.job import Job
from casinductor.restore.run import Restoration
from casinductor.store.format import packing
from casinductor.store.format.names import CacheId
from casinductor.store.index.catalog import Catalog
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.compact import compact
from casinductor.store.maintain.merge import merge
from casinductor.store.read import fetch
from casinductor.store.store import Store
from casinductor.sync.run import Synchronization
from casinductor.util.roots import Roots
from tests.conftest import Tree, content, exact
from tests.simulation.world import Client, SimulatedBackend, World

GPU = "H100"


class Inline:
    """An executor that works at once, so that a schedule alone decides what happens when."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_: object) -> None: ...


@contextlib.contextmanager
def inline_threads() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "ThreadPoolExecutor", Inline)
        patch.setattr(packing, "ThreadPoolExecutor", Inline)
        yield


class Fleet:
    """Local directories of workers, and what each verb is as a client of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        base = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="casinductor-simulation-", dir=base))
        self.started = 0
        self.fingerprint = worker_fingerprint()

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def local(self, worker: str) -> Path:
        return self.folder / worker

    def make(self, worker: str, name: str, choice: int) -> None:
        """A compile: artifacts that all workers make alike, and one that they do not."""
        tree = Tree(self.local(worker), seed=choice)
        tree.module(name)
        tree.kernel(name, name.encode() * 300)
        tree.tuning(name, choice)

    def start(self, name: str, work: Callable[[Store, Client], Any]) -> Client:
        self.started += 1
        holder: list[Client] = []

        def run(backend: SimulatedBackend) -> Any:
            catalog = Catalog(None)
            try:
                client = backend.client
                assert client is not None
                holder.append(client)
                return work(Store(backend, catalog), client)
            finally:
                catalog.close()

        return Client(self.world, f"{name}#{self.started}", run)

    def sync(self, worker: str, key: str) -> Client:
        def work(store: Store, client: Client) -> dict[str, bytes]:
            there = content(self.local(worker))
            cache = CacheId(GPU, key)
            job = Job(cache, Roots(str(self.local(worker))), self.fingerprint)
            Synchronization(store, job, None).run()
            with contextlib.suppress(CasinductorError):
                merge(store, cache, 2, Deadline(None))
            return there

        return self.start(f"sync {key} by {worker}", work)

    def restore(self, key: str) -> Client:
        """Into an empty directory; the result is what it holds then, and what was lost."""

        def work(store: Store, client: Client) -> tuple[dict[str, bytes], int]:
            root = self.folder / client.name.replace(" ", "-").replace("#", "-")
            root.mkdir()
            try:
                job = Job(CacheId(GPU, key), Roots(str(root)), self.fingerprint)
                restored = Restoration(store, job, "all").run()
                return content(root), restored.report.lost
            finally:
                shutil.rmtree(root, ignore_errors=True)

        return self.start(f"restore {key}", work)

    def compact(self, key: str, grace: float | None = None) -> Client:
        return self.start(
            f"compact {key}",
            lambda store, client: compact(
                store, CacheId(GPU, key), level=1, grace=grace, wait=client.sleep
            ),
        )

    def gc(self, grace: float | None = None, **options: Any) -> Client:
        given = {"apply": True, "min_age_seconds": 0.0, "max_unused": 0.0, **options}
        return self.start(
            "gc",
            lambda store, client: collect(store, grace=grace, wait=client.sleep, **given),
        )

    def exact(self) -> None:
        """After everything was compacted and collected, only the live bytes are left."""
        store = Store(SimulatedBackend(self.world), Catalog(None))
        exact(store)
        store.catalog.close()
