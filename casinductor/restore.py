"""Restore: materialize what a cache holds for this worker and its local directory lacks.

Invariant: a file that appears is whole, verified, allowed on this worker and belongs to the one
version of its group that lives; when time or the store runs out, nothing half done appears.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from casinductor.deadline import Deadline
from casinductor.errors import Damaged, HostilePath
from casinductor.inductor import triton
from casinductor.inductor.directory import Found, Unstable, Walk, read_stable, stamp, walk
from casinductor.inductor.fingerprint import Fingerprint, refusal
from casinductor.inductor.layout import Kind, classify, shared
from casinductor.nearby import Nearby
from casinductor.reports import Progress, RestoreReport, no_progress
from casinductor.settings import Restore
from casinductor.store.fetch import (
    Located,
    Losses,
    Opened,
    Plan,
    Unusable,
    fetch,
    locate,
    planned_bytes,
)
from casinductor.store.frame import blake3_digest
from casinductor.store.health import lost_versions
from casinductor.store.names import CacheId
from casinductor.store.parallel import beside
from casinductor.store.paths import check_mode, check_path
from casinductor.store.reading import Tables
from casinductor.store.store import Findings, Store
from casinductor.store.union import File, Union, Version, files, paths, resolve, versions
from casinductor.worker.ownership import Record, StampTuple, read_records, write_record
from casinductor.worker.staging import Staged, Staging, staging

_LATELY_NS = 3_600 * 10**9


@dataclass
class Task:
    """One group to restore: the version that lives and those of its files that are wanted."""

    version: Version
    wanted: list[File]


@dataclass
class Restored:
    """The outcome: the report, the groups that now count as the cache's own, by id and by path."""

    report: RestoreReport
    contents: dict[str, bytes] = field(default_factory=dict)
    paths: dict[str, bytes] = field(default_factory=dict)


def record_name(store: Store, cache: CacheId) -> str:
    """The name of this cache's record of ownership in a local directory."""
    return blake3_digest(f"{store.backend.url}\0{cache}".encode()).hex()[:32]


