"""Files and folders of a shared filesystem, as its backend uses them.

Invariant: a file is opened for reading only if it is a regular one and no link, and what fsync and
close report is honoured.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from casinductor.errors import Damaged, StoreUnavailable, store_error
from casinductor.store.parallel import map_parallel
from casinductor.util.voice import say

#: A directory that changes while it is read is read again, so often at most.
_SCANS = 5
#: File times step with the kernel's tick, 4 to 10 ms: a change so recent may not show in them.
_TICK_NS = 20_000_000


class FolderEntry(NamedTuple):
    """A folder or a file of so many bytes."""

    name: str
    is_folder: bool
    size: int


def write_all(descriptor: int, parts: Iterable[bytes], durable: bool) -> int:
    """Write all parts and close, honouring what fsync and close report; return the bytes."""
    written = 0
    try:
        for part in parts:
            view = memoryview(part)
            while view:
                count = os.write(descriptor, view)
                written += count
                view = view[count:]
        if durable:
            os.fsync(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return written


def open_regular(path: str) -> tuple[int, int]:
    """A descriptor of a regular file and its size; never follows a link or waits for a FIFO."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Damaged(f"{path} is a link, which no store contains") from error
        raise store_error(error, "reading", path) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise Damaged(f"{path} is not a regular file")
    return descriptor, status.st_size


def close_read(descriptor: int) -> None:
    """Close what was only read: an error then says nothing about bytes that are here already."""
    with suppress(OSError):
        os.close(descriptor)


def read_range(descriptor: int, offset: int, length: int, path: str) -> bytes:
    parts: list[bytes] = []
    end = offset + length
    while offset < end:
        try:
            part = os.pread(descriptor, end - offset, offset)
        except OSError as error:
            raise store_error(error, "reading", path) from error
        if not part:
            raise Damaged(f"{path} ends at byte {offset}, before byte {end}")
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def scan(folder: str, parallel: int) -> list[FolderEntry] | None:
    """The entries of a directory at one moment, without those that begin with a dot; None if it
    is missing.

    readdir(3) promises nothing about entries that come and go meanwhile: a manifest and the one
    that replaces it might both be missed. One descriptor serves all, as over a network each look
    at a path may cost a round trip for each of its parts.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise store_error(error, "listing", folder) from error
    try:
        for _ in range(_SCANS):
            changed = os.fstat(descriptor).st_mtime_ns
            began = time.time_ns()
            with os.scandir(descriptor) as entries:
                names = [entry for entry in entries if not entry.name.startswith(".")]
            if os.fstat(descriptor).st_mtime_ns == changed and not 0 <= began - changed < _TICK_NS:
                break
        looks = map_parallel(lambda entry: _entry(descriptor, entry), names, parallel)
        return [entry for entry in looks if entry is not None]
    except OSError as error:
        if error.errno == errno.ESTALE:
            return []
        raise store_error(error, "listing", folder) from error
    finally:
        os.close(descriptor)


def _entry(folder: int, entry: os.DirEntry[str]) -> FolderEntry | None:
    """A folder or regular file of an open directory; None for anything else, and what is gone."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return FolderEntry(entry.name, True, 0)
        if entry.is_file(follow_symlinks=False):
            status = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
            return FolderEntry(entry.name, False, status.st_size)
    except FileNotFoundError:
        pass
    return None


def absence(root: str) -> str:
    """Why there is no directory of this name."""
    try:
        os.stat(root)
    except FileNotFoundError:
        return "no such directory"
    except PermissionError:
        return f"uid {os.geteuid()} may not look there"
    except OSError as error:
        return error.strerror or str(error)
    return "it is not a directory"


def make_folders(folder: str, root: str, durable: bool) -> None:
    """Create ``folder`` below a ``root`` whose parent exists, with the rights that the nearest
    existing folder gives its group; if ``durable``, sync each new entry in its parent.

    Raises :class:`StoreUnavailable` where the parent of the root is missing: nothing is created
    below a mount point that is not mounted.
    """
    parent = os.path.dirname(root)
    if not os.path.isdir(root):
        if not os.path.isdir(parent):
            raise StoreUnavailable(
                f"there is no store at {root}: {parent} does not exist, or is not mounted"
            )
        say(f"creating the store {root}")
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        above = os.stat(os.path.dirname(path)).st_mode
        with suppress(FileExistsError):
            os.mkdir(path)
            share_with_group(path, above)
        if durable and path.startswith(root):
            sync_folder(os.path.dirname(path))


def share_with_group(path: str | int, above: int) -> None:
    """Give a new file (its descriptor) or folder the rights that the mode ``above``, of the folder
    it lies in, gives the group: whatever this process's umask, all members publish.
    """
    if not above & stat.S_IWGRP:
        return
    mode = stat.S_IMODE(os.stat(path).st_mode)
    wanted = stat.S_IRGRP | stat.S_IWGRP
    if not isinstance(path, int):
        wanted |= above & (stat.S_IXGRP | stat.S_ISGID)
    if mode | wanted != mode:
        os.chmod(path, mode | wanted)


def sync_folder(folder: str) -> None:
    """Make a directory's entries durable; filesystems that cannot sync directories say EINVAL."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise store_error(error, "syncing", folder, writing=True) from error
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise store_error(error, "syncing", folder, writing=True) from error
    finally:
        os.close(descriptor)
