"""The content of a cache: the union of its manifests, resolved group by group.

Invariant: the outcome is a function of the set of manifests alone, whatever order they were read
in. Of the versions of a group that a worker may load, those that another one replaces drop out,
and of the rest the smallest origin wins as a whole, never file by file.
"""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from casinductor.store.catalog import Catalog, chunks, row_seal
from casinductor.store.frame import HASH_BYTES
from casinductor.store.names import CacheId

#: Says why demands are not met, or None when they are.
Judge = Callable[[dict[str, Any]], "str | None"]


@dataclass(frozen=True, slots=True)
class Version:
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


@dataclass(frozen=True, slots=True)
class File:
    """An artifact as the catalog has it; ``blobs`` index the blob table of ``manifest``."""

    manifest: int
    path: str
    mode: int
    size: int
    hash: bytes
    needed: bool
    blobs: array[int]


@dataclass
class Union:
    """The groups that live, by id, and the refused versions by reason."""

    groups: dict[str, Version] = field(default_factory=dict)
    refused: dict[str, list[Version]] = field(default_factory=dict)


class CatalogDamaged(Exception):
    """The catalog contradicts its own checksums; it must be rebuilt from the store."""


def versions(catalog: Catalog, cache: CacheId) -> list[Version]:
    """Every version of every group of a cache, from manifests that none of the others replaces."""
    rows = catalog.db.execute(
        "SELECT g.id, g.manifest, g.gid, g.kind, g.rank, g.origin, g.content, r.demands,"
        " g.replaces, g.about, g.seal, g.needed_seal, m.ulid"
        " FROM manifest m JOIN grp g ON g.manifest = m.id"
        " LEFT JOIN requirement r ON r.manifest = m.id AND r.idx = g.requires"
        " WHERE m.gpu = ?1 AND m.key = ?2 AND m.ulid NOT IN (SELECT d.ulid FROM replaced d"
        " JOIN manifest c ON c.id = d.manifest WHERE c.gpu = ?1 AND c.key = ?2)",
        (cache.gpu, cache.key),
    )
    return [Version(*row) for row in rows]


def resolve(found: Iterable[Version], judge: Judge) -> Union:
    """Decide which version of each group lives, of those that ``judge`` lets this worker load."""
    result = Union()
    reasons: dict[str, str | None] = {}
    candidates: dict[str, list[Version]] = defaultdict(list)
    for version in found:
        if version.demands not in reasons:
            reasons[version.demands] = judge(demands_of(version.demands))
        reason = reasons[version.demands]
        if reason is not None:
            result.refused.setdefault(reason, []).append(version)
        else:
            candidates[version.id].append(version)
    result.groups = {group: winner(those) for group, those in candidates.items()}
    return result


def winner(those: list[Version]) -> Version:
    """Of one group's versions, the smallest origin among those nobody replaces."""
    if len(those) == 1:
        return those[0]
    replaced = {content for version in those for content in version.replaces}
    standing = [version for version in those if version.content not in replaced] or those
    return min(standing, key=lambda version: (version.origin, version.content, version.row))


def files(
    catalog: Catalog, groups: Iterable[Version], *, needed: bool = False
) -> dict[int, list[File]]:
    """The artifacts of each version by its row, all or those a default restore needs.

    Raises :class:`CatalogDamaged`.
    """
    by_row = {version.row: version for version in groups}
    raw: dict[int, list[tuple[Any, ...]]] = {row: [] for row in by_row}
    for some in chunks(list(by_row)):
        marks = ",".join("?" * len(some))
        for row, *columns in catalog.db.execute(
            f"SELECT grp, path, mode, size, hash, needed, blobs FROM artifact"
            f" WHERE grp IN ({marks}) AND needed >= ? ORDER BY grp, path",
            [*some, int(needed)],
        ):
            raw[row].append(tuple(columns))
    result: dict[int, list[File]] = {}
    for row, columns_of in raw.items():
        version = by_row[row]
        if row_seal(columns_of) != (version.needed_seal if needed else version.seal):
            raise CatalogDamaged(f"group {version.id} fails its checksum in the catalog")
        result[row] = [
            File(version.manifest, c[0], c[1], c[2], c[3], bool(c[4]), array("I", c[5]))
            for c in columns_of
        ]
    return result


def paths(catalog: Catalog, groups: Iterable[Version]) -> set[str]:
    """The paths of all artifacts of these versions."""
    found: set[str] = set()
    for some in chunks([version.row for version in groups]):
        marks = ",".join("?" * len(some))
        rows = catalog.db.execute(f"SELECT path FROM artifact WHERE grp IN ({marks})", some)
        found.update(path for (path,) in rows)
    return found


def demands_of(text: str | None) -> dict[str, Any]:
    try:
        demands = json.loads(text or "")
    except ValueError as error:
        raise CatalogDamaged("a requirement in the catalog is not JSON") from error
    return demands if isinstance(demands, dict) else {"?": demands}
