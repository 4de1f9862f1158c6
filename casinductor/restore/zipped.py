"""Reads a cache that exists only as fal.toolkit's zip, through the same checks as any other.

Invariant: a zip is never changed, never trusted for a path or a size, and never makes more bytes
than it announces; its files are placed as restores place them. Format: the zip that
``shutil.make_archive`` writes of a whole ``TORCHINDUCTOR_CACHE_DIR``.
"""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib

from casinductor.deadline import Deadline
from casinductor.errors import CasinductorError, Damaged, HostilePath, ObjectMissing
from casinductor.families import group_files
from casinductor.families.inductor import classify, complete
from casinductor.families.place import RANK, Place, shareable_mode, shared
from casinductor.inductor.directory import Unstable, Walk, read_stable, walk
from casinductor.reports.transfer import RestoreReport
from casinductor.restore.run import Restored
from casinductor.store.backend import Backend
from casinductor.store.format.frame import blake3_digest
from casinductor.store.format.names import CacheId
from casinductor.store.format.paths import check_path
from casinductor.worker.staging import Staging, staging

#: deflate makes at most 1,032 bytes of one (zlib's technical details); caches measure 3 to 10.
_MAX_RATIO = 200
_FREE_BYTES = 64 << 20
_MAX_MEMBERS = 1_000_000
_MAX_MEMBER_BYTES = 2 << 30

#: What zipfile raises for hostile bytes; IndexError for a member without a name.
_BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,
    OverflowError,
    RuntimeError,  # an encrypted member
    ValueError,
)

Member = tuple[zipfile.ZipInfo, str, Place]


def restore_zip(backend: Backend, cache: CacheId, root: str, deadline: Deadline) -> Restored | None:
    """Restore everything shareable of the cache's zip into ``root``; None if there is no zip.

    Raises :class:`Damaged` for a zip that cannot be read and :class:`HostilePath` for one that
    would write outside the directory or fill the disk; then nothing is written.
    """
    where = f"{backend.url}/{cache.zip}"
    try:
        size = backend.size(cache.zip)
    except ObjectMissing:
        return None
    report = RestoreReport(str(cache), source="zip", bytes_read=size)
    try:
        with zipfile.ZipFile(io.BufferedReader(_Ranges(backend, cache.zip, size), 1 << 20)) as zf:
            members = _members(zf, size, where)
            _write(zf, members, root, report, deadline)
    except _BAD_ZIP as error:
        if isinstance(error, CasinductorError):
            raise
        raise Damaged(f"{where} is not a whole zip: {error}") from error
    report.notes.append("read from a zip, which names no fingerprint")
    paths = {path: b"" for _, path, _ in members}
    lines = "\n".join(sorted(f"{i.filename}\0{i.CRC:08x}" for i, _, _ in members))
    report.state = blake3_digest(lines.encode()).hex()
    return Restored(report, {}, paths)


def _members(zf: zipfile.ZipFile, size: int, where: str) -> list[Member]:
    """The shareable members of whole groups, after all checks that need no decompression."""
    infos = [info for info in zf.infolist() if not info.is_dir()]
    stored, raw = sum(i.compress_size for i in infos), sum(i.file_size for i in infos)
    if len(infos) > _MAX_MEMBERS or stored > size:
        raise HostilePath(f"{where} has overlapping members or too many")
    if raw > _FREE_BYTES + _MAX_RATIO * size or any(i.file_size > _MAX_MEMBER_BYTES for i in infos):
        raise HostilePath(f"{where} announces {raw} bytes, too many for its {size}")
    found: dict[str, list[Member]] = {}
    seen: set[str] = set()
    for info in infos:
        path = info.filename
        if (info.external_attr >> 16) & 0o170000 not in (0, 0o100000):
            raise HostilePath(f"{where}: member {path[:80]!r} is not a regular file")
        if path.startswith("/") or ".." in path.split("/") or "\\" in path or path in seen:
            raise HostilePath(f"{where}: member {path[:80]!r} is absolute, twice there or climbs")
        seen.add(path)
        place = classify(path)
        if shared(place, info.file_size):
            check_path(path)
            found.setdefault(place.group, []).append((info, path, place))
    return [member for group in found.values() if _whole(group) for member in group]


def _whole(group: list[Member]) -> bool:
    kind = group[0][2].kind
    modes = {path.rpartition("/")[2]: _mode(info) for info, path, _ in group}
    return kind is not None and complete(kind, modes)


def _mode(info: zipfile.ZipInfo) -> int:
    return shareable_mode(info.external_attr >> 16)


def _write(
    zf: zipfile.ZipFile, members: list[Member], root: str, report: RestoreReport, deadline: Deadline
) -> None:
    report.files, report.groups = len(members), len({place.group for _, _, place in members})
    local = walk(root)
    lacking = {place.group for info, path, place in members if not _has(local, root, info, path)}
    with staging(root) as stage:
        for info, path, place in members:
            if place.group in lacking:
                deadline.check()
                _extract(zf, stage, info, path, place, root)
                report.bytes_written += info.file_size
        placed = stage.commit(stage.complete(), deadline)
        report.files_written, report.groups_restored = len(placed), len(lacking)


def _extract(
    zf: zipfile.ZipFile, stage: Staging, info: zipfile.ZipInfo, path: str, place: Place, root: str
) -> None:
    with zf.open(info) as member:
        data = member.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise Damaged(f"member {path[:80]!r} has another size than the zip says")
    if group_files.is_group_file(path):
        data = group_files.localize(path, group_files.portable(path, data), root)
    folder = place.group if place.kind is not None and place.kind.value == "triton" else None
    rank = RANK[place.kind] if place.kind is not None else 0
    stage.write(stage.add(path, _mode(info), rank, info.file_size, folder), data)


def _has(local: Walk, root: str, info: zipfile.ZipInfo, path: str) -> bool:
    found = local.files.get(path)
    if found is None:
        return False
    if group_files.is_group_file(path):
        return True  # placed with its siblings, its paths made local
    if found.stamp.size != info.file_size:
        return False
    try:
        return zlib.crc32(read_stable(root, found)) == info.CRC
    except Unstable:
        return False


class _Ranges(io.RawIOBase):
    """A store's object as a seekable file."""

    def __init__(self, backend: Backend, name: str, size: int) -> None:
        self._backend, self._name, self._size, self._at = backend, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = max(0, min(len(buffer), self._size - self._at))
        if count:
            buffer[:count] = next(iter(self._backend.get_ranges(self._name, [(self._at, count)])))
            self._at += count
        return count
