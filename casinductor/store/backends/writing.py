"""Stores that are sealed as a whole, opened for writing for a while.

Invariant: while :func:`writable` is open, everybody in this process who opens the address writes to
the same place; at the end everything is sealed at once. Where that does not come to pass, what was
written waits beside it for the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from casinductor.errors import StoreUnavailable, store_error
from casinductor.store.backends import bundle
from casinductor.store.backends.address import PREPARED, absolute
from casinductor.store.backends.filesystem import FilesystemBackend


@contextmanager
def writable(address: str) -> Iterator[None]:
    """Open a store for writing; for one that needs no sealing there is nothing to do.

    Raises :class:`StoreUnavailable` where another process is writing it, and what opening and
    sealing raise.
    """
    if "://" in address or not bundle.is_bundle(address):
        yield
        return
    path = absolute(address)
    backend = bundle.opened(path)
    with _alone(backend.beside, str(path)):
        PREPARED[str(path)] = backend
        try:
            yield
        finally:
            del PREPARED[str(path)]
        if backend.added():
            bundle.seal(backend, path)
        shutil.rmtree(backend.beside.root, ignore_errors=True)


@contextmanager
def _alone(beside: FilesystemBackend, what: str) -> Iterator[None]:
    """Hold the directory beside a sealed store: two writers would seal each other's halves."""
    folder = Path(beside.root)
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise store_error(error, "writing", str(folder), writing=True) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreUnavailable(f"another process is writing {what}") from None
    try:
        yield
    finally:
        os.close(descriptor)
