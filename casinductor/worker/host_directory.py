"""The node's directory: what one process of a host fetched, for all others of that host.

Invariant: a file is used only if its bytes have the hash it is asked for by, found out on the copy
that is used, so damage, a kill or a hostile neighbour cost a fetch and nothing else. Files appear
by one rename, are never changed in place, and are copied out (cloned where the filesystem can),
never linked: torch rewrites some of its files.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from casinductor.deadline import Deadline
from casinductor.worker.lock import take_lock

_PIECE_BYTES = 4 << 20
#: linux/fs.h: _IOW(0x94, 9, int). Shares the extents of a whole file on btrfs, xfs and others.
_FICLONE = 0x40049409
_LEFT_OVER_SECONDS = 3600.0
#: An eviction goes so far below the limit, so that not every restore evicts.
_EVICT_TO = 0.9
_HASH_BYTES = 32


class HostDirectory:
    """The directory ``folder``, kept below ``most`` bytes; it is created on the first use.

    Nothing here raises: a directory that cannot be used holds nothing and keeps nothing.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder = str(folder)
        self.most = most
        self._boot = _boot_id()
        self._kept = 0

    # files, by the hash of their contents

    def take(self, digest: bytes, target: str, mode: int, size: int) -> bool:
        """Copy the file of this hash to the new path ``target``; False if it is not to be had."""
        path = self._file(digest)
        try:
            source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            good = os.fstat(source).st_size == size and _copy(source, target, mode) == digest
            if good:
                os.utime(source)
        except OSError:
            good = False
        finally:
            os.close(source)
        if not good:
            for wrong in (target, path):
                with suppress(OSError):
                    os.unlink(wrong)
        return good

    def read(self, digest: bytes, size: int) -> bytes | None:
        """The bytes of the file of this hash, at most ``size``; None if it is not to be had."""
        path = self._file(digest)
        try:
            with open(path, "rb", buffering=0) as file:
                data = file.read(size + 1)
            if blake3(data).digest() == digest:
                os.utime(path)
                return data
            os.unlink(path)
        except OSError:
            pass
        return None

    def keep(self, digest: bytes, source: str) -> None:
        """Keep a copy of the file at ``source``, whose contents have this hash."""
        with suppress(OSError), self._arriving(self._file(digest)) as temporary:
            descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                self._kept += os.fstat(descriptor).st_size
                _copy(descriptor, temporary, 0o600)
            finally:
                os.close(descriptor)

    def keep_bytes(self, digest: bytes, data: bytes) -> None:
        """Keep these bytes, which have this hash."""
        with suppress(OSError), self._arriving(self._file(digest)) as temporary:
            self._kept += len(data)
            Path(temporary).write_bytes(data)

    # notes: objects of a store, by name

    def recall(self, name: str, since: float = 0.0) -> bytes | None:
        """What :meth:`remember` was told under this name at ``since`` or later, on this boot's
        monotonic clock; for 0 whenever.
        """
        path = self._note(name)
        try:
            data = Path(path).read_bytes()
            head, body = data[:_HASH_BYTES], data[_HASH_BYTES:]
            if blake3(body).digest() != head:
                os.unlink(path)
                return None
            stamp, _, note = body.partition(b"\n")
            boot, _, moment = stamp.decode("ascii").partition(" ")
            if since and (boot != self._boot or float(moment) < since):
                return None
            os.utime(path)
        except (OSError, ValueError):
            return None
        return note

    def remember(self, name: str, note: bytes, moment: float) -> None:
        """Keep a note that was true at ``moment`` of the monotonic clock."""
        body = f"{self._boot} {moment!r}\n".encode() + note
        with suppress(OSError), self._arriving(self._note(name)) as temporary:
            self._kept += len(body)
            Path(temporary).write_bytes(blake3(body).digest() + body)

    @contextmanager
    def turn(self, name: str, deadline: Deadline) -> Iterator[None]:
        """Of the processes that want what this name stands for, one works at a time.

        A process that waits in vain for half of its time goes on without.
        """
        descriptor = None
        with suppress(OSError):
            folder = self._room("turns")
            path = os.path.join(folder, blake3(name.encode()).hexdigest())
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(path, flags, 0o600)
            left = deadline.remaining()
            take_lock(descriptor, Deadline(None if left is None else left / 2))
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def evict(self) -> int:
        """Remove what was used longest ago if the directory is too large; return bytes removed.

        Looks only after something was kept, and while no other process does.
        """
        if not self._kept:
            return 0
        with suppress(OSError):
            descriptor = os.open(
                os.path.join(self.folder, "evicting"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._kept = 0
                return self._evict()
            finally:
                os.close(descriptor)
        return 0

    def _evict(self) -> int:
        found: list[tuple[float, int, str]] = []
        for kind in ("files", "notes"):
            for parent, _, names in os.walk(os.path.join(self.folder, kind)):
                for name in names:
                    path = os.path.join(parent, name)
                    with suppress(OSError):
                        status = os.lstat(path)
                        found.append((status.st_mtime, status.st_size, path))
        arriving = os.path.join(self.folder, "arriving")
        with suppress(OSError):
            for name in os.listdir(arriving):
                path = os.path.join(arriving, name)
                if os.lstat(path).st_mtime < time.time() - _LEFT_OVER_SECONDS:
                    os.unlink(path)
        total, removed = sum(size for _, size, _ in found), 0
        if total <= self.most:
            return 0
        for _, size, path in sorted(found):
            if total - removed <= self.most * _EVICT_TO:
                break
            with suppress(OSError):
                os.unlink(path)
                removed += size
        return removed

    @contextmanager
    def _arriving(self, path: str) -> Iterator[str]:
        """A temporary path that becomes ``path`` once the block is done."""
        folder = self._room("arriving")
        self._room(os.path.relpath(os.path.dirname(path), self.folder))
        name = f"{os.getpid()}-{threading.get_ident():x}-{os.urandom(6).hex()}"
        temporary = os.path.join(folder, name)
        try:
            yield temporary
            os.rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    def _room(self, name: str) -> str:
        """A folder of the directory. A new directory is its user's alone: who may write there is
        trusted as far as the store is.
        """
        path = os.path.join(self.folder, name)
        if not os.path.isdir(path):
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            os.makedirs(path, exist_ok=True)
        return path

    def _file(self, digest: bytes) -> str:
        name = digest.hex()
        return f"{self.folder}/files/{name[:2]}/{name}"

    def _note(self, name: str) -> str:
        digest = blake3(name.encode()).hexdigest()
        return f"{self.folder}/notes/{digest[:2]}/{digest}"


def _copy(source: int, target: str, mode: int) -> bytes:
    """Clone or copy an open file to a new path; return the blake3 of what lies there."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(target, flags, mode)
    try:
        if os.fstat(descriptor).st_mode & 0o777 != mode:
            os.fchmod(descriptor, mode)
        hasher = blake3()
        cloned = _clone(source, descriptor)
        offset = 0
        while piece := os.pread(descriptor if cloned else source, _PIECE_BYTES, offset):
            hasher.update(piece)
            if not cloned:
                _write(descriptor, piece)
            offset += len(piece)
        return hasher.digest()
    finally:
        os.close(descriptor)


def _clone(source: int, target: int) -> bool:
    """Share the source's extents; False on a filesystem that cannot, or across two."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def _write(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


def _boot_id() -> str:
    """Names this boot of the host, as monotonic clocks begin anew; the same in all containers."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"process-{os.getpid()}"
