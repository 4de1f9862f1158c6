"""Compaction: many manifests of a cache become one, its blobs long-window zstd packs.

Invariant: the new manifest says exactly what the union of the old ones said (origins included, so
later races resolve as before), and the old ones go only after it is published.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from casinductor.deadline import Deadline
from casinductor.errors import CacheNotFound, StoreUnavailable
from casinductor.store.fetch import Unusable, read_blobs
from casinductor.store.frame import Codec
from casinductor.store.gc import Wait, retire
from casinductor.store.health import lost_versions
from casinductor.store.manifest import Artifact
from casinductor.store.names import CacheId
from casinductor.store.pack import BREAK, FRAME_BYTES, Blob
from casinductor.store.publish import Draft, NewGroup, Published, publish
from casinductor.store.store import Findings, Store
from casinductor.store.union import File, Version, demands_of, files, versions, winner

_ATTEMPTS = 6


@dataclass
class CompactReport:
    """``manifests`` and ``packs`` that were replaced and removed; bytes are stored bytes of this
    cache's manifests and the packs they name, before and after.
    """

    cache: str
    manifest: str | None = None
    manifests_replaced: int = 0
    packs_removed: int = 0
    groups: int = 0
    groups_lost: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    bytes_uploaded: int = 0
    damage: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compact(
    store: Store,
    cache: CacheId,
    *,
    level: int = 12,
    grace: float | None = None,
    wait: Wait = time.sleep,
) -> CompactReport:
    """Rewrite a cache as one manifest with zstd packs of the given level, and remove the old.

    Raises :class:`CacheNotFound`, and what reading and writing raise; until the new manifest is
    published nothing has changed.
    """
    start = time.perf_counter()
    report, findings = CompactReport(str(cache)), Findings()
    listed = store.refresh(cache.gpu, cache.key, findings, Deadline(None))
    report.damage = findings.damage
    if not listed:
        raise CacheNotFound(f"{store.backend.url} holds no cache {cache}")
    report.bytes_before = stored_bytes(store, cache)
    if len(store.catalog.known(cache.gpu, cache.key)) == 1 and _is_compact(store, cache):
        report.bytes_after = report.bytes_before
        return report
    store.prepare_to_write()
    unusable = store.unusable()
    for _ in range(_ATTEMPTS):
        old = [ulid for _, ulid in store.catalog.known(cache.gpu, cache.key)]
        published = _rewrite(store, cache, unusable, old, level, report)
        report.bytes_uploaded += published.bytes
        if not published.conflicts:
            break
        unusable.packs |= published.conflicts
    else:
        raise StoreUnavailable(f"{cache}: collectors removed what was written, again and again")
    report.manifest = published.manifest.ulid if published.manifest else None
    report.manifests_replaced = len(old)
    report.packs_removed = len(retire(store, cache, old, grace=grace, wait=wait))
    report.bytes_after = stored_bytes(store, cache)
    report.seconds = time.perf_counter() - start
    return report


def stored_bytes(store: Store, cache: CacheId) -> int:
    """Bytes of a cache's manifests and of the packs that they name, shared ones in full."""
    (manifests,) = store.catalog.db.execute(
        "SELECT COALESCE(SUM(size), 0) FROM manifest WHERE gpu = ? AND key = ?",
        (cache.gpu, cache.key),
    ).fetchone()
    (packs,) = store.catalog.db.execute(
        "SELECT COALESCE(SUM(size), 0) FROM (SELECT DISTINCT p.ulid, p.size FROM pack p"
        " JOIN manifest m ON m.id = p.manifest WHERE m.gpu = ? AND m.key = ?)",
        (cache.gpu, cache.key),
    ).fetchone()
    return int(manifests) + int(packs)


def _rewrite(
    store: Store,
    cache: CacheId,
    unusable: Unusable,
    old: list[str],
    level: int,
    report: CompactReport,
) -> Published:
    found = versions(store.catalog, cache)
    lost = lost_versions(store.catalog, found, unusable)
    living = _living(version for version in found if version.row not in lost)
    report.groups, report.groups_lost = len(living), len({v.id for v in found if v.row in lost})
    members = files(store.catalog, living)
    draft = Draft(store, cache.gpu, unusable)
    draft.lendable = _shared_packs(store, cache)
    groups: list[NewGroup] = []
    blobs = _blobs(store, living, members, draft, unusable, groups)
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
        replaced=old,
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


def _is_compact(store: Store, cache: CacheId) -> bool:
    (others,) = store.catalog.db.execute(
        "SELECT COUNT(*) FROM frame f JOIN manifest m ON m.id = f.manifest"
        " WHERE m.gpu = ? AND m.key = ? AND f.codec <> ?",
        (cache.gpu, cache.key, int(Codec.ZSTD)),
    ).fetchone()
    return not others


def _producer(store: Store, cache: CacheId) -> tuple[str, dict[str, Any]]:
    """The local directory most manifests came from; a compaction has no fingerprint of its own."""
    rows = store.catalog.db.execute(
        "SELECT root FROM manifest WHERE gpu = ? AND key = ? AND root <> ''",
        (cache.gpu, cache.key),
    )
    roots = Counter(row[0] for row in rows)
    return (roots.most_common(1)[0][0] if roots else ""), {"compaction": True}
