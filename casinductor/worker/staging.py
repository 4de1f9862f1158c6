"""Materializes files in local directories: written aside, then renamed into place in order.

Invariant: no reader ever sees a partial file, nothing is written outside the directories, through a
link or into another user's folder, and nothing at all appears before :meth:`Staging.commit`.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from casinductor.deadline import Deadline
from casinductor.errors import HostilePath, LocalDirectory
from casinductor.util.roots import Where, locate, root_of, roots_of, split
from casinductor.worker import PRIVATE
from casinductor.worker.lock import private_folder

_MAX_OPEN = 64
_ABANDONED_SECONDS = 3_600
#: Files that arrive in parts are gathered in memory up to this many bytes at a time.
_GATHER_BYTES = 8 << 20


class Staged(msgspec.Struct, eq=False):
    """A file on its way: final path, mode, rank, size in bytes, and where it is written first."""

    path: str
    mode: int
    rank: int
    size: int
    area: str  # the folder in which it is written
    name: str  # there; empty where it is that of its path
    folder: str | None = None  # placed by renaming this whole folder
    dated: bool = False  # gets the time that all files of this staging get
    missing: int = 0  # bytes that have not been written yet
    buffer: bytearray | None = None  # gathers the parts where memory allows

    @property
    def temporary(self) -> str:
        """Where it is written; not kept, as there may be many thousands."""
        return f"{self.area}/{self.name or self.path.rpartition('/')[2]}"


class Staging:
    """A fresh folder inside the private one of each root, on the same filesystem as the files'
    places. ``moment``: the time of all files that are dated, in nanoseconds since 1970.
    """

    def __init__(self, where: Where) -> None:
        self.where = where
        self.moment = time.time_ns()
        self._areas: dict[str, str] = {}
        self._files: list[Staged] = []
        self._open: OrderedDict[str, int] = OrderedDict()
        self._folders: dict[str, str] = {}
        self._made: set[str] = set()
        self._gathering = 0
        self._maker: threading.Thread | None = None

    def add(
        self,
        path: str,
        mode: int,
        rank: int,
        size: int,
        folder: str | None = None,
        *,
        dated: bool = False,
    ) -> Staged:
        """Announce a file; with ``folder`` (its parent) it is placed along with its siblings."""
        area, name = self._area(path), str(len(self._files))
        if folder is not None:
            if folder not in self._folders:
                self._folders[folder] = f"{area}/d{len(self._folders)}"
                os.mkdir(self._folders[folder])
            area, name = self._folders[folder], os.path.basename(locate(self.where, path))
            if path.endswith(f"/{name}"):
                name = ""  # the same text need not be kept twice
        staged = Staged(path, mode, rank, size, area, name, folder, dated, size)
        self._files.append(staged)
        return staged

    def root_of(self, path: str) -> str:
        """The root that a file's path lies below."""
        return root_of(self.where, path)

    def _area(self, path: str) -> str:
        """The folder in which files of the path's family are written first."""
        family = split(path)[0]
        if family not in self._areas:
            private = private_folder(self.root_of(path))
            area = os.path.join(private, f"stage-{os.getpid()}-{id(self):x}")
            os.mkdir(area)
            self._areas[family] = area
        return self._areas[family]

    def write(self, staged: Staged, data: bytes | bytearray | memoryview) -> None:
        """Write a whole file at once."""
        descriptor = os.open(staged.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, staged.mode)
        try:
            _settle(descriptor, staged)
            _write_all(descriptor, data, None)
        finally:
            os.close(descriptor)
        staged.missing = 0

    def write_at(self, staged: Staged, offset: int, data: bytes | memoryview) -> None:
        """Write a part of a file; each byte of it must be written once."""
        size = len(data)
        if staged.missing == staged.size and self._fits(staged.size):
            staged.buffer = bytearray(staged.size)
            self._gathering += staged.size
        staged.missing -= size
        if staged.buffer is None:
            self._write_through(staged, offset, data)
            return
        staged.buffer[offset : offset + size] = data
        if not staged.missing:
            self.write(staged, staged.buffer)
            self._gathering -= staged.size
            staged.buffer = None

    def _fits(self, size: int) -> bool:
        return self._gathering + size <= _GATHER_BYTES

    def _write_through(self, staged: Staged, offset: int, data: bytes | memoryview) -> None:
        descriptor = self._open.get(staged.temporary)
        if descriptor is None:
            descriptor = os.open(staged.temporary, os.O_WRONLY | os.O_CREAT, staged.mode)
            _settle(descriptor, staged)
            self._open[staged.temporary] = descriptor
            if len(self._open) > _MAX_OPEN:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(staged.temporary)
        _write_all(descriptor, data, offset)

    def make_room(self) -> None:
        """Create the folders of all announced files beside other work; :meth:`commit` waits."""

        def work() -> None:
            with suppress(
                OSError, HostilePath, LocalDirectory
            ):  # commit meets the same fault and tells it
                for staged in self._files:
                    self._make_parents(staged.folder or staged.path)

        self._maker = threading.Thread(target=work, name="casinductor-folders")
        self._maker.start()

    def complete(self) -> set[str]:
        """The paths whose every byte has been written."""
        return {staged.path for staged in self._files if staged.missing == 0}

    def commit(self, keep: set[str], deadline: Deadline) -> list[Staged]:
        """Rename the files whose paths are in ``keep`` into place, by rank; return them."""
        self._close()
        if self._maker is not None:
            self._maker.join()
        chosen = sorted((s for s in self._files if s.path in keep), key=lambda s: (s.rank, s.path))
        for staged in chosen:
            if staged.dated:
                os.utime(staged.temporary, ns=(self.moment, self.moment))
        moved: set[str] = set()
        for staged in chosen:
            deadline.check()
            if staged.folder is None:
                self._place_file(staged)
            elif staged.folder not in moved:
                moved.add(staged.folder)
                self._place_folder(staged.folder)
        return chosen

    def remove(self) -> None:
        self._close()
        if self._maker is not None:
            self._maker.join()
        for area in self._areas.values():
            shutil.rmtree(area, ignore_errors=True)

    def _close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _place_file(self, staged: Staged) -> None:
        self._make_parents(staged.path)
        target = locate(self.where, staged.path)
        try:
            os.replace(staged.temporary, target)
        except IsADirectoryError:
            os.rename(target, staged.temporary + ".old")
            os.replace(staged.temporary, target)

    def _place_folder(self, folder: str) -> None:
        """Put a whole folder in place at once, so that files of two versions never mix."""
        target = locate(self.where, folder)
        self._make_parents(folder)
        try:
            os.rename(self._folders[folder], target)
        except OSError:
            if not stat.S_ISDIR(os.lstat(target).st_mode):
                raise
            os.rename(target, self._folders[folder] + ".old")
            os.rename(self._folders[folder], target)

    def _make_parents(self, path: str) -> None:
        family, rest = split(path)
        parent = family + rest.rpartition("/")[0]
        if parent == family or parent in self._made:
            return  # the root itself is there: it holds the staging area
        self._make_parents(parent)
        full = locate(self.where, parent)
        try:
            os.mkdir(full, 0o755)
        except FileExistsError:
            status = os.lstat(full)
            if not stat.S_ISDIR(status.st_mode):
                raise HostilePath(
                    f"{full} is not a directory; nothing is written through it"
                ) from None
            if status.st_uid != os.getuid():
                raise LocalDirectory(
                    f"{full} belongs to user {status.st_uid}; nothing is written into it"
                ) from None
        self._made.add(parent)


