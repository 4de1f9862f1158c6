"""The backend on a directory that workers share, local or over the network.

Invariant: an object is written under a private temporary name, synced, and published by one
``link``, ``rename`` or exclusive ``create`` (the mode found by probing); no published name is ever
written to again. Nothing relies on locks, append, access times or a listing being fresh.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from casinductor.errors import (
    Damaged,
    NameTaken,
    StoreReadOnly,
    StoreUnavailable,
    store_error,
)
from casinductor.store.backend import MAX_WHOLE_BYTES, Listed
from casinductor.store.backends.files import (
    FolderEntry,
    close_read,
    make_folders,
    open_regular,
    read_range,
    scan,
    share_with_group,
    sync_folder,
    write_all,
)
from casinductor.store.format.ulid import new_ulid
from casinductor.store.parallel import map_parallel
from casinductor.util.mounts import is_local, unsafe

Mode = Literal["link", "rename", "create"]
MODES: tuple[Mode, ...] = ("link", "rename", "create")
#: Requests in flight where each is a round trip to a server.
_NETWORK_PARALLEL = 8

_PIECE_BYTES = 256 << 10

#: NFS caches attributes and names for up to acdirmax = 60 s (nfs(5)); five times that.
_NETWORK_STALENESS = 300.0
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


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
    def there(self) -> bool:
        return os.path.isdir(self.root)

    @property
    def appears_whole(self) -> bool:
        return self.mode != "create"

    def put(self, name: str, parts: Iterable[bytes], *, durable: bool = True) -> int:
        path = self._path(name)
        if reason := unsafe(self.root):
            raise StoreReadOnly(f"{path} is not written, as it is on {reason}; use a URL instead")
        folder = os.path.dirname(path)
        empty = not durable and isinstance(parts, list) and not any(parts)  # whole once it is there
        temporary = path if empty or self.mode == "create" else f"{folder}/.{new_ulid()}.tmp"
        try:
            descriptor = self._create(folder, temporary, durable)
        except FileExistsError as error:
            raise NameTaken(f"{path} exists already") from error
        except OSError as error:
            raise store_error(error, "writing", path, writing=True) from error
        published = False
        try:
            written = write_all(descriptor, parts, durable)
            if temporary != path:
                self._publish(temporary, path)
            published = True
        except OSError as error:
            raise store_error(error, "writing", path, writing=True) from error
        finally:
            if not published or (temporary != path and self.mode == "link"):
                with suppress(OSError):
                    os.unlink(temporary)
        if durable:
            sync_folder(folder)
        return written

    def get(self, name: str, limit: int = MAX_WHOLE_BYTES) -> bytes:
        path = self._path(name)
        descriptor, size = open_regular(path)
        try:
            if size > limit:
                raise Damaged(f"{path} has {size} bytes, more than the {limit} it may have")
            if self.parallel > 1 and size > _PIECE_BYTES:
                return self._read(descriptor, 0, size, path)
            return b"".join(iter(lambda: os.read(descriptor, 1 << 24), b""))
        except OSError as error:
            raise store_error(error, "reading", path) from error
        finally:
            close_read(descriptor)

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        path = self._path(name)
        descriptor, size = open_regular(path)
        try:
            for offset, length in ranges:
                if offset < 0 or length < 0 or offset + length > size:
                    raise Damaged(f"{path} ends at byte {size}, before byte {offset + length}")
                yield self._read(descriptor, offset, length, path)
        finally:
            close_read(descriptor)

    def _read(self, descriptor: int, offset: int, length: int, path: str) -> bytes:
        """A range; over a network in pieces side by side, as each read is a round trip there."""
        if self.parallel <= 1 or length <= _PIECE_BYTES:
            return read_range(descriptor, offset, length, path)
        pieces = [
            (start, min(_PIECE_BYTES, offset + length - start))
            for start in range(offset, offset + length, _PIECE_BYTES)
        ]
        parts = map_parallel(
            lambda piece: read_range(descriptor, *piece, path), pieces, self.parallel
        )
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

    def _scan(self, folder: str) -> Sequence[FolderEntry]:
        """The entries of a folder, none if it is missing; raises StoreUnavailable if all is."""
        found = scan(self._path(folder), self.parallel)
        if found is not None:
            return found
        # In this order, as another worker may create it between the two looks.
        there = self.root if os.path.lexists(self.root) else os.path.dirname(self.root)
        if not os.path.isdir(there):
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
            descriptor = os.open(path, flags, 0o666)
        except FileNotFoundError:
            make_folders(folder, self.root, durable)
            descriptor = os.open(path, flags, 0o666)
        with suppress(OSError):  # who may write here may lack the right to say so
            share_with_group(descriptor, os.stat(folder).st_mode)
        return descriptor

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
