"""Sums over the catalog: what is visible in a store, counted.

Invariant: what removals cover is in no figure.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import ulid_ms
from casinductor.store.index.blobs import Blobs
from casinductor.store.index.manifests import Manifests
from casinductor.store.index.union import covered

_VISIBLE = (
    " WHERE (?1 IS NULL OR m.gpu = ?1) AND (?2 IS NULL OR m.key = ?2)"
    " AND m.ulid NOT IN (SELECT ulid FROM temp.hidden)"
)


class Counts(NamedTuple):
    """Of one cache or a store: visible manifests and caches, versions of groups, artifacts and
    their bytes, bytes of distinct blobs, and distinct packs.
    """

    manifests: int
    caches: int
    groups: int
    artifacts: int
    logical_bytes: int
    unique_bytes: int
    packs: int


class CacheCounts(NamedTuple):
    """One cache: ``synced_ms`` is when a worker last added to it (Unix time)."""

    gpu: str
    key: str
    manifests: int
    groups: int
    artifacts: int
    logical_bytes: int
    synced_ms: int


class CatalogFigures:
    """Sums over the catalog behind ``connection``."""

    def __init__(self, connection: sqlite3.Connection, manifests: Manifests, blobs: Blobs) -> None:
        self._db = connection
        self._manifests = manifests
        self._blobs = blobs

    def counts(self, cache: CacheId | None) -> Counts:
        """Of one cache, or of the store, whose blobs must have been indexed."""
        self._hide_removed()
        scope = (cache.gpu, cache.key) if cache else (None, None)
        manifests, caches = self._one(
            f"SELECT COUNT(*), COUNT(DISTINCT m.gpu || '/' || m.key) FROM manifest m{_VISIBLE}",
            scope,
        )
        groups, artifacts, logical = self._one(
            "SELECT COUNT(g.id), COALESCE(SUM(g.files), 0), COALESCE(SUM(g.bytes), 0)"
            f" FROM manifest m JOIN grp g ON g.manifest = m.id{_VISIBLE}",
            scope,
        )
        unique = self._unique_bytes(scope)
        (packs,) = self._one(
            "SELECT COUNT(DISTINCT p.ulid) FROM pack p JOIN manifest m ON m.id = p.manifest"
            f"{_VISIBLE}",
            scope,
        )
        return Counts(manifests, caches, groups, artifacts, logical, unique, packs)

    def by_cache(self, gpu: str | None) -> list[CacheCounts]:
        """All caches, or those of one GPU type, by name."""
        self._hide_removed()
        rows = self._db.execute(
            "SELECT m.gpu, m.key, COUNT(DISTINCT m.id), COUNT(g.id), COALESCE(SUM(g.files), 0),"
            " COALESCE(SUM(g.bytes), 0), MAX(g.origin) FROM manifest m"
            " LEFT JOIN grp g ON g.manifest = m.id"
            f"{_VISIBLE} GROUP BY m.gpu, m.key ORDER BY m.gpu, m.key",
            (gpu, None),
        )
        return [CacheCounts._make((*row[:6], ulid_ms(row[6] or ""))) for row in rows]

    def _unique_bytes(self, scope: tuple[str | None, str | None]) -> int:
        """Of one cache by its tables; of a store by the index of all hashes, in its order."""
        if scope[1] is not None:
            rows = self._db.execute(f"SELECT m.id FROM manifest m{_VISIBLE}", scope).fetchall()
            return self._blobs.unique_bytes(row for (row,) in rows)
        (hidden,) = self._one("SELECT COUNT(*) FROM temp.hidden", ())
        visible = f" JOIN manifest m ON m.id = b.manifest{_VISIBLE}" if hidden else ""
        (unique,) = self._one(
            "SELECT COALESCE(SUM(size), 0) FROM"
            f" (SELECT MAX(b.size) AS size FROM blob b{visible} GROUP BY b.hash)",
            scope if hidden else (),
        )
        return unique

    def _one(self, query: str, scope: tuple[str | None, ...]) -> tuple[int, ...]:
        return tuple(map(int, self._db.execute(query, scope).fetchone()))

    def _hide_removed(self) -> None:
        """Fill the temporary table ``hidden`` with removals and what they cover."""
        hidden: set[str] = set()
        for cache in self._manifests.replacing():
            lineage = self._manifests.lineage(cache)
            hidden |= lineage.removals | covered(lineage)
        self._fill_hidden(hidden)

    def _fill_hidden(self, hidden: Iterable[str]) -> None:
        self._db.execute("CREATE TEMP TABLE IF NOT EXISTS hidden(ulid TEXT PRIMARY KEY)")
        self._db.execute("DELETE FROM temp.hidden")
        self._db.executemany(
            "INSERT OR IGNORE INTO temp.hidden VALUES (?)", ((ulid,) for ulid in hidden)
        )
