"""Walks a worker's local directories and reads their files as they are at one moment.

Invariant: only regular files that classify as shareable come back, no link is followed, and a file
that changes between two looks while it is read is reported as unstable, never half read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from casinductor.errors import LocalDirectory
from casinductor.families.inductor import folder_place, is_private_top
from casinductor.families.ninja_files import NAMES as NINJA_NAMES
from casinductor.families.packages import NAME as PACKAGES_NAME
from casinductor.families.place import Fate, Place, is_junk, shared
from casinductor.families.table import classify
from casinductor.util.roots import DOT, MARK, Where, locate, roots_of


class Stamp(NamedTuple):
    """What tells that a file was touched: size in bytes, times in nanoseconds, inode number."""

    size: int
    mtime: int
    ctime: int
    inode: int


class Found(NamedTuple):
    """One shareable file: relative path, its place, permission bits, stamp, access time (ns)."""

    path: str
    place: Place
    mode: int
    stamp: Stamp
    atime: int


class Walk(msgspec.Struct):
    """What a walk saw: the shareable files by path, how many others, and the ``unknown`` paths:
    no rule tells what they are, so they are not shared.
    """

    files: dict[str, Found] = msgspec.field(default_factory=dict)
    seen: int = 0
    junk: int = 0
    products: int = 0
    unknown: list[str] = msgspec.field(default_factory=list)


#: Whose directories hold any names.
PACKAGES = PACKAGES_NAME + MARK
_TYPE = stat.S_IFMT(0o177777)


class Unstable(Exception):
    """The file changed while it was read; the next sync will find it at rest."""


def walk(where: Where) -> Walk:
    """Walk a directory, or those of all families, whose paths then begin with the family's name; an
    absent directory is an empty one. Raises :class:`LocalDirectory`.
    """
    result = Walk()
    every = list(roots_of(where))
    for family, root in every:
        others = {other for _, other in every if other != root}
        try:
            _walk_one(family, root, others, result)
        except OSError as error:
            raise LocalDirectory(f"cannot walk {root}: {error.strerror or error}") from error
    return result


def _walk_one(family: str, root: str, others: set[str], result: Walk) -> None:
    """Walk one root; what lies in ``others`` inside it is theirs."""
    files = result.files
    for entry, path, inherited in _entries(family, root, others):
        result.seen += 1
        status = entry.stat(follow_symlinks=False)
        place = inherited or classify(path)
        mode = status.st_mode
        regular = mode & _TYPE == stat.S_IFREG
        if regular and shared(place, status.st_size):
            files[path] = Found(path, place, mode & 0o7777, stamp(status), status.st_atime_ns)
        elif regular and place.fate is Fate.UNKNOWN:
            result.unknown.append(path)
        elif regular and place.fate is Fate.PRODUCT:
            result.products += 1
        else:
            result.junk += 1


def stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _entries(
    family: str, root: str, others: set[str]
) -> Iterator[tuple[os.DirEntry[str], str, Place | None]]:
    """Every file below ``root`` outside private directories, depth first, in name order, with
    the place that its folder gives it, if any: thousands of files lie in Triton's folders.
    """
    pending = [""]
    while pending:
        prefix = pending.pop()
        try:
            with os.scandir(os.path.join(root, prefix)) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            continue  # torch renames and removes directories while it works
        folders = []
        inherited = None if family else folder_place(prefix)
        for entry in entries:
            path = prefix + entry.name
            if not entry.is_dir(follow_symlinks=False):
                if not path.isascii():
                    continue  # no name of torch's
                name = _stored_name(entry.name) if family else entry.name
                yield entry, family + prefix + name, None if is_junk(entry.name) else inherited
            elif not (_is_private(family, prefix, entry.name) or entry.path in others):
                folders.append(path + "/")
        pending.extend(reversed(folders))


def _stored_name(name: str) -> str:
    """A file's name in a store, where ninja's must not begin with a dot."""
    return DOT + name[1:] if name in NINJA_NAMES else name


def _is_private(family: str, prefix: str, name: str) -> bool:
    if family == PACKAGES:
        return False
    return is_junk(name) or (not family and not prefix and is_private_top(name))


def read_stable(where: Where, found: Found) -> bytes:
    """The whole file, if it is still what the walk saw and stays so while it is read.

    The access time is left alone where the kernel allows it, because it tells what torch used.
    Raises :class:`Unstable`, or :class:`LocalDirectory` when it cannot be read at all.
    """
    path = locate(where, found.path)
    try:
        descriptor = open_quietly(path)
    except FileNotFoundError as error:
        raise Unstable(found.path) from error
    except OSError as error:
        raise LocalDirectory(f"cannot read {path}: {error.strerror or error}") from error
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        data = file.read(found.stamp.size + 1)
        while len(data) <= found.stamp.size and (more := file.read(1 << 24)):
            data += more
        after = os.fstat(descriptor)
    if len(data) != found.stamp.size or stamp(after) != found.stamp:
        raise Unstable(found.path)
    return data


def open_quietly(path: str) -> int:
    """A descriptor for reading that follows no link, waits for no FIFO, leaves no access time."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    noatime = getattr(os, "O_NOATIME", 0)
    try:
        return os.open(path, flags | noatime)
    except PermissionError:
        return os.open(path, flags)
