"""One worker process at a time works on a local directory.

Invariant: the lock is ``flock`` on this machine's own disk and dies with its process; it only
saves work, so a process that cannot have it in time goes on without rather than fail.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from casinductor.deadline import Deadline
from casinductor.errors import LocalDirectory
from casinductor.worker import PRIVATE

_POLL_SECONDS = 0.02


def private_folder(root: str) -> str:
    """The private folder of a local directory, created if need be; raises LocalDirectory."""
    folder = os.path.join(root, PRIVATE)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise LocalDirectory(f"cannot create {folder}: {error.strerror or error}") from error
    return folder


@contextmanager
def directory_lock(root: str, deadline: Deadline) -> Iterator[bool]:
    """Hold the lock of ``root`` for the block; yields whether it was had before the deadline.

    Raises :class:`LocalDirectory` where the directory cannot be written.
    """
    path = os.path.join(private_folder(root), "lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise LocalDirectory(f"cannot lock {root}: {error.strerror or error}") from error
    try:
        yield take_lock(descriptor, deadline)
    finally:
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
