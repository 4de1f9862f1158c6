"""What the catalog knows of packs: who names them, how large they are, which frames they have.

Invariant: a pack counts as referenced as long as one manifest in the catalog names it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from casinductor.store.format.frame import Codec
from casinductor.store.format.names import CacheId
from casinductor.store.index.places import NamedPack

_OF_CACHE = " FROM pack p JOIN manifest m ON m.id = p.manifest WHERE m.gpu = ? AND m.key = ?"


class Packs:
    """Questions about packs to the catalog behind ``connection``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def sizes(self) -> dict[str, int]:
        """Bytes of every pack that a manifest names."""
        return dict(self._db.execute("SELECT ulid, size FROM pack"))

    def of_cache(self, cache: CacheId) -> list[NamedPack]:
        """The packs that a cache's manifests name, each once."""
        rows = self._db.execute(
            "SELECT DISTINCT p.ulid, p.size" + _OF_CACHE, (cache.gpu, cache.key)
        )
        return [NamedPack(*row) for row in rows]

    def by_manifest(self, cache: CacheId) -> dict[int, set[NamedPack]]:
        """The packs that each manifest of a cache names, by its row."""
        found: dict[int, set[NamedPack]] = {}
        for row, ulid, size in self._db.execute(
            "SELECT p.manifest, p.ulid, p.size" + _OF_CACHE, (cache.gpu, cache.key)
        ):
            found.setdefault(row, set()).add(NamedPack(ulid, size))
        return found

    def of_manifest(self, ulid: str) -> list[NamedPack]:
        rows = self._db.execute(
            "SELECT p.ulid, p.size FROM pack p JOIN manifest m ON m.id = p.manifest"
            " WHERE m.ulid = ?",
            (ulid,),
        )
        return [NamedPack(*row) for row in rows]

    def referenced(self, excluding: Iterable[str] = ()) -> set[str]:
        """The packs that manifests name, those ``excluding`` left out."""
        left_out = set(excluding)
        return {pack for pack, manifest in self._pairs() if manifest not in left_out}

    def naming(self, packs: set[str]) -> set[str]:
        """The manifests that name one of these packs."""
        return {manifest for pack, manifest in self._pairs() if pack in packs}

    def _pairs(self) -> Iterator[tuple[str, str]]:
        """Every pack beside every manifest that names it."""
        return self._db.execute(
            "SELECT DISTINCT p.ulid, m.ulid FROM pack p JOIN manifest m ON m.id = p.manifest"
        )

    def users(self) -> dict[str, set[str]]:
        """The names of the caches that need each pack."""
        found: dict[str, set[str]] = {}
        for gpu, key, pack in self._db.execute(
            "SELECT DISTINCT m.gpu, m.key, p.ulid FROM manifest m JOIN pack p ON p.manifest = m.id"
        ):
            found.setdefault(pack, set()).add(f"{gpu}/{key}")
        return found

    def small(self, cache: CacheId, below: int) -> list[NamedPack]:
        """A cache's packs of less than ``below`` bytes, the smallest first."""
        return sorted(
            (pack for pack in self.of_cache(cache) if pack.size < below),
            key=lambda pack: (pack.size, pack.ulid),
        )

    def compact_of_others(self, cache: CacheId) -> set[str]:
        """Packs with zstd frames that other caches of the GPU type name."""
        rows = self._db.execute(
            "SELECT DISTINCT p.ulid FROM pack p JOIN manifest m ON m.id = p.manifest"
            " JOIN frame f ON f.manifest = m.id AND f.pack = p.idx AND f.codec = ?"
            " WHERE m.gpu = ? AND m.key <> ?",
            (int(Codec.ZSTD), cache.gpu, cache.key),
        )
        return {row[0] for row in rows}

    def all_compact(self, cache: CacheId) -> bool:
        """Whether every frame of a cache is a zstd frame."""
        found = self._db.execute(
            "SELECT 1 FROM frame f JOIN manifest m ON m.id = f.manifest"
            " WHERE m.gpu = ? AND m.key = ? AND f.codec <> ? LIMIT 1",
            (cache.gpu, cache.key, int(Codec.ZSTD)),
        )
        return found.fetchone() is None

    def frames(self, pack: str) -> set[tuple[int, int, int, int]]:
        """The frames that manifests name in a pack: offset, stored and raw bytes, codec."""
        rows = self._db.execute(
            "SELECT DISTINCT f.offset, f.stored, f.raw, f.codec FROM frame f"
            " JOIN pack p ON p.manifest = f.manifest AND p.idx = f.pack WHERE p.ulid = ?",
            (pack,),
        )
        return set(rows)

    def frames_of_cache(self, cache: CacheId) -> list[tuple[str, int, int]]:
        """The frames that a cache needs: pack, offset and stored bytes."""
        rows = self._db.execute(
            "SELECT DISTINCT p.ulid, f.offset, f.stored FROM frame f"
            " JOIN manifest m ON m.id = f.manifest"
            " JOIN pack p ON p.manifest = f.manifest AND p.idx = f.pack"
            " WHERE m.gpu = ? AND m.key = ?",
            (cache.gpu, cache.key),
        )
        return rows.fetchall()
