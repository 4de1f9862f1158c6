"""Rewrites some manifests of a cache as one: for compaction, and to leave condemned packs.

Invariant: the new manifest says exactly what the union of the old ones said (origins included, so
later races resolve as before), and names no pack that was condemned or gone.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from casinductor.deadline import Deadline
from casinductor.errors import StoreUnavailable
from casinductor.store.fetch import Unusable, read_blobs
from casinductor.store.frame import Codec
from casinductor.store.health import lost_versions
from casinductor.store.manifest import Artifact
from casinductor.store.names import CacheId
from casinductor.store.pack import BREAK, FRAME_BYTES, Blob
from casinductor.store.publish import Draft, NewGroup, Published, publish
from casinductor.store.store import Findings, Store
from casinductor.store.union import File, Version, demands_of, files, versions, winner

_ATTEMPTS = 6


@dataclass
class Rewritten:
    """The manifest, those it replaces, the bytes put, and the groups carried over or lost."""

    manifest: str
    replaced: list[str]
    bytes: int = 0
    groups: int = 0
    groups_lost: int = 0


def rewrite(
    store: Store,
    cache: CacheId,
    manifests: Iterable[str],
    *,
    barred: Unusable,
    unreadable: Unusable,
    level: int,
) -> Rewritten:
    """Publish one manifest that replaces ``manifests``; ``barred`` places are not relied on.

    Condemned packs belong to ``barred`` only, as they can be read until they are deleted;
    ``unreadable`` places cannot. Raises what reading and publishing raise.
    """
    result = Rewritten("", sorted(manifests))
    for _ in range(_ATTEMPTS):
        published = _publish(store, cache, result, barred, unreadable, level)
        result.bytes += published.bytes
        if published.manifest is not None:
            result.manifest = published.manifest.ulid
        if not published.conflicts:
            return result
        barred.packs |= published.conflicts
        result.replaced.append(result.manifest)
    raise StoreUnavailable(f"{cache}: collectors removed what was written, again and again")


def _publish(
    store: Store,
    cache: CacheId,
    result: Rewritten,
    barred: Unusable,
    unreadable: Unusable,
    level: int,
) -> Published:
    found = [v for v in versions(store.catalog, cache) if v.published in result.replaced]
    lost = lost_versions(store.catalog, found, unreadable)
    living = _living(version for version in found if version.row not in lost)
    result.groups, result.groups_lost = len(living), len({v.id for v in found if v.row in lost})
    members = files(store.catalog, living)
    draft = Draft(store, cache.gpu, barred)
    draft.lendable = _shared_packs(store, cache)
    groups: list[NewGroup] = []
    blobs = _blobs(store, living, members, draft, unreadable, groups)
    root, producer = _producer(store, cache)
    return publish(
        store,
        cache,
        draft,
        blobs,
        lambda: groups,
        root=root,
        producer=producer,
        codec=Codec.ZSTD,
        level=level,
        replaced=list(result.replaced),
    )


def _living(found: Iterator[Version]) -> list[Version]:
    """One version of each group for each set of demands, as each kind of worker would see it."""
    rivals: dict[tuple[str, str], list[Version]] = defaultdict(list)
    for version in found:
        rivals[version.id, version.demands].append(version)
    return sorted((winner(those) for those in rivals.values()), key=lambda v: (v.rank, v.id))


def _blobs(
    store: Store,
    living: list[Version],
    members: dict[int, list[File]],
    draft: Draft,
    unusable: Unusable,
    groups: list[NewGroup],
) -> Iterator[Blob]:
    """All blobs in the order of a restore, read in batches of one frame; fills ``groups``."""
    indexes: dict[tuple[int, str], list[int]] = {}
    tables = {v.manifest: store.catalog.blob_table(v.manifest) for v in living}
    for needed in (True, False):
        yield BREAK
        chosen = [(v, f) for v in living for f in members[v.row] if f.needed is needed]
        for batch in _batches(chosen):
            hashes = {tables[f.manifest].hash(i) for _, f in batch for i in f.blobs}
            content = read_blobs(store.backend, store.catalog, sorted(hashes), unusable)
            for version, file in batch:
                table = tables[file.manifest]
                pieces = [Blob(h, content[h]) for h in map(table.hash, file.blobs)]
                indexes[version.row, file.path], fresh = draft.place(pieces)
                yield from fresh
    for version in living:
        groups.append(_group(version, members[version.row], indexes))


def _batches(
    chosen: list[tuple[Version, File]],
) -> Iterator[list[tuple[Version, File]]]:
    batch: list[tuple[Version, File]] = []
    size = 0
    for item in chosen:
        if batch and size + item[1].size > FRAME_BYTES[Codec.ZSTD]:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item[1].size
    if batch:
        yield batch


def _group(
    version: Version, members: list[File], indexes: dict[tuple[int, str], list[int]]
) -> NewGroup:
    artifacts = [
        Artifact(
            file.path,
            file.mode,
            file.size,
            file.hash if len(file.blobs) > 1 else b"",
            file.needed,
            indexes[version.row, file.path],
        )
        for file in members
    ]
    return NewGroup(
        version.id,
        version.kind,
        version.rank,
        version.content,
        demands_of(version.demands),
        artifacts,
        version.replaces,
        json.loads(version.about),
        version.origin,
    )


def _shared_packs(store: Store, cache: CacheId) -> set[str]:
    """Compact packs that other caches rely on too: their blobs are not written again."""
    store.refresh(cache.gpu, None, Findings(), Deadline(None))
    rows = store.catalog.db.execute(
        "SELECT DISTINCT p.ulid FROM pack p JOIN manifest m ON m.id = p.manifest"
        " JOIN frame f ON f.manifest = m.id AND f.pack = p.idx AND f.codec = ?"
        " WHERE m.gpu = ? AND m.key <> ?",
        (int(Codec.ZSTD), cache.gpu, cache.key),
    )
    return {row[0] for row in rows}


def _producer(store: Store, cache: CacheId) -> tuple[str, dict[str, Any]]:
    """The local directory most manifests came from; a compaction has no fingerprint of its own."""
    rows = store.catalog.db.execute(
        "SELECT root FROM manifest WHERE gpu = ? AND key = ? AND root <> ''",
        (cache.gpu, cache.key),
    )
    roots = Counter(row[0] for row in rows)
    return (roots.most_common(1)[0][0] if roots else ""), {"compaction": True}
