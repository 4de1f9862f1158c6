"""One worker process at a time works on a local directory.

Invariant: the lock is ``flock`` on this machine's own disk and dies with its process, or with the
call that was left behind holding it; it only saves work, so who cannot have it within a quarter of
its time goes on without rather than fail.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from casinductor.deadline import Deadline
from casinductor.errors import LocalDirectory
from casinductor.worker import PRIVATE

_POLL_SECONDS = 0.02
#: The share of the time left that is spent waiting for another process.
_WAITED = 0.25


def private_folder(root: str) -> str:
    """The private folder of a local directory, created if need be so that nobody but this user
    writes in it, whatever the umask; raises LocalDirectory.
    """
    folder = os.path.join(root, PRIVATE)
    try:
        os.makedirs(root, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(folder, 0o755)
    except OSError as error:
        raise LocalDirectory(f"cannot create {folder}: {error.strerror or error}") from error
    return folder


@contextmanager
def directory_lock(root: str, deadline: Deadline) -> Iterator[bool]:
    """Hold the lock of ``root`` for the block; yields whether it was had within a quarter of the
    time that is left.

    Raises :class:`LocalDirectory` where the directory cannot be written.
    """
    path = os.path.join(private_folder(root), "lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise LocalDirectory(f"cannot lock {root}: {error.strerror or error}") from error
    open_ = [descriptor]

    def release() -> None:
        with suppress(OSError, ValueError):
            fcntl.flock(open_[0], fcntl.LOCK_UN)

    deadline.on_cancel(release)
    try:
        yield take_lock(descriptor, deadline.part(_WAITED))
    finally:
        open_[0] = -1  # the number may be another file's soon
        os.close(descriptor)


def take_lock(descriptor: int, deadline: Deadline) -> bool:
    """``flock`` an open file exclusively; False if another process has it until the deadline."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if deadline.over():
                return False
            time.sleep(_POLL_SECONDS)
        except OSError:
            return False  # a filesystem without locks
