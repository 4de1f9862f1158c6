"""Which of the restored files were read since, as their access times tell.

Invariant: what a mount does not record is None, never zero.
"""

from __future__ import annotations

import msgspec

from casinductor.inductor.directory import Found, Walk
from casinductor.worker.snapshot import Snapshot


class Usage(msgspec.Struct):
    """``read``: paths of restored files that were read since, of ``read_bytes`` together; both None
    where the mount keeps no access times. ``used`` and ``unused``: the first 8 bytes of the
    contents of the groups that were restored, end to end. ``restored``: how many files, of
    ``restored_bytes``.
    """

    restored: int = 0
    restored_bytes: int = 0
    read: list[str] | None = None
    read_bytes: int | None = None
    used: bytes = b""
    unused: bytes = b""
    notes: list[str] = msgspec.field(default_factory=list)


def usage(walk: Walk, new: dict[str, Found], snapshot: Snapshot) -> Usage:
    """What was used of the files that ``snapshot`` has as the cache's own, ``new`` ones left out.

    Marks are empty and never read, so they are no part of it.
    """
    sizes = {path: size for path in snapshot.own if (size := snapshot.stamps[path][0])}
    result = Usage(len(sizes), sum(sizes.values()))
    if not snapshot.keeps_atime:
        if snapshot.own:
            result.notes.append("this mount keeps no access times: what was read is unknown")
        return result
    own = {path: walk.files[path] for path in sizes.keys() & walk.files.keys() - new.keys()}
    read = {path for path, file in own.items() if was_read(file)}
    result.read, result.read_bytes = sorted(read), sum(own[path].stamp.size for path in read)
    groups: dict[bytes, bool] = {}
    for path, content in snapshot.group_of.items():
        if path in own and content:
            groups[content] = groups.get(content, False) or path in read
    result.used = b"".join(sorted(content[:8] for content, was in groups.items() if was))
    result.unused = b"".join(sorted(content[:8] for content, was in groups.items() if not was))
    return result


def was_read(file: Found) -> bool:
    """Whether the file was read after it was written, or after its access time was set back."""
    return file.atime > file.stamp.mtime