class Restoration:
    """One restore of ``cache`` into ``root``; use once."""

    def __init__(
        self,
        store: Store,
        cache: CacheId,
        root: str,
        mode: Restore,
        worker: Fingerprint,
        deadline: Deadline,
        progress: Progress = no_progress,
        nearby: Nearby | None = None,
    ) -> None:
        self.progress = progress
        self.nearby = nearby or Nearby()
        self.store = store
        self.cache = cache
        self.root = root
        self.mode = mode
        self.worker = worker
        self.deadline = deadline
        self.report = RestoreReport(str(cache))
        self.findings = Findings()
        self.unusable = Unusable()
        self._record_name = record_name(store, cache)
        self._verified: dict[str, tuple[StampTuple, bytes]] = {}
        self._restamped = False

    def run(self) -> Restored:
        """Restore from the cache's manifests; raises what the store's listing raises, and
        :class:`Damaged` where manifests are listed and none can be read.
        """
        listed = self.store.refresh(self.cache.gpu, self.cache.key, self.findings, self.deadline)
        found = versions(self.store.catalog, self.cache)
        damage = self.findings.damage
        if listed and damage and not self.store.catalog.known(self.cache.gpu, self.cache.key):
            raise Damaged(f"no manifest of {self.cache} can be read: {damage[0]}")
        if not found:
            return Restored(self.report)
        self.report.source = "manifests"
        noted = beside(lambda: self.store.note_use(self.cache), self.store.backend.parallel)
        for record in read_records(self.root).values():
            self._verified.update(record.files)
        union = self._restore(found)
        self._finish(union)
        noted(self.deadline.remaining())
        own = paths(self.store.catalog, union.groups.values())
        if self.report.files_written or self._restamped:
            mine = {path: self._verified[path] for path in own.keys() & self._verified.keys()}
            write_record(self.root, self._record_name, Record(str(self.cache), mine))
        return Restored(self.report, {g: v.content for g, v in union.groups.items()}, own)

    def _restore(self, found: list[Version]) -> Union:
        """Resolve, fetch, and on losses try again with what is left.

        Beside busy collectors one group may stand in many manifests whose packs are gone. Every
        round learns of such places or of newer manifests, so only the deadline bounds them.
        """
        while True:
            self.deadline.check()
            union = self._resolve(found)
            losses = self._materialize(self._tasks(union))
            if not losses.blobs:
                return union
            if self.store.catalog.inherited:
                found = self._reread()
            elif losses.packs and self._moved():
                found = versions(self.store.catalog, self.cache)
            elif not self._give_up(losses):
                return union

    def _resolve(self, found: list[Version]) -> Union:
        """The union of what can be had, with what cannot in the report."""
        lost = lost_versions(self.store.catalog, found, self.unusable)
        intact = [version for version in found if version.row not in lost]
        union = resolve(intact, self._judge)
        everything = resolve(found, self._judge) if lost else union
        self.report.lost = len(everything.groups.keys() - union.groups.keys())
        self.report.refused = {
            why: len({version.id for version in those}) for why, those in union.refused.items()
        }
        return union

    def _give_up(self, losses: Losses) -> bool:
        """Mark and report the places that were lost; False if all of them were known."""
        self.store.quarantine(losses)
        self.report.damage += [
            f"pack {frame.pack} at byte {frame.offset}: {reason}"
            for frame, reason in losses.frames.items()
        ]
        gone, spots = losses.packs - self.unusable.packs, losses.spots - self.unusable.spots
        self.report.damage += [f"pack {pack} is gone" for pack in sorted(gone)]
        self.report.damage += losses.failures
        self.unusable.packs |= gone
        self.unusable.frames |= {(frame.pack, frame.offset) for frame in losses.frames}
        self.unusable.spots |= spots
        return bool(gone or spots)

    def _reread(self) -> list[Version]:
        """Blame the catalog before the store: read this cache's manifests anew."""
        catalog = self.store.catalog
        known = catalog.known(self.cache.gpu, self.cache.key)
        catalog.drop(row for row, _ in known.values())
        catalog.inherited = False
        self.store.refresh(self.cache.gpu, self.cache.key, self.findings, self.deadline)
        return versions(catalog, self.cache)

    def _moved(self) -> bool:
        """Whether the cache's manifests changed meanwhile: a collector put its blobs elsewhere."""
        before = self.store.catalog.known(self.cache.gpu, self.cache.key).keys()
        self.store.refresh(self.cache.gpu, self.cache.key, self.findings, self.deadline)
        return self.store.catalog.known(self.cache.gpu, self.cache.key).keys() != before

    def _judge(self, demands: dict[str, Any]) -> str | None:
        return refusal(demands, self.worker)

    def _tasks(self, union: Union) -> list[Task]:
        """The groups with something wanted; those that ask for something hostile are refused."""
        needed = self.mode == "needed"
        members = files(self.store.catalog, union.groups.values(), needed=needed)
        tasks = []
        for version in union.groups.values():
            try:
                wanted = [_checked(file, version) for file in members[version.row]]
            except HostilePath as error:
                self.report.refused[str(error)] = self.report.refused.get(str(error), 0) + 1
                continue
            if wanted:
                tasks.append(Task(version, wanted))
        self.report.groups = len(tasks)
        self.report.files = sum(len(task.wanted) for task in tasks)
        return tasks

    def _materialize(self, tasks: list[Task]) -> Losses:
        """Write what the local directory lacks of ``tasks``; return what could not be had."""
        local = walk(self.root)
        lacking = []
        for task in tasks:
            files_lacking = self._lacking(task, local)
            if files_lacking:
                lacking.append(Task(task.version, files_lacking))
        losses = Losses()
        if not lacking:
            return losses
        with staging(self.root) as stage:
            self.store.catalog.save_meanwhile()
            targets, plan = self._plan(stage, lacking, losses)
            stage.make_room()
            if not plan:
                self.nearby.pass_on()
            total, done = planned_bytes(plan), 0
            self.report.bytes_read += total
            for opened in fetch(self.store.backend, plan, losses, self.deadline):
                self._write(stage, opened, targets)
                done += opened.stored
                self.progress(done, total)
            self._keep(stage, targets)
            self.nearby.pass_on()
            self._commit(stage, lacking)
        return losses

    def _keep(self, stage: Staging, targets: Targets) -> None:
        """Keep what was fetched for the other processes of this host."""
        complete = stage.complete()
        for staged, file in targets.files:
            if staged.path in complete:
                self.nearby.keep(staged, file)
        self.nearby.finish()

    def _lacking(self, task: Task, local: Walk) -> list[File]:
        """The files to write: a Triton directory whole or not at all, others one by one."""
        lacking = [file for file in task.wanted if not self._has(file, task.version, local)]
        return task.wanted if lacking and task.version.kind == Kind.TRITON.value else lacking

    def _has(self, file: File, version: Version, local: Walk) -> bool:
        found = local.files.get(file.path)
        if found is None or (found.mode & 0o100) != (file.mode & 0o100):
            return False
        known = self._verified.get(file.path)
        if known is not None and tuple(known[0]) == tuple(found.stamp):
            digest = known[1]
        else:
            data = _content(self.root, found)
            digest = blake3_digest(data)
            self._verified[file.path] = (found.stamp, digest)
        if digest == file.hash:
            self._forget_reads(found, digest)
            return True
        if version.kind == Kind.TUNING.value and _is_tuning(_content(self.root, found)):
            self.report.files_kept += 1  # this worker tuned by itself since
            return True
        return False

    def _forget_reads(self, found: Found, digest: bytes) -> None:
        """Set an old access time back, so that a read by this worker shows; what was read lately
        may be another worker's of this machine that still counts on it.
        """
        modified = found.stamp.mtime
        if not modified < found.atime < time.time_ns() - _LATELY_NS:
            return
        path = os.path.join(self.root, found.path)
        with suppress(OSError):
            os.utime(path, ns=(modified - 1, modified))
            self._verified[found.path] = (stamp(os.lstat(path)), digest)
            self._restamped = True

    def _plan(self, stage: Staging, lacking: list[Task], losses: Losses) -> tuple[Targets, Plan]:
        """Where each blob goes, and the frames to fetch it from."""
        targets = Targets()
        plan: Plan = defaultdict(list)
        barred: list[bytes] = []
        tables = Tables(self.store.catalog)
        for task in lacking:
            whole = task.version.kind == Kind.TRITON.value
            for file in task.wanted:
                folder = file.path.rpartition("/")[0] if whole else None
                staged = stage.add(file.path, file.mode, task.version.rank, file.size, folder)
                if self.nearby.supply(stage, staged, file):
                    continue
                targets.files.append((staged, file))
                if not file.blobs:
                    stage.write(staged, b"")
                offset = 0
                table, frames = tables.of(file.manifest)
                for index in file.blobs:
                    digest, size = table.hash(index), table.size[index]
                    if targets.add(digest, staged, offset):
                        frame = frames[table.frame[index]]
                        if self.unusable.bars(frame.pack, frame.offset):
                            barred.append(digest)
                        else:
                            plan[frame].append(Located(digest, table.offset[index], size))
                    offset += size
        elsewhere = locate(self.store.catalog, barred, self.unusable)
        losses.blobs.update(digest for digest in barred if digest not in elsewhere)
        for frame, located in elsewhere.values():
            plan[frame].append(located)
        return targets, plan

    def _write(self, stage: Staging, opened: Opened, targets: Targets) -> None:
        """Put the blobs of one frame wherever they belong."""
        view, written = memoryview(opened.raw), 0
        for digest, start, size in opened.blobs:
            data = view[start : start + size]
            for staged, offset in targets.of(digest):
                if size == staged.size:
                    written += self._write_whole(stage, staged, data)
                else:
                    stage.write_at(staged, offset, data)
                    written += size
        self.report.bytes_written += written

    def _write_whole(self, stage: Staging, staged: Staged, data: memoryview) -> int:
        if triton.is_group_file(staged.path):
            data = memoryview(triton.localize(staged.path, bytes(data), self.root))
        stage.write(staged, data)
        return len(data)

    def _commit(self, stage: Staging, lacking: list[Task]) -> None:
        """Place the groups that are complete, and remember their files' stamps and hashes."""
        complete = stage.complete()
        hashes: dict[str, bytes] = {}
        for task in lacking:
            if all(file.path in complete for file in task.wanted):
                hashes.update((file.path, file.hash) for file in task.wanted)
                self.report.groups_restored += 1
        for staged in stage.commit(set(hashes), self.deadline):
            status = os.lstat(os.path.join(self.root, staged.path))
            self._verified[staged.path] = (stamp(status), hashes[staged.path])
            self.report.files_written += 1

    def _finish(self, union: Union) -> None:
        report = self.report
        report.bytes_read += self.findings.bytes_read
        near = self.nearby
        report.bytes_nearby = near.files_bytes + near.manifest_bytes
        report.bytes_read -= near.manifest_bytes
        report.bytes_written += near.files_bytes
        report.damage += self.findings.damage
        lines = sorted(f"{group}\0{v.content.hex()}" for group, v in union.groups.items())
        report.state = blake3_digest("\n".join(lines).encode()).hex() if lines else ""
        self._note_moved(union)

    def _note_moved(self, union: Union) -> None:
        """Say so when Triton's autotune results were found at another path, where they are lost."""
        roots = {
            row[0]
            for row in self.store.catalog.db.execute(
                "SELECT DISTINCT root FROM manifest WHERE gpu = ? AND key = ?",
                (self.cache.gpu, self.cache.key),
            )
        }
        tuned = any(v.kind == Kind.TUNING.value for v in union.groups.values())
        if tuned and roots and self.root not in roots:
            self.report.notes.append(
                f"made in {', '.join(sorted(roots)[:3])}: autotuning results are found there only"
            )


