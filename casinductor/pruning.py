"""Keeps a local directory below a size: what was used longest ago goes, group by group.

Invariant: nothing goes that a living process has mapped or open, or that was written or read within
:data:`RECENT_SECONDS`; a group goes whole or not at all, so what is left is what a hit finds whole.
Torch compiles again what is gone, and the store still has it.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from casinductor.inductor.directory import Found, walk
from casinductor.util.human import counted, size
from casinductor.util.roots import Roots

RECENT_SECONDS = 3600.0


@dataclass
class PruneReport:
    """What a directory took (``files`` are inodes, folders left out), and what was or would be
    removed of it; ``groups_in_use`` stayed although they were among the oldest.
    """

    directory: str
    applied: bool = False
    files: int = 0
    bytes: int = 0
    groups_removed: int = 0
    files_removed: int = 0
    bytes_removed: int = 0
    groups_in_use: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def summary(self) -> str:
        """One line."""
        verb = "removed" if self.applied else "would remove"
        text = (
            f"{self.directory}: {size(self.bytes)} in {counted(self.files, 'file')}; {verb} "
            f"{counted(self.groups_removed, 'group')}, {counted(self.files_removed, 'file')}, "
            f"{size(self.bytes_removed)}"
        )
        if self.groups_in_use:
            text += f"; {counted(self.groups_in_use, 'group')} in use stayed"
        return text


def prune(root: str, max_bytes: int, *, apply: bool = True) -> PruneReport:
    """Remove what was used longest ago until the rest takes at most ``max_bytes``.

    Raises :class:`~casinductor.errors.LocalDirectory` for a directory that cannot be read.
    """
    report = PruneReport(root, apply)
    report.files, report.bytes = _taken(root)
    if report.bytes <= max_bytes:
        return report
    groups: dict[str, list[Found]] = defaultdict(list)
    for file in walk(Roots(root)).files.values():
        groups[file.place.group].append(file)
    busy, now = set(_in_use(root)), time.time_ns()
    for files in sorted(groups.values(), key=_last_use):
        if report.bytes - report.bytes_removed <= max_bytes:
            break
        recent = now - _last_use(files) < RECENT_SECONDS * 1e9
        if recent or any(os.path.join(root, file.path) in busy for file in files):
            report.groups_in_use += 1
            continue
        report.groups_removed += 1
        for file in files:
            report.files_removed += 1
            report.bytes_removed += file.stamp.size
            if apply:
                with suppress(OSError):
                    os.unlink(os.path.join(root, file.path))
    if apply:
        _drop_empty_folders(root)
    return report


def _last_use(files: list[Found]) -> int:
    """When any file of a group was last read, written or put there, in nanoseconds."""
    return max(max(file.atime, file.stamp.mtime, file.stamp.ctime) for file in files)


def _taken(root: str) -> tuple[int, int]:
    """How many files lie below a directory, and their bytes."""
    files = total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
                files += 1
    return files, total


def _in_use(root: str) -> Iterator[str]:
    """The files below a directory that processes of this user have mapped or open."""
    below = os.path.realpath(root) + os.sep
    for process in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if not process.isdecimal():
            continue
        with suppress(OSError), open(f"/proc/{process}/maps", encoding="utf-8") as maps:
            for line in maps:
                path = line[line.find("/") :].rstrip("\n") if "/" in line else ""
                if path.startswith(below):
                    yield os.path.join(root, path[len(below) :])
        with suppress(OSError):
            for descriptor in os.listdir(f"/proc/{process}/fd"):
                with suppress(OSError):
                    path = os.readlink(f"/proc/{process}/fd/{descriptor}")
                    if path.startswith(below):
                        yield os.path.join(root, path[len(below) :])


def _drop_empty_folders(root: str) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        if folder != root:
            with suppress(OSError):  # not empty, which is what tells
                os.rmdir(folder)
