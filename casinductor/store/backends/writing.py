"""Stores that are sealed as a whole, opened for writing for a while.

Invariant: while :func:`writable` is open, everybody in this process who opens the address writes to
the same place; at the end everything is sealed at once. Where that does not come to pass, what was
written waits beside it for the next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from casinductor.errors import StoreUnavailable, store_error
from casinductor.store.backend import Backend
from casinductor.store.backends.address import PREPARED, absolute, is_bundle
from casinductor.store.backends.filesystem import FilesystemBackend


@contextmanager
def writable(address: str, state_dir: Path | None = None) -> Iterator[None]:
    """Open a store for writing; for one that needs no sealing there is nothing to do.

    What is new of a tag in a registry waits in ``state_dir``. Raises :class:`StoreUnavailable`
    where another process is writing it, and what opening and sealing raise.
    """
    if address.startswith("oci://"):
        with _image(address, state_dir or Path(tempfile.gettempdir())):
            yield
    elif "://" not in address and is_bundle(address):
        with _bundle(absolute(address)):
            yield
    else:
        yield


@contextmanager
def _bundle(path: Path) -> Iterator[None]:
    from casinductor.store.backends import bundle

    backend = bundle.opened(path)
    with _alone(backend.beside, str(path)):
        with _prepared(str(path), backend):
            yield
        if backend.added():
            bundle.seal(backend, path)
        shutil.rmtree(backend.beside.root, ignore_errors=True)


@contextmanager
def _image(address: str, state_dir: Path) -> Iterator[None]:
    from casinductor.store.backends import registry

    name = f"oci-{hashlib.sha256(address.encode()).hexdigest()[:32]}.partial"
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise store_error(error, "writing", str(state_dir), writing=True) from error
    beside = FilesystemBackend(state_dir / name)
    with _alone(beside, address):
        repository, backend = registry.opened(address, beside)
        with _prepared(address, backend):
            yield
        if backend.added():
            registry.seal(repository, backend)
        shutil.rmtree(beside.root, ignore_errors=True)


@contextmanager
def _prepared(address: str, backend: Backend) -> Iterator[None]:
    PREPARED[address] = backend
    try:
        yield
    finally:
        del PREPARED[address]


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
