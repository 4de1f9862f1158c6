"""Whether a local directory can be used at all, found out before torch is pointed at it.

Invariant: a directory that passes was written, takes executable mappings, and belongs to this user
alone; one that fails is named with the reason, and nothing of it is used.
"""

from __future__ import annotations

import mmap
import os
import stat
from contextlib import suppress

from casinductor.worker import PRIVATE
from casinductor.worker.lock import private_folder

_PAGE = 4096
_TRUSTED_OWNERS = {0}


def problem_with(root: str, *, trust: bool = False) -> str | None:
    """Why ``root`` cannot be a local directory, None if it can; it is created if need be.

    ``trust`` passes over who else can write it.
    """
    try:
        _create(root)
        if not trust and (reason := exposed(root)):
            return reason
        private_folder(root)
        if not trust and (reason := exposed(os.path.join(root, PRIVATE))):
            return reason
        return _try(root)
    except OSError as error:
        return f"{error.strerror or error}: {error.filename or root}"


def _create(root: str) -> None:
    """Create it for this user to write, whatever the umask gives others."""
    if not os.path.isdir(root):
        os.makedirs(root, mode=0o755, exist_ok=True)
        os.chmod(root, stat.S_IMODE(os.stat(root).st_mode) & ~0o022)


def exposed_folder(root: str) -> str | None:
    """Whose else an existing directory is; None if it is this user's alone, or not there."""
    try:
        return exposed(root) if os.path.lexists(root) else None
    except OSError as error:
        return f"{error.strerror or error}: {root}"


def exposed(path: str) -> str | None:
    """Whose else a directory is, by owner, mode or a link that somebody else put there; None if it
    is this user's alone.
    """
    me = os.getuid()
    link = os.lstat(path)
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in {me, *_TRUSTED_OWNERS}:
        return f"{path} is a link that user {link.st_uid} put there"
    status = os.stat(path)
    if not stat.S_ISDIR(status.st_mode):
        return f"{path} is not a directory"
    if status.st_uid != me:
        return f"{path} belongs to user {status.st_uid}, this is user {me}"
    return writable_by_others(path)


def writable_by_others(path: str) -> str | None:
    """That a directory's mode lets others write; None if it does not."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if not mode & 0o022:
        return None
    return f"others can write {path} (mode {mode:o}; chmod go-w it, or use a folder inside it)"


def _try(root: str) -> str | None:
    """Write a page and map it executable, as loading a compiled kernel does."""
    path = os.path.join(root, PRIVATE, f"probe-{os.getpid()}")
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o700)
    try:
        os.write(descriptor, bytes(_PAGE))
        try:
            mmap.mmap(descriptor, _PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
        except PermissionError:
            return f"{root} is on a mount without execution (noexec)"
    finally:
        os.close(descriptor)
        with suppress(OSError):
            os.unlink(path)
    return None
