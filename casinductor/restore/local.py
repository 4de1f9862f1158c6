"""What a local directory has already of what is wanted.

Invariant: a file counts as there only if its content is what is wanted, as verified now or by an
earlier restore that recorded its stamp.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

from casinductor.families import forms
from casinductor.families.place import REWRITTEN, WHOLE_KINDS
from casinductor.inductor.directory import Found, Unstable, Walk, read_stable, stamp
from casinductor.restore.plan import Task
from casinductor.store.format.frame import blake3_digest
from casinductor.store.index.groups import File, Version
from casinductor.util.roots import Where, locate, roots_of
from casinductor.worker.ownership import StampTuple, read_records

#: What was read within this hour may have been read by another worker that still counts on it.
_LATELY_NS = 3_600 * 10**9


class LocalFiles:
    """The files of the directories ``where`` and the content they were verified to have, by path.

    ``kept`` counts files that differ from the cache's but are this worker's own and better;
    ``restamped`` says that access times were set back.
    """

    def __init__(self, where: Where) -> None:
        self.where = where
        self.verified: dict[str, tuple[StampTuple, bytes]] = {}
        self.kept = 0
        self.restamped = False
        for record in read_records(roots_of(where).main).values():
            self.verified.update(record.files)

    def lacking(self, tasks: list[Task], walk: Walk) -> list[Task]:
        """Of each task, the files to write; tasks with none drop out."""
        found = ((task.version, self._lacking(task, walk)) for task in tasks)
        return [Task(version, files) for version, files in found if files]

    def _lacking(self, task: Task, walk: Walk) -> list[File]:
        """What is written whole or not at all, others file by file."""
        lacking = [file for file in task.wanted if not self._has(file, task.version, walk)]
        return task.wanted if lacking and task.version.kind in WHOLE_KINDS else lacking

    def is_same(self, file: File, found: Found) -> bool:
        """Whether a local file has the content of the cache's, as verified now or before."""
        return self._digest(found) == file.hash

    def _digest(self, found: Found) -> bytes:
        known = self.verified.get(found.path)
        if known is not None and tuple(known[0]) == tuple(found.stamp):
            return known[1]
        digest = blake3_digest(self._content(found))
        self.verified[found.path] = (found.stamp, digest)
        return digest

    def _has(self, file: File, version: Version, walk: Walk) -> bool:
        found = walk.files.get(file.path)
        if found is None or (found.mode & 0o100) != (file.mode & 0o100):
            return False
        digest = self._digest(found)
        if digest == file.hash:
            self._forget_reads(found, digest)
            return True
        if version.kind in REWRITTEN and _is_tuning(self._content(found)):
            self.kept += 1  # this worker tuned by itself since
            return True
        return False

    def _content(self, found: Found) -> bytes:
        """A local file in the form it is stored in; unreadable or changing counts as empty."""
        try:
            data = read_stable(self.where, found)
        except Unstable:
            return b""
        return forms.portable(found.path, data)

    def _forget_reads(self, found: Found, digest: bytes) -> None:
        """Set an old access time back, so that a read by this worker shows; what was read lately
        may be another worker's of this machine that still counts on it.
        """
        modified = found.stamp.mtime
        if not modified < found.atime < time.time_ns() - _LATELY_NS:
            return
        path = locate(self.where, found.path)
        with suppress(OSError):
            os.utime(path, ns=(modified - 1, modified))
            self.verified[found.path] = (stamp(os.lstat(path)), digest)
            self.restamped = True


def _is_tuning(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False