class Targets:
    """The places of each blob: file and offset. Most blobs have one, so that one takes no list."""

    def __init__(self) -> None:
        self._first: dict[bytes, tuple[Staged, int]] = {}
        self._more: dict[bytes, list[tuple[Staged, int]]] = {}
        self.files: list[tuple[Staged, File]] = []

    def add(self, digest: bytes, staged: Staged, offset: int) -> bool:
        """Add a place; True if it is the blob's first."""
        if digest not in self._first:
            self._first[digest] = (staged, offset)
            return True
        self._more.setdefault(digest, []).append((staged, offset))
        return False

    def of(self, digest: bytes) -> list[tuple[Staged, int]]:
        return [self._first[digest], *self._more.get(digest, ())]


def _checked(file: File, version: Version) -> File:
    """``file`` with its whole hash, if its path, mode and kind are what a cache may hold."""
    check_path(file.path)
    check_mode(file.mode, file.path)
    place = classify(file.path)
    if not shared(place, file.size) or place.kind is None or place.kind.value != version.kind:
        raise HostilePath(f"path {file.path[:80]!r} is no {version.kind} artifact")
    return file


def _content(root: str, found: Found) -> bytes:
    """A local file in the form it is stored in; unreadable or changing counts as empty."""
    try:
        data = read_stable(root, found)
    except Unstable:
        return b""
    return triton.portable(found.path, data) if triton.is_group_file(found.path) else data


def _is_tuning(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False
