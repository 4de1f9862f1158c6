"""The backend on a directory that workers share, local or over the network.

Invariant: an object is written under a private temporary name, synced, and published by one
``link``, ``rename`` or exclusive ``create`` (the mode found by probing); no published name is ever
written to again. Nothing relies on locks, append, access times or a listing being fresh.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from casinductor.errors import (
    Damaged,
    NameTaken,
    ObjectMissing,
    StoreReadOnly,
    StoreUnavailable,
    store_error,
)
from casinductor.mounts import is_local, unsafe
from casinductor.store.backend import MAX_WHOLE_BYTES, Listed
from casinductor.store.parallel import at_once
from casinductor.store.ulid import new_ulid

Mode = Literal["link", "rename", "create"]
MODES: tuple[Mode, ...] = ("link", "rename", "create")
#: Requests in flight where each is a round trip to a server.
_NETWORK_PARALLEL = 8

_PIECE_BYTES = 256 << 10

#: NFS caches attributes and names for up to acdirmax = 60 s (nfs(5)); five times that.
_NETWORK_STALENESS = 300.0
#: A directory that changes while it is read is read again, so often at most.
_SCANS = 5
#: File times step with the kernel's tick, 4 to 10 ms: a change so recent may not show in them.
_TICK_NS = 20_000_000
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


class _Entry(NamedTuple):
    """A folder or a file of so many bytes."""

    name: str
    is_folder: bool
    size: int


class FilesystemBackend:
    """A store in the directory ``root``, which need not exist yet."""

    modes = MODES

    def __init__(self, root: Path, mode: str = "link") -> None:
        self.root = str(root)
        self.mode = mode

    @property
    def url(self) -> str:
        return self.root

    @property
    def staleness(self) -> float:
        return 0.0 if is_local(self.root) else _NETWORK_STALENESS

    @property
    def parallel(self) -> int:
        return 1 if is_local(self.root) else _NETWORK_PARALLEL

    @property
    def appears_whole(self) -> bool:
        return self.mode != "create"

    def put(self, name: str, parts: Iterable[bytes], *, durable: bool = True) -> int:
        path = self._path(name)
        if reason := unsafe(self.root):
            raise StoreReadOnly(f"{path} is not written, as it is on {reason}; use a URL instead")
        folder = os.path.dirname(path)
        temporary = path if self.mode == "create" else f"{folder}/.{new_ulid()}.tmp"
        try:
            descriptor = self._create(folder, temporary, durable)
        except FileExistsError as error:
            raise NameTaken(f"{path} exists already") from error
        except OSError as error:
            raise store_error(error, "writing", path, writing=True) from error
        published = False
        try:
            written = _write(descriptor, parts, durable)
            self._publish(temporary, path)
            published = True
        except OSError as error:
            raise store_error(error, "writing", path, writing=True) from error
        finally:
            if self.mode == "link" or not published:
                with suppress(OSError):
                    os.unlink(temporary)
        if durable:
            _sync_folder(folder)
        return written

    def get(self, name: str, limit: int = MAX_WHOLE_BYTES) -> bytes:
        path = self._path(name)
        descriptor, size = _open(path)
        try:
            if size > limit:
                raise Damaged(f"{path} has {size} bytes, more than the {limit} it may have")
            if self.parallel > 1 and size > _PIECE_BYTES:
                return self._read(descriptor, 0, size, path)
            return b"".join(iter(lambda: os.read(descriptor, 1 << 24), b""))
        except OSError as error:
            raise store_error(error, "reading", path) from error
        finally:
            _close_read(descriptor)

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        path = self._path(name)
        descriptor, size = _open(path)
        try:
            for offset, length in ranges:
                if offset < 0 or length < 0 or offset + length > size:
                    raise Damaged(f"{path} ends at byte {size}, before byte {offset + length}")
                yield self._read(descriptor, offset, length, path)
        finally:
            _close_read(descriptor)

    def _read(self, descriptor: int, offset: int, length: int, path: str) -> bytes:
        """A range; over a network in pieces side by side, as each read is a round trip there."""
        if self.parallel <= 1 or length <= _PIECE_BYTES:
            return _pread(descriptor, offset, length, path)
        pieces = [
            (start, min(_PIECE_BYTES, offset + length - start))
            for start in range(offset, offset + length, _PIECE_BYTES)
        ]
        parts = at_once(lambda piece: _pread(descriptor, *piece, path), pieces, self.parallel)
        return b"".join(parts)

    def size(self, name: str) -> int:
        path = self._path(name)
        try:
            status = os.stat(path, follow_symlinks=False)
        except OSError as error:
            raise store_error(error, "reading", path) from error
        if not stat.S_ISREG(status.st_mode):
            raise Damaged(f"{path} is not a regular file")
        return status.st_size

    def list_from(self, prefix: str, start: str, most: int) -> list[Listed]:
        found: list[Listed] = []
        for item in self._in_order(prefix, start):
            found.append(item)
            if len(found) >= most:
                break
        return sorted(found)

    def _in_order(self, folder: str, start: str) -> Iterator[Listed]:
        """Objects below ``folder`` that follow ``start``, folder by folder in order of name."""
        for entry in sorted(self._scan(folder)):
            name = folder + entry.name
            if name <= start and not start.startswith(f"{name}/"):
                continue
            if entry.is_folder:
                yield from self._in_order(f"{name}/", start)
            else:
                yield Listed(name, entry.size)

    def list(self, prefix: str, *, recursive: bool = False) -> list[Listed]:
        found: list[Listed] = []
        pending = [prefix]
        while pending:
            folder = pending.pop()
            for entry in self._scan(folder):
                if not entry.is_folder:
                    found.append(Listed(folder + entry.name, entry.size))
                elif recursive:
                    pending.append(f"{folder}{entry.name}/")
        return sorted(found)

    def _scan(self, folder: str) -> Sequence[_Entry]:
        """The entries of a folder, none if it is missing; raises StoreUnavailable if all is."""
        found = _scan(self._path(folder), self.parallel)
        if found is not None:
            return found
        if not os.path.isdir(self.root) and (
            os.path.lexists(self.root) or not os.path.isdir(os.path.dirname(self.root))
        ):
            raise StoreUnavailable(f"the store {self.root} is not a directory, or not mounted")
        return []  # nobody has written to it yet

    def delete(self, name: str) -> None:
        path = self._path(name)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise store_error(error, "deleting", path, writing=True) from error

    def probe(self) -> str:
        """Find a publish mode that never overwrites, by trying; use it from now on and return it.

        Raises :class:`StoreUnavailable` where none holds: such a mount would lose data.
        """
        for mode in MODES:
            self.mode = mode
            if self._holds():
                return mode
        raise StoreUnavailable(
            f"{self.root} lets two writers create one name; it cannot be a store"
        )

    def _holds(self) -> bool:
        name = f"probes/{new_ulid()}"
        try:
            self.put(name, [b"first"], durable=False)
        except (StoreReadOnly, StoreUnavailable) as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in _NO_LINKS and self.mode != "create":
                return False
            raise
        try:
            self.put(name, [b"second"], durable=False)
            return False
        except NameTaken:
            return self.get(name) == b"first"
        finally:
            self.delete(name)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _create(self, folder: str, path: str, durable: bool) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            _make_folders(folder, self.root, durable)
            return os.open(path, flags, 0o666)

    def _publish(self, temporary: str, path: str) -> None:
        if self.mode == "link":
            try:
                os.link(temporary, path)
            except FileExistsError as error:
                # A retransmitted NFS request reports EEXIST for its own success.
                if os.stat(temporary).st_nlink != 2:
                    raise NameTaken(f"{path} exists already") from error
        elif self.mode == "rename":
            if os.path.lexists(path):
                raise NameTaken(f"{path} exists already")
            os.rename(temporary, path)


def _write(descriptor: int, parts: Iterable[bytes], durable: bool) -> int:
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


def _open(path: str) -> tuple[int, int]:
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


def _close_read(descriptor: int) -> None:
    """Close what was only read: an error then says nothing about bytes that are here already."""
    with suppress(OSError):
        os.close(descriptor)


def _pread(descriptor: int, offset: int, length: int, path: str) -> bytes:
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


def _scan(folder: str, parallel: int) -> list[_Entry] | None:
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
        looks = at_once(lambda entry: _entry(descriptor, entry), names, parallel)
        return [entry for entry in looks if entry is not None]
    except OSError as error:
        if error.errno == errno.ESTALE:
            return []
        raise store_error(error, "listing", folder) from error
    finally:
        os.close(descriptor)


def _entry(folder: int, entry: os.DirEntry[str]) -> _Entry | None:
    """A folder or regular file of an open directory; None for anything else, and what is gone."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return _Entry(entry.name, True, 0)
        if entry.is_file(follow_symlinks=False):
            status = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
            return _Entry(entry.name, False, status.st_size)
    except FileNotFoundError:
        pass
    return None


def _make_folders(folder: str, root: str, durable: bool) -> None:
    """Create ``folder``; if ``durable``, sync each new entry in its parent up to the root's."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(path)
        if durable and path.startswith(root):
            _sync_folder(os.path.dirname(path))


def _sync_folder(folder: str) -> None:
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


__all__ = ["MODES", "FilesystemBackend", "Mode", "ObjectMissing"]
