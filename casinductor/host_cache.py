"""The host cache: a restore's way to the directory that the processes of one host share.

Invariant: whatever the directory lacks or has wrong is fetched from the store as if there were
none; while one process of the host fetches a cache, the others wait and find it done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from casinductor.deadline import Deadline
from casinductor.families import forms
from casinductor.settings import Settings
from casinductor.store.backend import Backend
from casinductor.store.backends.cached import ReadThrough
from casinductor.store.index.groups import File
from casinductor.worker.host_directory import HostDirectory
from casinductor.worker.staging import Staged, Staging


class HostCache:
    """One restore's use of the host's directory; without ``directory`` all comes from the store."""

    def __init__(self, directory: HostDirectory | None = None) -> None:
        self._directory = directory
        self._asked = time.monotonic()
        self._turn = ExitStack()
        self._bytes = 0
        self._reading: ReadThrough | None = None

    @contextmanager
    def turn(self, name: str, deadline: Deadline) -> Iterator[None]:
        """Hold this host's turn for what ``name`` stands for, until :meth:`pass_on` or the end."""
        with self._turn:
            if self._directory is not None:
                self._turn.enter_context(self._directory.turn(name, deadline))
            yield

    def pass_on(self) -> None:
        """Let the next process have its turn: what is left to do here needs no store."""
        self._turn.close()

    def reading(self, backend: Backend) -> Backend:
        """The backend to read by."""
        if self._directory is None:
            return backend
        self._reading = ReadThrough(backend, self._directory, self._asked)
        return self._reading

    @property
    def files_bytes(self) -> int:
        """Bytes of files that came from the directory."""
        return self._bytes

    @property
    def manifest_bytes(self) -> int:
        """Bytes of manifests that came from the directory."""
        return self._reading.recalled_bytes if self._reading else 0

    def supply(self, stage: Staging, staged: Staged, file: File) -> bool:
        """Put the file in its place if the directory has it."""
        if self._directory is None:
            return False
        size = file.size
        if forms.has_form(file.path):
            data = self._directory.read(file.hash, file.size)
            if data is None:
                return False
            data = forms.localize(file.path, data, stage.root_of(file.path), stage.moment)
            stage.write(staged, data)
            size = len(data)
        elif self._directory.take(file.hash, staged.temporary, staged.mode, file.size):
            staged.missing = 0
        else:
            return False
        self._bytes += size
        return True

    def keep(self, staged: Staged, file: File) -> None:
        """Keep a file that was fetched, for the other processes of this host."""
        if self._directory is None:
            return
        if forms.has_form(file.path):
            with open(staged.temporary, "rb") as written:
                self._directory.keep_bytes(file.hash, forms.portable(file.path, written.read()))
        else:
            self._directory.keep(file.hash, staged.temporary)

    def finish(self) -> None:
        if self._directory is not None:
            self._directory.evict()


def host_cache(settings: Settings) -> HostCache:
    """The use of the host's directory that the settings ask for."""
    if settings.node_dir is None:
        return HostCache()
    return HostCache(HostDirectory(settings.node_dir, settings.node_bytes))
