"""Figures about a store or one cache, from the catalog and one listing.

Invariant: ``logical`` counts every artifact of every cache, ``unique`` every blob once, ``stored``
what the store's manifests and packs really take; all are bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from casinductor.store.format import names
from casinductor.store.format.names import CacheId
from casinductor.store.index.union import demands_of, versions
from casinductor.store.lookup import not_found
from casinductor.store.store import Store
from casinductor.store.uses import last_use, marks_of_use


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
class GroupLine:
    """One version of a group: number of artifacts, their bytes, and its requirements, whether or
    not this worker could load it.
    """

    id: str
    kind: str
    artifacts: int
    bytes: int
    origin: str
    content: str
    demands: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class CacheLine:
    """One cache of a listing; Unix times: ``synced_ms`` when a worker last added to it, ``used_ms``
    when one last restored or added, as marks of use tell.
    """

    gpu: str
    key: str
    manifests: int
    groups: int
    artifacts: int
    logical_bytes: int
    synced_ms: int
    used_ms: int = 0

    @property
    def cache(self) -> str:
        """As every command takes it: ``GPU/key``."""
        return f"{self.gpu}/{self.key}"

    def as_dict(self) -> dict[str, Any]:
        return {"cache": self.cache, **asdict(self)}


@dataclass
class KindLine:
    """How many groups and artifacts of a kind a cache has, and their bytes."""

    kind: str
    groups: int = 0
    artifacts: int = 0
    bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def figures(store: Store, cache: CacheId | None) -> Figures:
    """Figures of one cache, or of the whole store. Raises :class:`CacheNotFound`."""
    gpu, key = (cache.gpu, cache.key) if cache else (None, None)
    store.require_there()
    refreshed = store.refresh(gpu, key)
    catalog = store.catalog
    if cache is None:
        catalog.index_blobs()
    with catalog.reading():
        counts = catalog.figures.counts(cache)
        stored = catalog.stored_bytes(cache) if cache else 0
    if cache and not counts.manifests and not refreshed.damage:
        raise not_found(store.backend, cache)
    result = Figures(
        stored_bytes=stored,
        logical_bytes=counts.logical_bytes,
        unique_bytes=counts.unique_bytes,
        groups=counts.groups,
        artifacts=counts.artifacts,
        packs=counts.packs,
        manifests=refreshed.listed,
        caches=counts.caches,
        damage=refreshed.damage,
    )
    if cache is None:
        packs = store.packs()
        result.packs = len(packs)
        manifests = store.backend.list(f"{names.MANIFESTS}/", recursive=True)
        result.stored_bytes = sum(packs.values()) + sum(item.size for item in manifests)
    return result


def cache_lines(store: Store, gpu: str | None) -> list[CacheLine]:
    """All caches, or those of one GPU type, by name."""
    store.require_there()
    store.refresh(gpu).log()
    with store.catalog.reading():
        lines = [CacheLine(*counts) for counts in store.catalog.figures.by_cache(gpu)]
    uses, now = marks_of_use(store), time.time() * 1000
    for line in lines:
        marks = uses.get(CacheId(line.gpu, line.key), set())
        line.used_ms = int(last_use(marks, set(), now)) or line.synced_ms
        line.used_ms = max(line.used_ms, line.synced_ms)
    return lines


def group_lines(store: Store, cache: CacheId) -> list[GroupLine]:
    """All versions by kind and id. Raises :class:`CacheNotFound`."""
    store.require_there()
    if not store.refresh(cache.gpu, cache.key).log().listed:
        raise not_found(store.backend, cache)
    with store.catalog.reading():
        everything = versions(store.catalog, cache)
        distinct = list({(v.id, v.demands, v.content): v for v in everything}.values())
        members = store.catalog.groups.files(distinct)
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
        for version in distinct
    ]
    return sorted(lines, key=lambda line: (line.kind, line.id, line.origin))


def kind_lines(lines: Iterable[GroupLine]) -> list[KindLine]:
    """What groups add up to by kind, most bytes first."""
    found: dict[str, KindLine] = {}
    for line in lines:
        kind = found.setdefault(line.kind, KindLine(line.kind))
        kind.groups += 1
        kind.artifacts += line.artifacts
        kind.bytes += line.bytes
    return sorted(found.values(), key=lambda kind: -kind.bytes)
