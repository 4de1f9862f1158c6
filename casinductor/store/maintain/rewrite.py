"""Rewrites some manifests of a cache as one: for compaction, and to leave condemned packs.

Invariant: the new manifest says exactly what the union of the old ones said (origins included, so
later races resolve as before) less what the caller gave up, and names no pack that was condemned
or gone. It takes nothing away: the old manifests count until they are deleted.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from casinductor.deadline import UNLIMITED, Deadline
from casinductor.errors import StoreUnavailable, Untrusted
from casinductor.store.format.frame import Codec
from casinductor.store.format.manifest import Artifact, BlobTable
from casinductor.store.format.names import CacheId
from casinductor.store.format.pack import BREAK, FRAME_BYTES, Blob
from casinductor.store.index.groups import File, Keep, Version
from casinductor.store.index.places import Unusable
from casinductor.store.index.union import demands_of, versions, winner
from casinductor.store.read.fetch import read_blobs
from casinductor.store.read.health import lost_versions
from casinductor.store.store import Store
from casinductor.store.write.draft import Draft, NewGroup
from casinductor.store.write.publish import Published, Source, publish
from casinductor.store.write.relatives import read_relatives

_ATTEMPTS = 6


@dataclass(frozen=True)
class Terms:
    """How to rewrite.

    ``barred`` places are not relied on; ``unreadable`` spots are known to be lost, and the groups
    that need them are given up, as are those that ``keeps`` does not want. Blobs that lie
    elsewhere, in ``lendable`` packs if those are said, stay there with ``lend``; else only
    compact packs lend, and only across caches.
    ``revive`` reads removed manifests and stands for none.
    """

    barred: Unusable
    unreadable: Unusable = field(default_factory=Unusable)
    level: int = 12
    lend: bool = False
    lendable: set[str] | None = None
    revive: bool = False
    keeps: Keep | None = None
    deadline: Deadline = UNLIMITED


@dataclass
class Rewritten:
    """The manifest, those it replaces, the bytes put, and the groups carried over or lost."""

    manifest: str
    replaced: list[str]
    bytes: int = 0
    groups: int = 0
    lost: list[Version] = field(default_factory=list)

    @property
    def groups_lost(self) -> int:
        return len({version.id for version in self.lost})


def rewrite(store: Store, cache: CacheId, manifests: Iterable[str], terms: Terms) -> Rewritten:
    """Publish one manifest that says what ``manifests`` say, and see its handshake through.

    Condemned packs are barred only, as they can be read until they are deleted. Raises what
    reading and publishing raise, :class:`Damaged` for a blob that is lost unexpectedly.
    """
    require_keys(store, cache)
    result = Rewritten("", sorted(manifests))
    for _ in range(_ATTEMPTS):
        published = _publish(store, cache, result, terms)
        result.bytes += published.bytes
        if published.manifest is not None:
            result.manifest = published.manifest.ulid
        if not published.conflicts:
            return result
        terms.barred.packs |= published.conflicts
        result.replaced.append(result.manifest)
    raise StoreUnavailable(f"{cache}: collectors removed what was written, again and again")


def lacks_keys(store: Store, cache: CacheId | None = None) -> bool:
    """Whether manifests of a cache, or of any, are signed and this process has no keys."""
    return not store.trust.active and store.catalog.manifests.any_unverified(cache)


def require_keys(store: Store, cache: CacheId | None = None) -> None:
    """Raise :class:`Untrusted` where manifests are signed and this process cannot tell by whom: it
    would take a stranger's word for what may go, and publish what nobody believes.
    """
    if lacks_keys(store, cache):
        raise Untrusted(
            f"{cache or store.backend.url} is signed: whoever moves or deletes there needs "
            "CASINDUCTOR_TRUSTED_KEYS, the public keys of those who publish"
        )


def _publish(store: Store, cache: CacheId, result: Rewritten, terms: Terms) -> Published:
    store.refresh(cache.gpu, cache.key, terms.deadline)  # drops rows, so first
    if not terms.lend:
        read_relatives(store, cache, deadline=terms.deadline)
    store.catalog.index_blobs()
    with store.catalog.reading():
        found = versions(store.catalog, cache, even_removed=terms.revive, even_hidden=True)
        found = [v for v in found if v.published in result.replaced]
        if terms.keeps is not None:
            found = [version for version in found if terms.keeps(version)]
        lost = lost_versions(store.catalog, found, terms.unreadable)
        living = _living(version for version in found if version.row not in lost)
        members = store.catalog.groups.files(living)
        tables = {v.manifest: store.catalog.blobs.table(v.manifest) for v in living}
    carried = {(v.id, v.demands) for v in living}
    result.groups = len(living)
    result.lost = [v for v in found if v.row in lost and (v.id, v.demands) not in carried]
    if not living:
        return Published()  # a manifest without groups would be a removal
    draft = Draft(store, cache.gpu, terms.barred)
    draft.lendable = terms.lendable if terms.lend else store.catalog.packs.compact_of_others(cache)
    groups: list[NewGroup] = []
    blobs = blobs_of(store, living, members, tables, draft, terms.unreadable, groups)
    root, producer = _producer(store, cache)
    source = Source(
        blobs,
        lambda: groups,
        root,
        producer,
        Codec.ZSTD,
        terms.level,
        replaced=[] if terms.revive else list(result.replaced),
    )
    return publish(store, cache, draft, source)


def _living(found: Iterator[Version]) -> list[Version]:
    """One version of each group for each set of demands, as each kind of worker would see it."""
    rivals: dict[tuple[str, str], list[Version]] = defaultdict(list)
    for version in found:
        rivals[version.id, version.demands].append(version)
    return sorted((winner(those) for those in rivals.values()), key=lambda v: (v.rank, v.id))


def blobs_of(
    store: Store,
    living: list[Version],
    members: dict[int, list[File]],
    tables: dict[int, BlobTable],
    draft: Draft,
    unusable: Unusable,
    groups: list[NewGroup],
) -> Iterator[Blob]:
    """All blobs in the order of a restore, read in batches of one frame; fills ``groups``."""
    indexes: dict[tuple[int, str], list[int]] = {}
    done, total = 0, sum(file.size for version in living for file in members[version.row])
    for needed in (True, False):
        yield BREAK
        chosen = [(v, f) for v in living for f in members[v.row] if f.needed is needed]
        for batch in _batches(chosen):
            store.watch("moving files", done, total, "B")
            done += sum(file.size for _, file in batch)
            hashes = {tables[f.manifest].hash(i) for _, f in batch for i in f.blobs}
            absent = draft.absent(hashes)  # the others stay where they are, unread
            content = read_blobs(store.backend, store.catalog, absent, unusable)
            for version, file in batch:
                table = tables[file.manifest]
                pieces = [Blob(h, content.get(h, b"")) for h in map(table.hash, file.blobs)]
                sizes = [table.size[i] for i in file.blobs]
                indexes[version.row, file.path], fresh = draft.place(pieces, sizes)
                yield from fresh
    groups.extend(_group(version, members[version.row], indexes) for version in living)


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
            file.hash if len(file.blobs) != 1 else b"",
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


def _producer(store: Store, cache: CacheId) -> tuple[str, dict[str, Any]]:
    """The local directory most manifests came from; a compaction has no fingerprint of its own."""
    roots = Counter(store.catalog.manifests.roots(cache))
    return (roots.most_common(1)[0][0] if roots else ""), {"compaction": True}
