"""The content of a cache: the union of its manifests, resolved group by group.

Invariant: the outcome is a function of the set of manifests alone, whatever order they were read
in. Manifests that a removal covers are left out; a manifest that merely replaces others hides
nothing, as its writer may have crashed before it knew that its packs stay. Of the versions of a
group that a worker may load, those that another one replaces drop out, and of the rest the
smallest origin wins as a whole, never file by file.
"""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
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


def versions(catalog: Catalog, cache: CacheId, *, even_removed: bool = False) -> list[Version]:
    """Every version of every group of a cache, from the manifests that no removal covers.

    The same version may stand in several manifests, at other places. ``even_removed`` has the
    others too.
    """
    rows = catalog.db.execute(
        "SELECT g.id, g.manifest, g.gid, g.kind, g.rank, g.origin, g.content, r.demands,"
        " g.replaces, g.about, g.seal, g.needed_seal, m.ulid"
        " FROM manifest m JOIN grp g ON g.manifest = m.id"
        " LEFT JOIN requirement r ON r.manifest = m.id AND r.idx = g.requires"
        " WHERE m.gpu = ? AND m.key = ?",
        (cache.gpu, cache.key),
    )
    found = [Version(*row) for row in rows]
    hidden = set() if even_removed else removed(catalog, cache)
    return [v for v in found if v.published not in hidden] if hidden else found


def removed(catalog: Catalog, cache: CacheId) -> set[str]:
    """The manifests of a cache that removals cover."""
    stands_for, removals = lineage(catalog, cache)
    return covered({ulid: stands_for[ulid] for ulid in removals}, stands_for)


def hide_removed(catalog: Catalog) -> None:
    """Fill the temporary table ``hidden`` with removals and what they cover, for queries."""
    execute = catalog.db.execute
    execute("CREATE TEMP TABLE IF NOT EXISTS hidden(ulid TEXT PRIMARY KEY)")
    execute("DELETE FROM temp.hidden")
    for gpu, key in execute(
        "SELECT DISTINCT m.gpu, m.key FROM manifest m JOIN replaced d ON d.manifest = m.id"
    ).fetchall():
        stands_for, removals = lineage(catalog, CacheId(gpu, key))
        gone = removals | covered({ulid: stands_for[ulid] for ulid in removals}, stands_for)
        catalog.db.executemany(
            "INSERT OR IGNORE INTO temp.hidden VALUES (?)", ((ulid,) for ulid in gone)
        )


def lineage(catalog: Catalog, cache: CacheId) -> tuple[dict[str, set[str]], set[str]]:
    """What each manifest of a cache replaces, and which are removals: those without groups."""
    stands_for: dict[str, set[str]] = defaultdict(set)
    removals: set[str] = set()
    for ulid, target, has_groups in catalog.db.execute(
        "SELECT m.ulid, d.ulid, EXISTS (SELECT 1 FROM grp WHERE manifest = m.id)"
        " FROM manifest m JOIN replaced d ON d.manifest = m.id WHERE m.gpu = ? AND m.key = ?",
        (cache.gpu, cache.key),
    ):
        stands_for[ulid].add(target)
        if not has_groups:
            removals.add(ulid)
    return stands_for, removals


def covered(removals: Mapping[str, set[str]], stands_for: Mapping[str, set[str]]) -> set[str]:
    """What removals cover: all that they name, and all that stands only for what is covered."""
    found: set[str] = set().union(*removals.values())
    while found:
        more = {
            ulid
            for ulid, names in stands_for.items()
            if ulid not in found and ulid not in removals and names and names <= found
        }
        if not more:
            break
        found |= more
    return found


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


def paths(catalog: Catalog, groups: Iterable[Version]) -> dict[str, bytes]:
    """The paths of all artifacts of these versions, with the contents of their groups."""
    contents = {version.row: version.content for version in groups}
    found: dict[str, bytes] = {}
    for some in chunks(list(contents)):
        marks = ",".join("?" * len(some))
        rows = catalog.db.execute(f"SELECT path, grp FROM artifact WHERE grp IN ({marks})", some)
        found.update((path, contents[row]) for path, row in rows)
    return found


def demands_of(text: str | None) -> dict[str, Any]:
    try:
        demands = json.loads(text or "")
    except ValueError as error:
        raise CatalogDamaged("a requirement in the catalog is not JSON") from error
    return demands if isinstance(demands, dict) else {"?": demands}
