"""The groups of a cache as its manifests have them, for people.

Invariant: every published version is listed, with the demands it makes, whoever could load it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from casinductor.deadline import Deadline
from casinductor.errors import CacheNotFound
from casinductor.store.names import CacheId
from casinductor.store.store import Findings, Store
from casinductor.store.union import demands_of, files, versions


@dataclass
class GroupLine:
    """One version of a group: number of artifacts, their bytes, and what it demands."""

    id: str
    kind: str
    artifacts: int
    bytes: int
    origin: str
    content: str
    demands: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def group_lines(store: Store, cache: CacheId) -> list[GroupLine]:
    """All versions by kind and id. Raises :class:`CacheNotFound`."""
    if not store.refresh(cache.gpu, cache.key, Findings(), Deadline(None)):
        raise CacheNotFound(f"{store.backend.url} holds no cache {cache}")
    found = list({(v.id, v.demands, v.content): v for v in versions(store.catalog, cache)}.values())
    members = files(store.catalog, found)
    lines = [
        GroupLine(
            version.id,
            version.kind,
            len(members[version.row]),
            sum(file.size for file in members[version.row]),
            version.origin,
            version.content.hex(),
            demands_of(version.demands),
        )
        for version in found
    ]
    return sorted(lines, key=lambda line: (line.kind, line.id, line.origin))
