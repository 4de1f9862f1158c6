"""Figures about a store or one cache, from the catalog and one listing.

Invariant: ``logical`` counts every artifact of every cache, ``unique`` every blob once, ``stored``
what the store's manifests and packs really take; all are bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from casinductor.deadline import Deadline
from casinductor.errors import CacheNotFound
from casinductor.store import names
from casinductor.store.compact import stored_bytes
from casinductor.store.names import CacheId
from casinductor.store.store import Findings, Store
from casinductor.store.union import hide_removed


@dataclass
class Figures:
    """See the module; ``groups`` and ``artifacts`` count versions as published."""

    stored_bytes: int = 0
    logical_bytes: int = 0
    unique_bytes: int = 0
    groups: int = 0
    artifacts: int = 0
    packs: int = 0
    manifests: int = 0
    caches: int = 0
    damage: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class CacheLine:
    """One cache of a listing; ``synced_ms`` is when its newest manifest was made (Unix time)."""

    gpu: str
    key: str
    manifests: int
    groups: int
    artifacts: int
    logical_bytes: int
    synced_ms: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_OF = (
    " WHERE (?1 IS NULL OR m.gpu = ?1) AND (?2 IS NULL OR m.key = ?2)"
    " AND m.ulid NOT IN (SELECT ulid FROM temp.hidden)"
)


def figures(store: Store, cache: CacheId | None) -> Figures:
    """Figures of one cache, or of the whole store. Raises :class:`CacheNotFound`."""
    findings = Findings()
    gpu, key = (cache.gpu, cache.key) if cache else (None, None)
    listed = store.refresh(gpu, key, findings, Deadline(None))
    hide_removed(store.catalog)
    one = store.catalog.db.execute
    (visible,) = one("SELECT COUNT(*) FROM manifest m" + _OF, (gpu, key)).fetchone()
    if cache and not visible and not findings.damage:
        raise CacheNotFound(f"{store.backend.url} holds no cache {cache}")
    result = Figures(manifests=listed, damage=findings.damage)
    result.groups, result.artifacts, result.logical_bytes = one(
        "SELECT COUNT(DISTINCT g.id), COUNT(a.path), COALESCE(SUM(a.size), 0) FROM manifest m"
        " JOIN grp g ON g.manifest = m.id JOIN artifact a ON a.grp = g.id" + _OF,
        (gpu, key),
    ).fetchone()
    store.catalog.index_blobs()
    (result.unique_bytes,) = one(
        "SELECT COALESCE(SUM(size), 0) FROM (SELECT DISTINCT b.hash, b.size FROM blob b"
        " JOIN manifest m ON m.id = b.manifest" + _OF + ")",
        (gpu, key),
    ).fetchone()
    (result.caches,) = one(
        "SELECT COUNT(DISTINCT m.gpu || '/' || m.key) FROM manifest m" + _OF, (gpu, key)
    ).fetchone()
    if cache:
        (result.packs,) = one(
            "SELECT COUNT(DISTINCT p.ulid) FROM pack p JOIN manifest m ON m.id = p.manifest" + _OF,
            (gpu, key),
        ).fetchone()
        result.stored_bytes = stored_bytes(store, cache)
    else:
        packs = store.packs()
        result.packs = len(packs)
        manifests = store.backend.list(f"{names.MANIFESTS}/", recursive=True)
        result.stored_bytes = sum(packs.values()) + sum(item.size for item in manifests)
    return result


def cache_lines(store: Store, gpu: str | None) -> list[CacheLine]:
    """All caches, or those of one GPU type, by name."""
    from sqlite_utils import Database

    store.refresh(gpu, None, Findings(), Deadline(None))
    hide_removed(store.catalog)
    rows = Database(store.catalog.db).query(
        "SELECT m.gpu, m.key, COUNT(DISTINCT m.id) AS manifests, COUNT(DISTINCT g.id) AS groups,"
        " COUNT(a.path) AS artifacts, COALESCE(SUM(a.size), 0) AS logical_bytes,"
        " MAX(m.created_ms) AS synced_ms FROM manifest m"
        " LEFT JOIN grp g ON g.manifest = m.id LEFT JOIN artifact a ON a.grp = g.id"
        " WHERE (:gpu IS NULL OR m.gpu = :gpu) AND m.ulid NOT IN (SELECT ulid FROM temp.hidden)"
        " GROUP BY m.gpu, m.key ORDER BY m.gpu, m.key",
        {"gpu": gpu},
    )
    return [CacheLine(**row) for row in rows]
