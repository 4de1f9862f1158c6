"""Reads whole artifacts from the store into memory, a bounded batch at a time.

Invariant: bytes that come back have the hash they were published under; what cannot be had comes
back as None, with the reason in :class:`~casinductor.store.read.fetch.Losses`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from casinductor.deadline import UNLIMITED
from casinductor.store.format.manifest import BlobTable
from casinductor.store.index.catalog import Catalog
from casinductor.store.index.groups import File
from casinductor.store.index.places import FrameRef, Located, Losses, Plan
from casinductor.store.read.fetch import fetch
from casinductor.store.store import Store

_BATCH_BYTES = 48 << 20


class Tables:
    """Blob and frame tables of manifests, each read once."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._read: dict[int, tuple[BlobTable, dict[int, FrameRef]]] = {}

    def read(self, manifest: int) -> tuple[BlobTable, dict[int, FrameRef]]:
        """The tables of the manifest with this row id."""
        if manifest not in self._read:
            catalog = self._catalog
            self._read[manifest] = (catalog.blobs.table(manifest), catalog.blobs.frames(manifest))
        return self._read[manifest]

    def places(self, file: File) -> list[tuple[FrameRef, Located]]:
        """Where the blobs of an artifact lie, in order."""
        table, frames = self.read(file.manifest)
        return [
            (frames[table.frame[i]], Located(table.hash(i), table.offset[i], table.size[i]))
            for i in file.blobs
        ]


def read_files(
    store: Store, files: Iterable[File], losses: Losses | None = None
) -> Iterator[tuple[File, bytes | None]]:
    """The bytes of each artifact, neighbours in the store together rather than in order."""
    tables = Tables(store.catalog)
    found = losses if losses is not None else Losses()
    placed = sorted(((tables.places(file), file) for file in files), key=lambda item: item[0][:1])
    batch: list[tuple[list[tuple[FrameRef, Located]], File]] = []
    size = 0
    for item in placed:
        batch.append(item)
        size += item[1].size
        if size >= _BATCH_BYTES:
            yield from _read_batch(store, batch, found)
            batch, size = [], 0
    yield from _read_batch(store, batch, found)


def _read_batch(
    store: Store, batch: list[tuple[list[tuple[FrameRef, Located]], File]], losses: Losses
) -> Iterator[tuple[File, bytes | None]]:
    plan: Plan = defaultdict(list)
    planned: set[bytes] = set()
    for places, _ in batch:
        for frame, located in places:
            if located.hash not in planned:
                planned.add(located.hash)
                plan[frame].append(located)
    blobs: dict[bytes, bytes] = {}
    for raw, opened, _ in fetch(store.backend, plan, losses, UNLIMITED):
        for blob in opened:
            blobs[blob.hash] = raw[blob.offset : blob.offset + blob.size]
    for places, file in batch:
        parts = [blobs.get(located.hash) for _, located in places]
        whole = [part for part in parts if part is not None]
        yield file, b"".join(whole) if len(whole) == len(parts) else None