@contextmanager
def staging(where: Where) -> Iterator[Staging]:
    """A staging area that is gone after the block; its faults raise :class:`LocalDirectory`."""
    stage = Staging(where)
    try:
        yield stage
    except OSError as error:
        path = error.filename or where
        raise LocalDirectory(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        stage.remove()


def sweep_stages(where: Where) -> None:
    """Remove what killed processes left behind; call it with the lock of torch's directory held.

    Roots of other families are shared by processes that hold other locks: there only what is an
    hour old goes.
    """
    for family, root in roots_of(where):
        folder = os.path.join(root, PRIVATE)
        with suppress(OSError):
            for name in os.listdir(folder):
                path = os.path.join(folder, name)
                if name.startswith("stage-") and (not family or _is_old(path)):
                    shutil.rmtree(path, ignore_errors=True)


def _is_old(path: str) -> bool:
    return time.time() - os.lstat(path).st_mtime > _ABANDONED_SECONDS


def _settle(descriptor: int, staged: Staged) -> None:
    """Give a new file its exact mode where the process's umask took bits away."""
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != staged.mode:
        os.fchmod(descriptor, staged.mode)


def _write_all(descriptor: int, data: bytes | bytearray | memoryview, offset: int | None) -> None:
    view = memoryview(data)
    while view:
        if offset is None:
            count = os.write(descriptor, view)
        else:
            count = os.pwrite(descriptor, view, offset)
            offset += count
        view = view[count:]
