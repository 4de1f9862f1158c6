"""Cache: restore and sync, the two verbs that join torch's directory and the store.

Invariant: a call ends within its deadline whatever the store does; a damaged catalog is rebuilt
unseen. Between a restore and a sync the cache remembers what lay in the local directory. A worker
waits for what is imported here, so what only some restores or a sync need is imported by them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from casinductor.block import Block
from casinductor.breaker import BREAKER
from casinductor.deadline import Deadline, bounded
from casinductor.directories import Directories
from casinductor.errors import LocalDirectory
from casinductor.families.table import INDUCTOR
from casinductor.host_cache import host_cache
from casinductor.inductor.directory import Walk, walk
from casinductor.inductor.fingerprint import Fingerprint, worker_fingerprint
from casinductor.inductor.gpu import get_gpu_type
from casinductor.job import Job
from casinductor.observe.observation import Observation
from casinductor.reports.transfer import Progress, RestoreReport, SyncReport, no_progress
from casinductor.reports.warmup import WarmupReport, to_record
from casinductor.restore.run import Restoration, Restored
from casinductor.settings import RestoreMode, Settings
from casinductor.store.backend import Backend
from casinductor.store.format.names import CacheId
from casinductor.store.opening import with_store
from casinductor.store.store import Store
from casinductor.telemetry import told
from casinductor.util.roots import Roots
from casinductor.util.voice import warn
from casinductor.worker.lock import directory_lock
from casinductor.worker.snapshot import Snapshot, snapshot_since, take_snapshot
from casinductor.worker.staging import sweep_stages

_PASSED_BY = "another process holds the lock of {}, so this one went on without it"


class Cache(Block):
    """One (GPU type, cache key), seen from one worker; as a context manager it restores, points
    torch at :attr:`root`, and syncs.

    ``key`` such as ``my-model/v1``; ``gpu`` defaults to this worker's, ``settings`` to the
    environment's, ``worker`` to this process. ``progress`` may be set to a function of bytes done
    and bytes in all. Raises :class:`~casinductor.errors.InvalidName` for unusable names.
    """

    def __init__(
        self,
        key: str,
        *,
        gpu: str | None = None,
        settings: Settings | None = None,
        worker: Fingerprint | None = None,
    ) -> None:
        self._worker = worker
        self.settings = settings or Settings.from_environment()
        self.id = CacheId(gpu or self.settings.gpu_type or get_gpu_type(), key)
        self.directories = Directories(self.settings)
        self.snapshot: Snapshot | None = None
        self._observation: Observation | None = None
        self._restored = RestoreReport(str(self.id))
        self._backend: Backend | None = None
        self._opened = time.time()
        self._announced: frozenset[str] = frozenset()
        self.progress: Progress = no_progress

    @told("restore")
    def restore(
        self, mode: RestoreMode | None = None, seconds: float | None = None
    ) -> RestoreReport:
        """Materialize what this worker needs and its local directory lacks.

        Of several processes of one machine one does the work. Raises :class:`CasinductorError`
        kinds; :class:`DeadlineExceeded` after ``seconds`` (default: ``restore_deadline``).
        """
        start, self._opened = time.perf_counter(), time.time()
        limit = self.settings.restore_deadline if seconds is None else seconds
        deadline = Deadline(limit, f"restoring {self.id} from {self.settings.store}")
        wanted = mode or self.settings.restore
        try:
            notes = self.directories.require()
            restored = bounded(lambda until: self._restore_by(until, wanted), deadline)
        except Exception as error:
            BREAKER.note(self.settings.store, error, deadline)
            self._take_snapshot(Restored(RestoreReport(str(self.id))))
            raise
        restored.report.notes += notes
        self._take_snapshot(restored)
        restored.report.seconds = time.perf_counter() - start
        return restored.report

    @told("sync")
    def sync(self, seconds: float | None = None, *, keep_equivalent: bool = False) -> SyncReport:
        """Publish what the local directory has and the cache lacks.

        After a :meth:`restore`, artifacts of other caches that this worker did not use are left
        out; without one, everything shareable is published, of other families where the settings
        name them. Raises as :meth:`restore` does; an error means that nothing was acknowledged.
        """
        start = time.perf_counter()
        found = self._walk()
        warmup = self._report(found)
        limit = self.settings.sync_deadline if seconds is None else seconds
        deadline = Deadline(limit, f"syncing {self.id} to {self.settings.store}")
        report, snapshot = self._published(deadline, keep_equivalent, found)
        if warmup is not None:
            from casinductor.store.write.journal import try_to_note

            report.warmup, warmup.manifest = warmup, report.manifest
            if self.settings.warmups and warmup.active and self._backend is not None:
                try_to_note(self._backend, self.id, to_record(warmup))
        if snapshot is not None:
            self.snapshot = snapshot
            self._observe()
        report.seconds = time.perf_counter() - start
        return report

    def publish(self, seconds: float | None = None) -> SyncReport:
        """Publish what is finished and leave the warm-up open; raises as :meth:`sync` does."""
        limit = self.settings.sync_deadline if seconds is None else seconds
        deadline = Deadline(limit, f"publishing {self.id} to {self.settings.store}")
        report, snapshot = self._published(deadline, False, None)
        self.snapshot = snapshot or self.snapshot
        if report.manifest and self._observation is not None:
            self._observation.published.append(report.manifest)
        return report

    def package(self, name: str, build: Callable[[str], object]) -> str:
        """The local path of a file or directory that ``build(path)`` makes once for all workers
        like this one: restored if the store has it, else built and published.

        With ``settings.wait`` one worker builds and the others wait for it. Raises
        :class:`InvalidName` for an unusable name, and what ``build`` raises.
        """
        from casinductor.packages import Package

        return Package(self, name).path(build)

    def _published(
        self, deadline: Deadline, keep_equivalent: bool, found: Walk | None
    ) -> tuple[SyncReport, Snapshot | None]:
        try:
            told = self.directories.require_private()
            report, snapshot = bounded(
                lambda until: self._sync_by(until, keep_equivalent, found), deadline
            )
        except Exception as error:
            BREAKER.note(self.settings.store, error, deadline)
            raise
        report.notes += told
        return report, snapshot

    @property
    def root(self) -> str:
        """Torch's directory, absolute."""
        return self.roots.main

    @property
    def roots(self) -> Roots:
        """The directories of all families that are shared."""
        return self.directories.roots

    @property
    def is_open(self) -> bool:
        """Whether it was loaded and not closed."""
        return self._observation is not None

    def unusable(self) -> str | None:
        """Why the local directory cannot be used, None if it can; it is created if need be."""
        return self.directories.unusable()

    def moved_to(self, root: str) -> Cache:
        """This cache with another local directory, of which what came since the restore counts."""
        settings = replace(self.settings, local_dir=Path(root), families=(INDUCTOR,))
        moved = Cache(self.id.key, gpu=self.id.gpu, settings=settings)
        moved.snapshot = snapshot_since(moved.root, walk(moved.root).files, self._opened)
        moved._announced = self._announced or self._hits()
        return moved

    def warmup(self) -> WarmupReport | None:
        """What happened since the last restore or sync; None without one."""
        return self._report(self._walk())

    def _report(self, found: Walk | None) -> WarmupReport | None:
        """The warm-up; a fault of ours in watching is logged, as it is not worth a worker."""
        if self._observation is None or found is None:
            return None
        try:
            return self._observation.report(self.worker, found)
        except Exception as error:
            warn(f"{self.id}: cannot tell what happened: {error}", error)
            return None

    def _walk(self) -> Walk | None:
        """What there is now, where a warm-up is watched."""
        try:
            return walk(self.roots) if self._observation is not None else None
        except LocalDirectory:
            return None

    def close(self) -> None:
        """Stop observing torch; the next restore begins anew."""
        if self._observation is not None:
            self._observation.close()
            self._observation = None

    def _hits(self) -> frozenset[str]:
        """The keys that torch looked up since the restore, by its own word."""
        return self._observation.keys() if self._observation is not None else frozenset()

    def _observe(self, restored: RestoreReport | None = None) -> None:
        """Begin a new warm-up, of what was restored last."""
        if restored is not None:
            self._restored = restored
        self.close()
        if self.snapshot is not None:
            self._observation = Observation(self._restored, self.snapshot, self.settings.trace)

    def _restore_by(self, deadline: Deadline, mode: RestoreMode) -> Restored:
        host = host_cache(self.settings)

        def work(store: Store) -> Restored:
            BREAKER.check(self.settings.store, store)
            with directory_lock(self.root, deadline) as held:
                if held:
                    sweep_stages(self.roots)
                with host.turn(f"{store.backend.url}\0{self.id}", deadline):
                    reading = Store(host.reading(store.backend), store.catalog, store.trust)
                    restored = Restoration(reading, self._job(deadline), mode, host).run()
            if not held:
                restored.report.notes.append(_PASSED_BY.format(self.root))
            if restored.report.source == "nothing" and not store.trust.active:  # nobody signs zips
                store.format_problem()  # says so if a later format is why nothing was found
                from casinductor.restore.zipped import restore_zip

                return restore_zip(store.backend, self.id, self.root, deadline) or restored
            return restored

        return with_store(self.settings, work, deadline.remaining())

    def _sync_by(
        self, deadline: Deadline, keep_equivalent: bool, walked: Walk | None
    ) -> tuple[SyncReport, Snapshot | None]:
        from casinductor.store.maintain.merge import merge_if_time
        from casinductor.sync.run import Synchronization

        roots = self.directories.published(loaded=self.snapshot is not None)
        job = replace(self._job(deadline), roots=roots)

        def work(store: Store) -> tuple[SyncReport, Snapshot | None]:
            if not any(os.path.isdir(root) for _, root in job.roots):
                return SyncReport(str(self.id)), None
            BREAKER.check(self.settings.store, store)
            self._backend = store.backend
            report, snapshot = Synchronization(
                store,
                job,
                self.snapshot,
                keep_equivalent=keep_equivalent,
                walked=walked,
                announced=self._announced or self._hits(),
                only_announced=self.settings.trust_local and self.snapshot is not None,
                bypassed=self._observation is not None and self._observation.bypassed(),
            ).run()
            report.merged = merge_if_time(store, self.id, self.settings.compact_after, deadline)
            return report, snapshot

        if self.snapshot is None or not os.access(self.root, os.W_OK):
            return with_store(self.settings, work, deadline.remaining())  # it is only read
        with directory_lock(self.root, deadline) as held:
            report, snapshot = with_store(self.settings, work, deadline.remaining())
        if not held:
            report.notes.append(_PASSED_BY.format(self.root))
        return report, snapshot

    def _job(self, deadline: Deadline) -> Job:
        return Job(self.id, self.roots, self.worker, deadline, self.progress)

    @property
    def worker(self) -> Fingerprint:
        """What this worker is, or the one it was made for."""
        known = self._worker or worker_fingerprint()
        return replace(known, roots=self.directories.described(), tag=self.directories.tag)

    def _take_snapshot(self, restored: Restored) -> None:
        try:
            found = walk(self.roots).files
            self.snapshot = take_snapshot(self.roots, found, restored.paths, restored.contents)
        except LocalDirectory:
            self.snapshot = Snapshot(self.roots)
        self._observe(restored.report)
