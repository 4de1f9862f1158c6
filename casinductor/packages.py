"""Packages: a file or directory that a program makes once, and every worker of its kind then has.

Invariant: a path that is returned holds a whole package for this worker, made by its own program or
by another worker's; whatever a store does, the program's own way to make it is tried, and only what
that raises is raised.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from casinductor.cache import Cache
from casinductor.deadline import Deadline, bounded
from casinductor.errors import CasinductorError, HostilePath, InvalidName
from casinductor.families.packages import NAME
from casinductor.job import Job
from casinductor.restore.run import Restoration
from casinductor.store.format.frame import blake3_digest
from casinductor.store.format.paths import check_path
from casinductor.store.opening import with_store
from casinductor.store.store import Store
from casinductor.storm.cold import prepared
from casinductor.storm.leader import Leader
from casinductor.storm.waiting import Waiting, kind_of, lead, team_of
from casinductor.sync.run import Synchronization
from casinductor.util.roots import MARK, Roots
from casinductor.util.voice import say, warn
from casinductor.worker.lock import private_folder

T = TypeVar("T")


class Package:
    """The package of this ``name`` in a cache. Raises :class:`InvalidName` for unusable names."""

    def __init__(self, cache: Cache, name: str) -> None:
        try:
            check_path(name)
        except HostilePath as error:
            raise InvalidName(f"a package cannot be called {name[:80]!r}: {error}") from error
        if "/" in name or MARK in name:
            raise InvalidName(f"a package's name has neither / nor {MARK}, as {name[:80]!r} has")
        self._cache = cache
        self._name = name
        self._group = f"{NAME}{MARK}{name}"
        self._kind = kind_of(cache.worker)
        place = ("packages", cache.id.gpu, *cache.id.key.split("/"), self._kind)
        self._folder = os.path.join(private_folder(cache.root), *place)

    def path(self, build: Callable[[str], object]) -> str:
        """Where it lies here: restored, or made by ``build``, which is given the path to make, and
        then published.
        """
        target = os.path.join(self._folder, self._name)
        if os.path.lexists(target):
            return target
        os.makedirs(self._folder, exist_ok=True)
        if self._try("restore", self._restore):
            return target
        leader = self._try("wait for", self._wait) if self._cache.settings.wait else None
        try:
            if not os.path.lexists(target):
                self._build(build, target)
        finally:
            if isinstance(leader, Leader):
                leader.finish()
        return target

    def _build(self, build: Callable[[str], object], target: str) -> None:
        with self._aside() as folder:
            made = os.path.join(folder, self._name)
            build(made)
            if not os.path.lexists(made):
                raise InvalidName(f"build made nothing at {made}")
            self._try("publish", lambda: self._publish(folder))
            self._place(made, target)

    def _restore(self) -> bool:
        """Whether the store had it for this worker."""

        def work(store: Store, until: Deadline, folder: str) -> bool:
            Restoration(store, self._job(folder, until), "all").run()
            return os.path.lexists(os.path.join(folder, self._name))

        seconds = self._cache.settings.restore_deadline
        with self._aside() as folder:
            found = self._within(seconds, "restoring", lambda s, d: work(s, d, folder))
            if found:
                made = os.path.join(folder, self._name)
                self._place(made, os.path.join(self._folder, self._name))
                say(f"{self._cache.id}: package {self._name} restored")
            return found

    def _publish(self, folder: str) -> None:
        _require_storable(os.path.join(folder, self._name), folder)

        def work(store: Store, until: Deadline) -> None:
            report, _ = Synchronization(store, self._job(folder, until), None).run()
            say(f"{self._cache.id}: package {self._name}: {report.summary()}")

        self._within(self._cache.settings.sync_deadline, "publishing", work)

    def _wait(self) -> Leader | None:
        """Wait for another worker that makes it, or lead."""
        cache = self._cache
        backend = with_store(cache.settings, lambda store: prepared(store, str(cache.id)))
        kind = f"{int(self._kind, 16) ^ _number(self._name):08x}"
        team = team_of(os.environ)
        limit = cache.settings.wait
        waiting = Waiting(backend, cache.id, kind, team, limit, lambda: not self._restore())
        claimed = waiting.lead_or_wait(cold=True)
        return lead(backend, cache.id, claimed) if claimed is not None else None

    def _job(self, folder: str, deadline: Deadline) -> Job:
        cache = self._cache
        roots = Roots(cache.root, {NAME: folder}, torch=False)
        return Job(cache.id, roots, cache.worker, deadline, only=self._group)

    def _within(self, seconds: float, doing: str, work: Callable[[Store, Deadline], T]) -> T:
        cache = self._cache
        what = f"{doing} package {self._name} of {cache.id}"
        deadline = Deadline(seconds, what)
        return bounded(
            lambda until: with_store(
                cache.settings, lambda store: work(store, until), until.remaining()
            ),
            deadline,
        )

    def _try(self, verb: str, work: Callable[[], object]) -> object:
        """What it returns; None, and a line, where the store or we fail."""
        try:
            return work()
        except CasinductorError as error:
            warn(f"{self._cache.id}: cannot {verb} package {self._name}: {error}")
            return None

    @contextmanager
    def _aside(self) -> Iterator[str]:
        """A folder beside the package's place, gone after the block."""
        folder = tempfile.mkdtemp(prefix="aside-", dir=os.path.dirname(self._folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _place(self, made: str, target: str) -> None:
        """Put it in its place; where another process was first, its own stays."""
        try:
            os.rename(made, target)
        except OSError:
            if not os.path.lexists(target):
                raise


def _number(name: str) -> int:
    """Eight hexadecimal digits of a name's hash, as a number."""
    return int.from_bytes(blake3_digest(name.encode())[:4], "big")


def _require_storable(made: str, folder: str) -> None:
    """Raise :class:`HostilePath` where something in it could not be stored, so that nobody gets a
    package that lacks a file.
    """
    paths = [made] if os.path.isfile(made) else _below(made)
    for path in paths:
        if os.path.islink(path) or not (os.path.isfile(path)):
            raise HostilePath(f"{path} is no regular file")
        check_path(os.path.relpath(path, folder))


def _below(folder: str) -> list[str]:
    found = []
    for parent, folders, files in os.walk(folder):
        found += [os.path.join(parent, name) for name in files]
        found += [os.path.join(parent, n) for n in folders if os.path.islink(f"{parent}/{n}")]
    return found
