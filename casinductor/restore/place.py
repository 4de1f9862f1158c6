"""Puts the blobs of wanted files where they belong: in a staging area, then in the directory.

Invariant: a file is placed only once every byte of it was written from verified blobs, and groups
in the order in which torch may use them.
"""

from __future__ import annotations

import os
from collections import defaultdict

from casinductor.deadline import Deadline
from casinductor.families import forms
from casinductor.host_cache import HostCache
from casinductor.inductor.directory import stamp
from casinductor.restore.plan import Task
from casinductor.store.index.catalog import Catalog
from casinductor.store.index.groups import File
from casinductor.store.index.places import Located, Losses, Plan, Unusable
from casinductor.store.read.fetch import Opened
from casinductor.store.read.files import Tables
from casinductor.util.roots import Where, locate
from casinductor.worker.ownership import StampTuple
from casinductor.worker.staging import Staged, Staging


class Targets:
    """The places of each blob: file and offset. Most blobs have one, so that one takes no list."""

    def __init__(self) -> None:
        self._first: dict[bytes, tuple[Staged, int]] = {}
        self._more: dict[bytes, list[tuple[Staged, int]]] = {}

    def add(self, digest: bytes, staged: Staged, offset: int) -> bool:
        """Add a place; True if it is the blob's first."""
        if digest not in self._first:
            self._first[digest] = (staged, offset)
            return True
        self._more.setdefault(digest, []).append((staged, offset))
        return False

    def places(self, digest: bytes) -> list[tuple[Staged, int]]:
        return [self._first[digest], *self._more.get(digest, ())]


class Placement:
    """The files of ``tasks`` on their way into the directories ``where`` through ``stage``; use
    once.

    ``plan`` says which blobs to fetch from where; ``bytes_written`` and ``groups`` count what was
    placed.
    """

    def __init__(self, where: Where, stage: Staging, tasks: list[Task], host: HostCache) -> None:
        self.where = where
        self.plan: Plan = defaultdict(list)
        self.bytes_written = 0
        self.groups = 0
        self._stage = stage
        self._tasks = tasks
        self._host = host
        self._targets = Targets()
        self._fetched: list[tuple[Staged, File]] = []

    def prepare(self, catalog: Catalog, unusable: Unusable, losses: Losses) -> None:
        """Announce every file and plan the blobs to fetch; what no usable place holds is lost.

        Raises :class:`~casinductor.errors.CatalogChanged` where manifests went meanwhile.
        """
        barred: list[bytes] = []
        with catalog.reading():
            tables = Tables(catalog)
            for task in self._tasks:
                for file in task.wanted:
                    if staged := self._announce(task, file):
                        self._place(staged, file, tables, unusable, barred)
            elsewhere = catalog.locate(barred, unusable)
        losses.blobs.update(digest for digest in barred if digest not in elsewhere)
        for frame, located, _ in elsewhere.values():
            self.plan[frame].append(located)

    def _announce(self, task: Task, file: File) -> Staged | None:
        """Stage a file; None if the host's directory had it, so that nothing is to be fetched."""
        staged = self._stage.add(
            file.path, file.mode, task.version.rank, file.size, task.folder, dated=task.dated
        )
        if self._host.supply(self._stage, staged, file):
            return None
        self._fetched.append((staged, file))
        if not file.blobs:
            self._stage.write(staged, b"")
        return staged

    def _place(
        self,
        staged: Staged,
        file: File,
        tables: Tables,
        unusable: Unusable,
        barred: list[bytes],
    ) -> None:
        table, frames = tables.read(file.manifest)
        offset = 0
        for index in file.blobs:
            digest, size = table.hash(index), table.size[index]
            if self._targets.add(digest, staged, offset):
                frame = frames[table.frame[index]]
                if unusable.bars(frame.pack, frame.offset):
                    barred.append(digest)
                else:
                    self.plan[frame].append(Located(digest, table.offset[index], size))
            offset += size

    def write(self, opened: Opened) -> None:
        """Put the verified blobs of one frame wherever they belong."""
        view = memoryview(opened.raw)
        for digest, start, size in opened.blobs:
            data = view[start : start + size]
            for staged, offset in self._targets.places(digest):
                if size == staged.size:
                    self.bytes_written += self._write_whole(staged, data)
                else:
                    self._stage.write_at(staged, offset, data)
                    self.bytes_written += size

    def _write_whole(self, staged: Staged, data: memoryview) -> int:
        if forms.has_form(staged.path):
            root, moment = self._stage.root_of(staged.path), self._stage.moment
            data = memoryview(forms.localize(staged.path, bytes(data), root, moment))
        self._stage.write(staged, data)
        return len(data)

    def keep(self) -> None:
        """Keep what was fetched for the other processes of this host."""
        complete = self._stage.complete()
        for staged, file in self._fetched:
            if staged.path in complete:
                self._host.keep(staged, file)
        self._host.finish()

    def commit(self, deadline: Deadline) -> dict[str, tuple[StampTuple, bytes]]:
        """Place the groups that are complete; the stamp and hash of each file by path."""
        complete = self._stage.complete()
        hashes: dict[str, bytes] = {}
        for task in self._tasks:
            if all(file.path in complete for file in task.wanted):
                hashes.update((file.path, file.hash) for file in task.wanted)
                self.groups += 1
        placed = self._stage.commit(set(hashes), deadline)
        return {
            staged.path: (
                stamp(os.lstat(locate(self.where, staged.path))),
                hashes[staged.path],
            )
            for staged in placed
        }
