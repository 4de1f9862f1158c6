"""Manifests that lie in the store and are not believed: unsigned, or signed by somebody else.

Invariant: what they say decides nothing; a collector keeps the packs that they name, as those may
be other people's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from casinductor.store.format.names import CacheId
from casinductor.store.index.manifests import SCOPE, ManifestId


class Foreign:
    """Questions about such manifests to the catalog behind ``connection``, and their notes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def known(self, gpu: str | None = None, key: str | None = None) -> dict[ManifestId, int]:
        """Those of one cache, a GPU type or the store, and the bytes that each takes."""
        rows = self._db.execute(
            f"SELECT gpu, key, ulid, size FROM untrusted WHERE {SCOPE}", (gpu, key)
        )
        return {ManifestId(CacheId(r[0], r[1]), r[2]): r[3] for r in rows}

    def reasons(self, gpu: str | None = None, key: str | None = None) -> dict[str, int]:
        """Why, and how many, of one cache, a GPU type or the store."""
        query = f"SELECT reason, COUNT(*) FROM untrusted WHERE {SCOPE} GROUP BY reason"
        return dict(self._db.execute(query, (gpu, key)).fetchall())

    def by_cache(
        self, gpu: str | None = None, key: str | None = None
    ) -> list[tuple[CacheId, str, int]]:
        """Cache, reason and number."""
        query = (
            f"SELECT gpu, key, reason, COUNT(*) FROM untrusted WHERE {SCOPE}"
            " GROUP BY gpu, key, reason"
        )
        rows = self._db.execute(query, (gpu, key))
        return [(CacheId(r[0], r[1]), r[2], r[3]) for r in rows]

    def packs(self) -> set[str]:
        """The ULIDs of all packs that they name."""
        rows = self._db.execute("SELECT packs FROM untrusted")
        return {ulid for (text,) in rows for ulid in text.split()}

    def add(self, name: ManifestId, size: int, reason: str, packs: Iterable[str]) -> None:
        """In the caller's transaction."""
        row = (name.cache.gpu, name.cache.key, name.ulid, size, reason, " ".join(packs))
        self._db.execute("INSERT OR REPLACE INTO untrusted VALUES (?, ?, ?, ?, ?, ?)", row)

    def drop(self, names: Iterable[ManifestId]) -> None:
        """In the caller's transaction."""
        self._db.executemany(
            "DELETE FROM untrusted WHERE gpu = ? AND key = ? AND ulid = ?",
            [(name.cache.gpu, name.cache.key, name.ulid) for name in names],
        )
