"""What filesystem a path lies on, as the kernel tells.

Invariant: an unknown type counts as a network's, which promises least.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

#: Filesystems that one kernel alone serves, so that a listing is never out of date.
LOCAL_TYPES = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay", "bcachefs")
)

#: Filesystems on which nothing may be published, and why. rclone gives one name to two writers and
#: uploads after ``close`` has returned (rclone.org/commands/rclone_mount, "VFS File Caching").
UNSAFE_TYPES = {
    "fuse.rclone": "it uploads after close, so what was acknowledged may be lost",
}


def unsafe(path: str) -> str | None:
    """Why nothing may be published on the filesystem of ``path``; None if it may."""
    kind = filesystem_type(path)
    reason = UNSAFE_TYPES.get(kind)
    return f"{kind}: {reason}" if reason else None


def is_local(path: str) -> bool:
    """Whether only this machine serves the filesystem of ``path``."""
    return filesystem_type(path) in LOCAL_TYPES


@lru_cache(maxsize=64)
def filesystem_type(path: str) -> str:
    """The type of the mount that holds ``path``, from /proc/self/mountinfo; "" if unknown."""
    mounts = _mounts()
    number = _device(path)
    kinds = {kind for device, _, kind in mounts if device == number}
    if len(kinds) == 1:
        return kinds.pop()
    # Subvolumes have devices of their own, and one device may be bound to several places.
    real = os.path.realpath(path)
    best, kind = "", ""
    for _, mount, type_ in mounts:
        inside = real == mount or real.startswith(mount + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, type_
    return kind


def _mounts() -> list[tuple[str, str, str]]:
    """Device ("major:minor"), place and type of each mount, from /proc/self/mountinfo."""
    try:
        text = Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) >= 5:
            mount = fields[4].replace("\\040", " ").rstrip("/")
            found.append((fields[2], mount, right.split(" ", 1)[0]))
    return found


def _device(path: str) -> str:
    """The device number of a path, or of the nearest folder above it that exists."""
    while True:
        try:
            number = os.stat(path).st_dev
        except OSError:
            above = os.path.dirname(path)
            if above == path:
                return ""
            path = above
        else:
            return f"{os.major(number)}:{os.minor(number)}"
