"""What the catalog knows of groups and their artifacts.

Invariant: artifacts come back only if the rows of their group still have the checksum they were
written with.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from casinductor.errors import CatalogChanged, CatalogDamaged
from casinductor.store.format.frame import HASH_BYTES
from casinductor.store.format.names import CacheId
from casinductor.store.index.blobs import chunks
from casinductor.store.index.insertion import row_seal


class Version(NamedTuple):
    """One version of a group, as the manifest ``published`` has it: catalog rows, no artifacts."""

    row: int
    manifest: int
    id: str
    kind: str
    rank: int
    origin: str
    content: bytes
    demands: str
    replaced: bytes
    about: str
    seal: bytes
    needed_seal: bytes
    published: str

    @property
    def replaces(self) -> list[bytes]:
        """The contents of this group that its producer had and changed."""
        return [
            self.replaced[start : start + HASH_BYTES]
            for start in range(0, len(self.replaced), HASH_BYTES)
        ]


class File(NamedTuple):
    """An artifact as the catalog has it; ``blobs`` index the blob table of ``manifest``."""

    manifest: int
    path: str
    mode: int
    size: int
    hash: bytes
    needed: bool
    blobs: array[int]


#: Whether a version is to be kept.
Keep = Callable[[Version], bool]


class Groups:
    """Questions about groups to the catalog behind ``connection``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def versions(self, cache: CacheId) -> list[Version]:
        """Every version of every group that a manifest of the cache has, removed ones too."""
        rows = self._db.execute(
            "SELECT g.id, g.manifest, g.gid, g.kind, g.rank, g.origin, g.content, r.demands,"
            " g.replaces, g.about, g.seal, g.needed_seal, m.ulid"
            " FROM manifest m JOIN grp g ON g.manifest = m.id"
            " LEFT JOIN requirement r ON r.manifest = m.id AND r.idx = g.requires"
            " WHERE m.gpu = ? AND m.key = ?",
            (cache.gpu, cache.key),
        )
        return [Version(*row) for row in rows]

    def files(self, groups: Iterable[Version], *, needed: bool = False) -> dict[int, list[File]]:
        """The artifacts of each version by its row, all or those a default restore needs.

        Raises :class:`CatalogDamaged`, and :class:`CatalogChanged` where the rows are gone.
        """
        by_row = {version.row: version for version in groups}
        raw: dict[int, list[tuple[Any, ...]]] = {row: [] for row in by_row}
        for some in chunks(list(by_row)):
            marks = ",".join("?" * len(some))
            for row, *columns in self._db.execute(
                f"SELECT grp, path, mode, size, hash, needed, blobs FROM artifact"
                f" WHERE grp IN ({marks}) AND needed >= ? ORDER BY grp, path",
                [*some, int(needed)],
            ):
                raw[row].append(tuple(columns))
        return {
            row: self._sealed(by_row[row], columns, needed=needed) for row, columns in raw.items()
        }

    def _sealed(self, version: Version, rows: list[tuple[Any, ...]], *, needed: bool) -> list[File]:
        if row_seal(rows) != (version.needed_seal if needed else version.seal):
            if not rows and not self._exists(version.row):
                raise CatalogChanged(f"group {version.id} is gone from the catalog")
            raise CatalogDamaged(f"group {version.id} fails its checksum in the catalog")
        return [
            File(version.manifest, c[0], c[1], c[2], c[3], bool(c[4]), array("I", c[5]))
            for c in rows
        ]

    def _exists(self, row: int) -> bool:
        return self._db.execute("SELECT 1 FROM grp WHERE id = ?", (row,)).fetchone() is not None

    def paths(self, groups: Iterable[Version]) -> dict[str, bytes]:
        """The paths of all artifacts of these versions, with the contents of their groups."""
        contents = {version.row: version.content for version in groups}
        found: dict[str, bytes] = {}
        for some in chunks(list(contents)):
            marks = ",".join("?" * len(some))
            rows = self._db.execute(f"SELECT path, grp FROM artifact WHERE grp IN ({marks})", some)
            found.update((path, contents[row]) for path, row in rows)
        return found

    def ids_by_path(self, cache: CacheId, kinds: Collection[str]) -> dict[str, str]:
        """The group ids of a cache's artifacts of these kinds, by path."""
        rows = self._db.execute(
            "SELECT a.path, g.gid FROM artifact a JOIN grp g ON g.id = a.grp"
            " JOIN manifest m ON m.id = g.manifest"
            f" WHERE m.gpu = ? AND m.key = ? AND g.kind IN ({','.join('?' * len(kinds))})",
            (cache.gpu, cache.key, *kinds),
        )
        return dict(rows)

    def blobs(self, manifest: int) -> Iterator[tuple[int, set[int]]]:
        """The row of the group of each artifact of a manifest, and the blobs it needs."""
        for row, blobs in self._db.execute(
            "SELECT a.grp, a.blobs FROM artifact a JOIN grp g ON g.id = a.grp WHERE g.manifest = ?",
            (manifest,),
        ):
            yield row, set(array("I", blobs))

    def sizes(self, cache: CacheId) -> dict[int, tuple[int, int]]:
        """The number of artifacts and their bytes, by the row of their group."""
        rows = self._db.execute(
            "SELECT a.grp, COUNT(*), SUM(a.size) FROM manifest m JOIN grp g ON g.manifest = m.id"
            " JOIN artifact a ON a.grp = g.id WHERE m.gpu = ? AND m.key = ? GROUP BY a.grp",
            (cache.gpu, cache.key),
        )
        return {row: (count, size) for row, count, size in rows}
