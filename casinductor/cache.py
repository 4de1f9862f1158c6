"""Cache: restore and sync, the two verbs that join torch's directory and the store.

Invariant: a call ends within its deadline whatever the store does; a damaged catalog is rebuilt
unseen. Between a restore and a sync the cache remembers what lay in the local directory.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from casinductor.deadline import Deadline, bounded
from casinductor.errors import CasinductorError, LocalDirectory
from casinductor.inductor.directory import Walk, walk
from casinductor.inductor.fingerprint import Fingerprint, worker_fingerprint
from casinductor.inductor.gpu import get_gpu_type
from casinductor.nearby import Nearby, nearby
from casinductor.observe import Observation
from casinductor.reports import Progress, RestoreReport, SyncReport, no_progress
from casinductor.restore import Restoration, Restored, record_name
from casinductor.settings import Restore, Settings, default_state_dir
from casinductor.store.address import open_backend
from casinductor.store.backend import Backend
from casinductor.store.catalog import Catalog, catalog_path
from casinductor.store.checked import Checked
from casinductor.store.journal import note_warmup
from casinductor.store.merge import merge
from casinductor.store.names import CacheId
from casinductor.store.store import Store
from casinductor.store.union import CatalogDamaged
from casinductor.sync import Synchronization
from casinductor.warmup import WarmupReport, to_record
from casinductor.worker.lock import directory_lock
from casinductor.worker.snapshot import Snapshot, take_snapshot
from casinductor.worker.staging import sweep_stages
from casinductor.zipped import restore_zip

T = TypeVar("T")
logger = logging.getLogger("casinductor")
_RECORD_SECONDS = 10.0


class Cache:
    """What one (GPU type, cache key) holds, seen from one worker.

    ``key`` such as ``my-model/v1``; ``gpu`` defaults to this worker's; ``settings`` to the
    environment's. ``progress`` may be set to a function of bytes done and bytes in all. Raises
    :class:`~casinductor.errors.InvalidName` for unusable names.
    """

    def __init__(
        self, key: str, *, gpu: str | None = None, settings: Settings | None = None
    ) -> None:
        self.settings = settings or Settings.from_environment()
        self.id = CacheId(gpu or self.settings.gpu_type or get_gpu_type(), key)
        self.root = os.path.abspath(self.settings.local_dir)
        self.snapshot: Snapshot | None = None
        self._observation: Observation | None = None
        self._restored = RestoreReport(str(self.id))
        self._backend: Backend | None = None
        self.progress: Progress = no_progress

    def restore(self, mode: Restore | None = None, seconds: float | None = None) -> RestoreReport:
        """Materialize what this worker needs and its local directory lacks.

        Several processes of one machine may call it at once: one does the work, the others find it
        done. Raises :class:`CasinductorError` kinds; :class:`DeadlineExceeded` after ``seconds``
        (default: the settings' ``restore_deadline``).
        """
        start = perf_counter()
        limit = self.settings.restore_deadline if seconds is None else seconds
        deadline = Deadline(limit, f"restoring {self.id} from {self.settings.store}")
        wanted = mode or self.settings.restore
        try:
            restored = bounded(lambda until: self._restore(wanted, until), deadline)
        except Exception:
            self._take_snapshot(Restored(RestoreReport(str(self.id))))
            raise
        self._take_snapshot(restored)
        restored.report.seconds = perf_counter() - start
        return restored.report

    def sync(self, seconds: float | None = None, *, keep_equivalent: bool = False) -> SyncReport:
        """Publish what the local directory has and the cache lacks.

        After a :meth:`restore`, artifacts of other caches that this worker did not use are left
        out; without one, everything shareable is published. Raises as :meth:`restore` does, with
        the settings' ``sync_deadline``; an error means that nothing was acknowledged.
        """
        start = perf_counter()
        found = self._walk() if self._observation is not None else None
        warmup = self._report(found)
        limit = self.settings.sync_deadline if seconds is None else seconds
        deadline = Deadline(limit, f"syncing {self.id} to {self.settings.store}")
        report, snapshot = bounded(
            lambda until: self._sync(until, keep_equivalent, found), deadline
        )
        if warmup is not None:
            report.warmup = warmup
            self._keep(warmup, report)
        if snapshot is not None:
            self.snapshot = snapshot
            self._observe()
        report.seconds = perf_counter() - start
        return report

    def warmup(self) -> WarmupReport | None:
        """What happened in the local directory and in torch since the last restore or sync; None
        without one, or where the directory cannot be read.
        """
        return self._report(self._walk() if self._observation is not None else None)

    def _report(self, found: Walk | None) -> WarmupReport | None:
        """The warm-up; a fault of ours in watching is logged, as it is not worth a worker."""
        if self._observation is None or found is None:
            return None
        try:
            return self._observation.report(self._fingerprint(), found)
        except Exception as error:
            logger.warning("%s: cannot tell what happened: %s", self.id, error, exc_info=True)
            return None

    def _walk(self) -> Walk | None:
        try:
            return walk(self.root)
        except LocalDirectory:
            return None

    def close(self) -> None:
        """Stop observing torch; the next restore begins anew."""
        if self._observation is not None:
            self._observation.close()
            self._observation = None

    def _observe(self, restored: RestoreReport | None = None) -> None:
        """Begin a new warm-up, of what was restored last."""
        if restored is not None:
            self._restored = restored
        self.close()
        if self.snapshot is not None:
            self._observation = Observation(self._restored, self.snapshot, self.settings.trace)

    def _restore(self, mode: Restore, deadline: Deadline) -> Restored:
        near = nearby(self.settings)

        def work(store: Store) -> Restored:
            with directory_lock(self.root, deadline) as held:
                if not held:
                    deadline.check()
                sweep_stages(self.root)
                with near.turn(f"{store.backend.url}\0{self.id}", deadline):
                    store.backend = near.reading(store.backend)
                    return self._materialize(store, mode, deadline, near)

        return self._with_store(work, deadline)

    def _materialize(
        self, store: Store, mode: Restore, deadline: Deadline, near: Nearby
    ) -> Restored:
        worker = self._fingerprint()
        restored = Restoration(
            store, self.id, self.root, mode, worker, deadline, self.progress, near
        ).run()
        if restored.report.source == "nothing":
            store.format_problem()  # says so if a later format is why nothing was found
            return restore_zip(store.backend, self.id, self.root, deadline) or restored
        return restored

    def _sync(
        self, deadline: Deadline, keep_equivalent: bool, found: Walk | None
    ) -> tuple[SyncReport, Snapshot | None]:
        def work(store: Store) -> tuple[SyncReport, Snapshot | None]:
            if not os.path.isdir(self.root):
                return SyncReport(str(self.id)), None
            self._backend = store.backend
            report, snapshot = Synchronization(
                store,
                self.id,
                self.root,
                self.snapshot,
                self._fingerprint(),
                deadline,
                keep_equivalent=keep_equivalent,
                own_record=record_name(store, self.id),
                progress=self.progress,
                found=found,
            ).run()
            report.merged = self._merge(store, deadline)
            return report, snapshot

        if self.snapshot is None or not os.access(self.root, os.W_OK):
            return self._with_store(work, deadline)  # the directory is only read
        with directory_lock(self.root, deadline):
            return self._with_store(work, deadline)

    def _merge(self, store: Store, deadline: Deadline) -> int:
        """Merge the cache's manifests if they are many and half of the time is left; the sync is
        acknowledged already and does not fail for it.
        """
        left, after = deadline.remaining(), self.settings.compact_after
        if not after or (left is not None and left < (deadline.seconds or 0.0) / 2):
            return 0
        try:
            return merge(store, self.id, after, deadline)
        except CasinductorError as error:
            logger.warning("%s: its manifests were not merged: %s", self.id, error)
            return 0

    def _keep(self, warmup: WarmupReport, report: SyncReport) -> None:
        """Keep the warm-up beside its sync, which was acknowledged and does not fail for it."""
        warmup.manifest = report.manifest
        backend = self._backend
        if not self.settings.warmups or not warmup.active or backend is None:
            return
        deadline = Deadline(_RECORD_SECONDS, "keeping a record of the warm-up")
        with suppress(CasinductorError):
            bounded(lambda _: note_warmup(backend, self.id, to_record(warmup)), deadline)

    def _fingerprint(self) -> Fingerprint:
        return worker_fingerprint()

    def _with_store(self, work: Callable[[Store], T], deadline: Deadline) -> T:
        return with_store(self.settings, work, deadline.remaining())

    def _take_snapshot(self, restored: Restored) -> None:
        try:
            found = walk(self.root).files
            self.snapshot = take_snapshot(self.root, found, restored.paths, restored.contents)
        except LocalDirectory:
            self.snapshot = Snapshot(self.root)
        self._observe(restored.report)


def with_store(settings: Settings, work: Callable[[Store], T], seconds: float | None = None) -> T:
    """Run ``work``, which has ``seconds`` in all, on the store; where its catalog proves damaged,
    again on an empty one.
    """
    backend = open_backend(settings.store, seconds)
    catalog = Catalog(catalog_path(settings.state_dir or default_state_dir(), backend.url))
    try:
        try:
            return work(Store(backend, catalog))
        except (sqlite3.Error, CatalogDamaged) as error:
            if "locked" in str(error):  # other processes are busy with it: not damage
                catalog.close()
                catalog = Catalog(None)
            else:
                catalog.discard()
            return work(Store(backend, catalog))
    finally:
        catalog.close()


@contextmanager
def check_memory(settings: Settings) -> Iterator[Checked]:
    """What this machine remembers of the checks of a store."""
    url = open_backend(settings.store).url
    path = catalog_path(settings.state_dir or default_state_dir(), url)
    memory = Checked(path.with_suffix(".checked") if path else None)
    try:
        yield memory
    finally:
        memory.close()


def with_fresh_store(settings: Settings, work: Callable[[Store], T]) -> T:
    """Run ``work`` on the store with a catalog read anew: what decides on deletions believes no
    file that lay on this machine.
    """
    backend = open_backend(settings.store)
    with tempfile.TemporaryDirectory(prefix="casinductor-catalog-") as folder:
        catalog = Catalog(Path(folder) / "catalog.db")
        try:
            return work(Store(backend, catalog))
        finally:
            catalog.close()
