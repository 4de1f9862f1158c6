"""A bundle: a store in one file, for where no network goes.

Invariant: a bundle appears whole or not at all. It is a ZIP archive whose members are the objects
of a store, uncompressed (packs are compressed already), so any ranged read of the store is one of
the file. Only names that a store gives are looked at. Format: ``docs/format.md``, "Bundles".
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from casinductor.errors import Damaged, StoreUnavailable, store_error
from casinductor.store.backends.files import close_read, open_regular, read_range
from casinductor.store.backends.filesystem import FilesystemBackend
from casinductor.store.backends.sealed import OpenedBackend, SealedBackend, is_content

#: All members have this moment, as a bundle says nothing about when it was made.
_MOMENT = (1980, 1, 1, 0, 0, 0)
_PIECE = 8 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")


def open_bundle(path: Path) -> SealedBackend:
    """The store in a file. Raises :class:`StoreUnavailable` where there is none, and
    :class:`Damaged` for one that is no bundle.
    """
    try:
        descriptor, size = open_regular(str(path))
    except StoreUnavailable as error:
        raise StoreUnavailable(f"there is no bundle {path}: {error}") from error
    try:
        with os.fdopen(os.dup(descriptor), "rb") as file, zipfile.ZipFile(file) as archive:
            members = {
                info.filename: _place(descriptor, info, size, str(path))
                for info in archive.infolist()
                if is_content(info.filename)
            }
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise Damaged(f"{path} is no bundle: {error}") from error
    finally:
        close_read(descriptor)

    def read(name: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        start, _ = members[name]
        opened, _ = open_regular(str(path))
        try:
            for offset, length in ranges:
                yield read_range(opened, start + offset, length, str(path))
        finally:
            close_read(opened)

    return SealedBackend(str(path), {name: size for name, (_, size) in members.items()}, read)


def _place(descriptor: int, info: zipfile.ZipInfo, total: int, path: str) -> tuple[int, int]:
    """Where a member's bytes lie, and how many; ValueError for one that does not lie there."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(f"{info.filename} is compressed or encrypted")
    header = read_range(descriptor, info.header_offset, _LOCAL_HEADER.size, path)
    magic, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    start = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    if info.compress_size != info.file_size:
        raise ValueError(f"{info.filename} has two sizes")
    if magic != b"PK\3\4" or info.file_size < 0 or start + info.file_size > total:
        raise ValueError(f"{info.filename} leaves the file")
    return start, info.file_size


def beside(path: Path) -> Path:
    """Where what is new in a bundle lies until it is sealed."""
    return path.with_name(f"{path.name}.partial")


def opened(path: Path) -> OpenedBackend:
    """A bundle to write to: what lies in the file, if it is there, and what was begun beside it."""
    sealed = open_bundle(path) if path.exists() else SealedBackend(str(path), {}, _nothing)
    if not path.parent.is_dir():
        raise StoreUnavailable(f"there is no directory {path.parent} for the bundle {path.name}")
    return OpenedBackend(sealed, FilesystemBackend(beside(path)))


def _nothing(name: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    raise AssertionError(f"{name} {ranges}")  # an empty store is asked for nothing


def seal(backend: OpenedBackend, path: Path) -> int:
    """Write everything into one file, which takes the old one's place; returns its bytes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    added = [item.name for item in backend.added()]
    try:
        with zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
            for name in sorted([*backend.sealed.objects, *added]):
                _add(archive, backend, name)
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError as error:
        raise store_error(error, "writing", str(path), writing=True) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path.stat().st_size


def _add(archive: zipfile.ZipFile, backend: OpenedBackend, name: str) -> None:
    info = zipfile.ZipInfo(name, _MOMENT)
    info.external_attr = 0o644 << 16
    size = backend.size(name)
    with archive.open(info, "w", force_zip64=size >= (1 << 31)) as member:
        ranges = [(at, min(_PIECE, size - at)) for at in range(0, size, _PIECE)]
        for part in backend.get_ranges(name, ranges):
            member.write(part)
