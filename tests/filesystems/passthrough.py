"""A FUSE filesystem that passes all on to a directory, slowly, and refuses what it is told to.

Usage: passthrough.py SOURCE MOUNT JSON, where JSON may hold ``delay`` (seconds for each operation),
``refuse`` (names of operations, ENOSYS), ``close_error`` (a name part: flushing such a file fails
with EIO), ``remember`` (seconds for which the kernel keeps names and attributes) and ``count`` (a
file that is told how many operations there were, when they change).
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from typing import Any

import mfusepy

_COUNTED = "getattr open create read write flush fsync release readdir rename link unlink mkdir"


class Passthrough(mfusepy.Operations):  # type: ignore[misc]
    """Each operation waits, is counted, and is done on the directory below."""

    use_ns = True

    def __init__(self, root: str, options: dict[str, Any]) -> None:
        self.root = root
        self.delay = float(options.get("delay", 0.0))
        self.refused = set(options.get("refuse", ()))
        self.close_error = options.get("close_error")
        self.count_file = options.get("count")
        self.counts: dict[str, int] = {}
        self.moved = {"read": 0, "write": 0}
        self.guard = threading.Lock()
        self.paths: dict[int, str] = {}

    def tell(self) -> None:
        with self.guard:
            text = json.dumps({"operations": sum(self.counts.values()), **self.counts, **{
                f"{name}_bytes": size for name, size in self.moved.items()
            }})  # fmt: skip
            temporary = f"{self.count_file}.new"
            with open(temporary, "w") as file:
                file.write(text)
            os.replace(temporary, str(self.count_file))

    def full(self, path: str) -> str:
        return self.root + path

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        status = os.lstat(self.full(path))
        names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino")
        found: dict[str, Any] = {name: getattr(status, name) for name in names}
        found["st_atime"] = status.st_atime_ns
        found["st_mtime"] = status.st_mtime_ns
        found["st_ctime"] = status.st_ctime_ns
        return found

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self.full(path))]

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        handle = os.open(self.full(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        self.paths[handle] = path
        return handle

    def open(self, path: str, flags: int) -> int:
        handle = os.open(self.full(path), flags & ~(os.O_CREAT | os.O_EXCL))
        self.paths[handle] = path
        return handle

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        data = os.pread(fh, size, offset)
        self.moved["read"] += len(data)
        return data

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self.moved["write"] += len(data)
        return os.pwrite(fh, data, offset)

    def flush(self, path: str, fh: int) -> None:
        if self.close_error and self.close_error in self.paths.get(fh, path or ""):
            raise mfusepy.FuseOSError(errno.EIO)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    def release(self, path: str, fh: int) -> None:
        self.paths.pop(fh, None)
        os.close(fh)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self.full(path), length)

    def unlink(self, path: str) -> None:
        os.unlink(self.full(path))

    def rename(self, old: str, new: str) -> None:
        os.rename(self.full(old), self.full(new))

    def link(self, target: str, source: str) -> None:
        os.link(self.full(source), self.full(target))

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self.full(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self.full(path))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.full(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self.full(path), uid, gid)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        if times is None:
            os.utime(self.full(path))
        else:
            os.utime(self.full(path), ns=times)

    def statfs(self, path: str) -> dict[str, Any]:
        status = os.statvfs(self.full(path))
        names = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files")
        return {name: getattr(status, name) for name in (*names, "f_frsize", "f_namemax")}


def _watched(name: str) -> Any:
    """An operation that is counted, waits, and may be refused."""
    done = getattr(Passthrough, name)

    def operation(self: Passthrough, *arguments: Any, **named: Any) -> Any:
        if name in self.refused:
            raise mfusepy.FuseOSError(errno.EPERM if name == "link" else errno.ENOSYS)
        with self.guard:
            self.counts[name] = self.counts.get(name, 0) + 1
        if self.delay:
            time.sleep(self.delay)
        result = done(self, *arguments, **named)
        if name == "release" and self.count_file:
            self.tell()
        return result

    return operation


for _name in _COUNTED.split():
    setattr(Passthrough, _name, _watched(_name))


if __name__ == "__main__":
    source, mount = sys.argv[1:3]
    given = json.loads(sys.argv[3])
    mfusepy.FUSE(
        Passthrough(source, given),
        mount,
        foreground=True,
        fsname="passthrough",
        attr_timeout=given.get("remember", 0),
        entry_timeout=given.get("remember", 0),
        max_read=1 << 20,
        big_writes=True,
    )
