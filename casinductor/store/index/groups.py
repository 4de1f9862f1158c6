"""What the catalog knows of groups and their artifacts.

Invariant: artifacts come back only if the row of their group still has the checksum it was written
with.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

import msgspec

from casinductor.errors import CatalogChanged, CatalogDamaged
from casinductor.store.format.frame import HASH_BYTES, split_hashes
from casinductor.store.format.manifest import Artifact
from casinductor.store.format.names import CacheId
from casinductor.store.index.blobs import chunks
from casinductor.store.index.insertion import seal_of


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
    published: str

    @property
    def replaces(self) -> list[bytes]:
        """The contents of this group that its producer had and changed."""
        return split_hashes(self.replaced)


class File(NamedTuple):
    """An artifact as the catalog has it; ``blobs`` index the blob table of ``manifest``."""

    manifest: int
    path: str
    mode: int
    size: int
    hash: bytes
    needed: bool
    blobs: list[int]


_DECODER = msgspec.msgpack.Decoder(list[Artifact])
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
            " g.replaces, g.about, m.ulid"
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
        chosen = list(groups)
        found = self._artifacts([version.row for version in chosen])
        hashes = self._hashes({version.manifest for version in chosen})
        result: dict[int, list[File]] = {}
        for version in chosen:
            if version.row not in found:
                raise CatalogChanged(f"group {version.id} is gone from the catalog")
            known = hashes.get(version.manifest, b"")
            result[version.row] = [
                _file(version.manifest, artifact, known)
                for artifact in found[version.row]
                if artifact.needed or not needed
            ]
        return result

    def _artifacts(self, rows: list[int]) -> dict[int, list[Artifact]]:
        """What the rows of groups hold, as far as they are there."""
        found: dict[int, list[Artifact]] = {}
        for some in chunks(rows):
            marks = ",".join("?" * len(some))
            query = f"SELECT id, artifacts, seal FROM grp WHERE id IN ({marks})"
            found.update(
                (row, _unsealed(*sealed)) for row, *sealed in self._db.execute(query, some)
            )
        return found

    def _hashes(self, manifests: set[int]) -> dict[int, bytes]:
        """The hashes of each manifest's blobs, end to end."""
        found: dict[int, bytes] = {}
        for some in chunks(list(manifests)):
            marks = ",".join("?" * len(some))
            query = f"SELECT manifest, hashes FROM blobs WHERE manifest IN ({marks})"
            found.update(self._db.execute(query, some))
        return found

    def paths(self, groups: Iterable[Version]) -> dict[str, bytes]:
        """The paths of all artifacts of these versions, with the contents of their groups."""
        contents = {version.row: version.content for version in groups}
        found = self._artifacts(list(contents))
        return {a.path: contents[row] for row, artifacts in found.items() for a in artifacts}

    def ids_by_path(self, cache: CacheId, kinds: Collection[str]) -> dict[str, str]:
        """The group ids of a cache's artifacts of these kinds, by path."""
        rows = self._db.execute(
            "SELECT g.gid, g.artifacts, g.seal FROM grp g JOIN manifest m ON m.id = g.manifest"
            f" WHERE m.gpu = ? AND m.key = ? AND g.kind IN ({','.join('?' * len(kinds))})",
            (cache.gpu, cache.key, *kinds),
        )
        return {a.path: group for group, *sealed in rows for a in _unsealed(*sealed)}

    def blobs(self, manifest: int) -> Iterator[tuple[int, set[int]]]:
        """The row of each group of a manifest, and the blobs it needs."""
        for row, *sealed in self._db.execute(
            "SELECT id, artifacts, seal FROM grp WHERE manifest = ?", (manifest,)
        ):
            yield row, {blob for artifact in _unsealed(*sealed) for blob in artifact.blobs}

    def sizes(self, cache: CacheId) -> dict[int, tuple[int, int]]:
        """The number of artifacts and their bytes, by the row of their group."""
        rows = self._db.execute(
            "SELECT g.id, g.files, g.bytes FROM manifest m JOIN grp g ON g.manifest = m.id"
            " WHERE m.gpu = ? AND m.key = ?",
            (cache.gpu, cache.key),
        )
        return {row: (count, size) for row, count, size in rows}


def _unsealed(artifacts: bytes, seal: bytes) -> list[Artifact]:
    if seal_of(artifacts) != seal:
        raise CatalogDamaged("a group fails its checksum in the catalog")
    return _DECODER.decode(artifacts)


def _file(manifest: int, artifact: Artifact, hashes: bytes) -> File:
    """An artifact with its hash, which is that of its blob where it has only one."""
    digest = artifact.hash
    if not digest:
        start = artifact.blobs[0] * HASH_BYTES
        digest = hashes[start : start + HASH_BYTES]
    return File(
        manifest,
        artifact.path,
        artifact.mode,
        artifact.size,
        digest,
        artifact.needed,
        artifact.blobs,
    )
