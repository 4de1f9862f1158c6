"""What the catalog knows of manifests themselves: which there are, by whom, and what they replace.

Invariant: answers are facts of the manifests that were read; nothing is judged here.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from typing import Any, NamedTuple

from casinductor.store.format.names import CacheId

#: Rows of one cache, a GPU type (key NULL) or the store (both NULL).
SCOPE = "(?1 IS NULL OR gpu = ?1) AND (?2 IS NULL OR key = ?2)"


#: Stands for the signer of a manifest that has a signature nobody asked about.
UNVERIFIED = "?"


#: 32 bytes that identify a group's content.
Content = bytes


class ManifestId(NamedTuple):
    """A manifest's name: its cache and ULID."""

    cache: CacheId
    ulid: str


class Indexed(NamedTuple):
    """A manifest in the catalog: its row id and the bytes it takes in the store."""

    row: int
    size: int


class Origin(NamedTuple):
    """Who made a manifest and when: ``created_ms`` in Unix time, ``root`` its local directory,
    ``producer`` a JSON object, ``size`` in bytes, ``signer`` the name of the key that was verified.
    """

    ulid: str
    created_ms: int
    root: str
    producer: str
    size: int
    signer: str


class Lineage(NamedTuple):
    """What each manifest of a cache replaces, by ULID, and which are removals: without groups."""

    stands_for: dict[str, set[str]]
    removals: set[str]

    def replaced(self) -> set[str]:
        """What manifests that are no removals stand for."""
        standing = self.stands_for.keys() - self.removals
        return set().union(*(self.stands_for[ulid] for ulid in standing))


class Manifests:
    """Questions about manifests to the catalog behind ``connection``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def any(self) -> bool:
        return self._db.execute("SELECT 1 FROM manifest LIMIT 1").fetchone() is not None

    def any_unverified(self, cache: CacheId | None = None) -> bool:
        """Whether a manifest of one cache or all is signed and was read where no keys are set."""
        scope = (cache.gpu, cache.key) if cache else (None, None)
        query = f"SELECT 1 FROM manifest WHERE signer = ?3 AND {SCOPE} LIMIT 1"
        return self._db.execute(query, (*scope, UNVERIFIED)).fetchone() is not None

    def known(self, gpu: str | None = None, key: str | None = None) -> dict[ManifestId, Indexed]:
        """The manifests held of one cache, a GPU type or the store."""
        rows = self._db.execute(
            f"SELECT gpu, key, ulid, id, size FROM manifest WHERE {SCOPE}", (gpu, key)
        )
        return {ManifestId(CacheId(r[0], r[1]), r[2]): Indexed(r[3], r[4]) for r in rows}

    def caches(self, gpu: str | None = None) -> list[CacheId]:
        """The caches that have a manifest here, by name."""
        rows = self._db.execute(
            f"SELECT DISTINCT gpu, key FROM manifest WHERE {SCOPE}", (gpu, None)
        )
        return sorted(CacheId(*row) for row in rows)

    def caches_of(self) -> dict[str, CacheId]:
        """The cache of every manifest, by ULID."""
        rows = self._db.execute("SELECT ulid, gpu, key FROM manifest")
        return {row[0]: CacheId(row[1], row[2]) for row in rows}

    def rows_named(self, ulid: str) -> list[int]:
        return [
            row for (row,) in self._db.execute("SELECT id FROM manifest WHERE ulid = ?", (ulid,))
        ]

    def bytes(self, cache: CacheId | None = None) -> int:
        """Stored bytes of the manifests of one cache or all."""
        scope = (cache.gpu, cache.key) if cache else (None, None)
        query = f"SELECT COALESCE(SUM(size), 0) FROM manifest WHERE {SCOPE}"
        return int(self._db.execute(query, scope).fetchone()[0])

    def origins(self, cache: CacheId) -> list[Origin]:
        rows = self._db.execute(
            "SELECT ulid, created_ms, root, producer, size, signer FROM manifest"
            " WHERE gpu = ? AND key = ?",
            (cache.gpu, cache.key),
        )
        return [Origin(*row) for row in rows]

    def roots(self, cache: CacheId) -> list[str]:
        """The local directory of each manifest's producer, where one is known."""
        rows: list[tuple[Any, ...]] = self._db.execute(
            "SELECT root FROM manifest WHERE gpu = ? AND key = ? AND root <> ''",
            (cache.gpu, cache.key),
        ).fetchall()
        return [root for (root,) in rows]

    def replacing(self) -> list[CacheId]:
        """The caches some of whose manifests replace others."""
        rows = self._db.execute(
            "SELECT DISTINCT m.gpu, m.key FROM manifest m JOIN replaced d ON d.manifest = m.id"
        )
        return [CacheId(*row) for row in rows.fetchall()]

    def hiding(self, cache: CacheId) -> dict[str, set[Content]]:
        """The contents of groups that each manifest of a cache hides, by its ULID."""
        found: dict[str, set[Content]] = defaultdict(set)
        rows = self._db.execute(
            "SELECT m.ulid, h.content FROM manifest m JOIN hiding h ON h.manifest = m.id"
            " WHERE m.gpu = ? AND m.key = ?",
            (cache.gpu, cache.key),
        )
        for ulid, content in rows:
            found[ulid].add(content)
        return dict(found)

    def lineage(self, cache: CacheId) -> Lineage:
        stands_for: dict[str, set[str]] = defaultdict(set)
        removals: set[str] = set()
        for ulid, target, has_groups in self._db.execute(
            "SELECT m.ulid, d.ulid, EXISTS (SELECT 1 FROM grp WHERE manifest = m.id)"
            " FROM manifest m JOIN replaced d ON d.manifest = m.id WHERE m.gpu = ? AND m.key = ?",
            (cache.gpu, cache.key),
        ):
            stands_for[ulid].add(target)
            if not has_groups:
                removals.add(ulid)
        return Lineage(stands_for, removals)
