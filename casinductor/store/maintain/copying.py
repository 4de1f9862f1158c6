"""Copies caches from one store to another: what the other lacks, group by group.

Invariant: nothing is taken from the source, and what reaches the destination was verified blob by
blob, lies under fresh names, and obeys the protocol of a sync there (``docs/protocol.md``): it may
be killed anywhere, and the next one goes on where the last manifest was published. Origins go
along, so a race between versions of a group resolves as it did at the source.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from casinductor.errors import Damaged, StoreUnavailable
from casinductor.store.format.frame import Codec
from casinductor.store.format.names import CacheId
from casinductor.store.index.groups import File, Version
from casinductor.store.index.places import Unusable
from casinductor.store.index.union import versions
from casinductor.store.lookup import not_found
from casinductor.store.maintain.rewrite import blobs_of, require_keys
from casinductor.store.read.fetch import BlobsLost
from casinductor.store.read.health import lost_versions
from casinductor.store.store import Store
from casinductor.store.write.draft import Draft, NewGroup
from casinductor.store.write.publish import Source, publish
from casinductor.store.write.relatives import read_relatives

#: So many bytes of files go into one manifest: what a copy that is killed has to repeat at most.
CHUNK_BYTES = 256 << 20
_ATTEMPTS = 6
Same = tuple[str, str, bytes]


@dataclass
class CopyReport:
    """What was copied of one cache. ``groups`` and ``files`` are those that the destination lacked,
    ``groups_there`` those it had; ``bytes`` are of files, ``bytes_written`` of packs and manifests.
    """

    cache: str
    groups: int = 0
    groups_there: int = 0
    files: int = 0
    bytes: int = 0
    bytes_written: int = 0
    manifests: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def copy_cache(
    source: Store, target: Store, cache: CacheId, codec: Codec = Codec.LZ4, level: int = 12
) -> CopyReport:
    """Publish in ``target`` what it lacks of a cache of ``source``.

    What was removed or hidden at the source is not copied, what was hidden at the destination
    stays hidden. Groups whose blobs the source lost are named in ``lost``. Raises
    :class:`CacheNotFound`, and what reading and publishing raise; what was published stays.
    """
    start, report = time.perf_counter(), CopyReport(str(cache))
    source.require_there()
    if not source.refresh(cache.gpu, cache.key).log().listed:
        raise not_found(source.backend, cache)
    require_keys(source, cache)
    target.prepare_to_write()
    target.refresh(cache.gpu, cache.key)
    read_relatives(target, cache)
    work = _Copy(source, target, cache, codec, level, report)
    for chunk in work.chunks():
        work.publish(chunk)
    report.seconds = time.perf_counter() - start
    return report


class _Copy:
    """The copy of one cache; use once."""

    def __init__(
        self,
        source: Store,
        target: Store,
        cache: CacheId,
        codec: Codec,
        level: int,
        report: CopyReport,
    ) -> None:
        self.source, self.target, self.cache = source, target, cache
        self.codec, self.level, self.report = codec, level, report
        self._unreadable = Unusable()

    def chunks(self) -> Iterator[list[Same]]:
        """What is to be copied: groups of one source manifest each, a chunk at a time."""
        there = {_same(v) for v in versions(self.target.catalog, self.cache, even_hidden=True)}
        found = {_same(v): v for v in versions(self.source.catalog, self.cache)}
        wanted = [version for same, version in found.items() if same not in there]
        self.report.groups_there = len(found) - len(wanted)
        sizes = self.source.catalog.groups.sizes(self.cache)
        by_manifest: dict[str, list[Version]] = defaultdict(list)
        for version in wanted:
            by_manifest[version.published].append(version)
        for ulid in sorted(by_manifest):
            chunk: list[Same] = []
            size = 0
            for version in sorted(by_manifest[ulid], key=lambda v: (v.rank, v.id)):
                chunk.append(_same(version))
                size += sizes.get(version.row, (0, 0))[1]
                if size >= CHUNK_BYTES:
                    yield chunk
                    chunk, size = [], 0
            if chunk:
                yield chunk

    def publish(self, chunk: list[Same]) -> None:
        """Publish one chunk, again if a collector takes something away on either side."""
        barred, replaced = self.target.read_marks(), list[str]()
        told = len(self.report.lost)
        for attempt in range(_ATTEMPTS):
            del self.report.lost[told:]  # every attempt finds anew what is lost
            try:
                done = self._once(chunk, barred, replaced)
            except (Damaged, StoreUnavailable) as error:
                if attempt == _ATTEMPTS - 1:
                    raise
                if attempt and isinstance(error, BlobsLost):
                    self._unreadable.spots |= error.spots
                self.source.refresh(self.cache.gpu, self.cache.key)  # compacted meanwhile?
                continue
            if not done:
                return
            barred.packs |= done
        raise StoreUnavailable(f"{self.cache}: collectors removed what was copied, again and again")

    def _once(self, chunk: list[Same], barred: Unusable, replaced: list[str]) -> set[str]:
        """Publish a chunk; returns the packs that were condemned under it."""
        source, wanted = self.source, set(chunk)
        source.catalog.index_blobs()
        self.target.catalog.index_blobs()
        found = {_same(v): v for v in versions(source.catalog, self.cache) if _same(v) in wanted}
        living = [found[same] for same in chunk if same in found]
        lost = lost_versions(source.catalog, living, self._unreadable)
        self.report.lost += [version.id for version in living if version.row in lost]
        living = [version for version in living if version.row not in lost]
        if not living:
            return set()
        members = source.catalog.groups.files(living)
        tables = {v.manifest: source.catalog.blobs.table(v.manifest) for v in living}
        draft = Draft(self.target, self.cache.gpu, barred)
        groups: list[NewGroup] = []
        blobs = blobs_of(source, living, members, tables, draft, self._unreadable, groups)
        root, producer = self._producer(living[0])
        made = Source(blobs, lambda: groups, root, producer, self.codec, self.level, list(replaced))
        published = publish(self.target, self.cache, draft, made)
        self.report.bytes_written += published.bytes
        if published.manifest is not None:
            replaced.append(published.manifest.ulid)
        if not published.conflicts:
            self._count(living, members, replaced)
        return published.conflicts

    def _count(
        self, living: list[Version], members: dict[int, list[File]], made: list[str]
    ) -> None:
        files = [file for version in living for file in members[version.row]]
        self.report.groups += len(living)
        self.report.files += len(files)
        self.report.bytes += sum(file.size for file in files)
        self.report.manifests += made[-1:]

    def _producer(self, version: Version) -> tuple[str, dict[str, Any]]:
        """Directory and producer of the manifest that a group comes from."""
        for origin in self.source.catalog.manifests.origins(self.cache):
            if origin.ulid == version.published:
                told = json.loads(origin.producer)
                return origin.root, told if isinstance(told, dict) else {}
        return "", {}


def _same(version: Version) -> Same:
    """What makes two versions the same, wherever they lie."""
    return version.id, version.demands, version.content
