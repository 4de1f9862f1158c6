"""Drafts: the groups and blobs of a manifest on their way into the store.

Invariant: a blob is numbered once however many artifacts have it, and every blob that ends in a
manifest has one place, in a pack that the manifest names with its size.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from casinductor.errors import StoreUnavailable
from casinductor.store.format import outline
from casinductor.store.format.manifest import (
    FORMAT_VERSION,
    Artifact,
    BlobTable,
    Group,
    Manifest,
    PackedFrame,
    PackRef,
)
from casinductor.store.format.names import CacheId
from casinductor.store.format.outline import Indexer
from casinductor.store.format.pack import Blob
from casinductor.store.format.packing import WrittenPack
from casinductor.store.format.ulid import new_ulid
from casinductor.store.index.places import FrameRef, Located, Placed, Unusable
from casinductor.store.store import Store


@dataclass
class NewGroup:
    """A group on its way into a manifest; its artifacts' blobs index the draft's table."""

    id: str
    kind: str
    rank: int
    content: bytes
    demands: dict[str, Any]
    artifacts: list[Artifact]
    replaces: list[bytes] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    origin: str = ""


class Draft:
    """Collects the blobs of a manifest: each once, new or already in the store.

    ``scope`` is the GPU type whose other caches may lend blobs; None lends from this draft only.
    ``lendable``, if set, are the only packs to lend from.
    """

    def __init__(self, store: Store, scope: str | None, unusable: Unusable) -> None:
        self._store = store
        self._scope = scope
        self._unusable = unusable
        self._index: dict[bytes, int] = {}
        self.lendable: set[str] | None = None
        #: Bytes of the packs that lend blobs.
        self.pack_sizes: dict[str, int] = {}
        self._hashes: list[bytes] = []
        self._sizes: list[int] = []
        self._places: list[tuple[FrameRef, int] | None] = []
        self._lent: dict[bytes, Placed] = {}
        self._any_known = scope is not None and store.catalog.blobs.any()

    def absent(self, hashes: Iterable[bytes]) -> set[bytes]:
        """Those blobs that :meth:`place` would want stored."""
        fresh = {digest for digest in hashes if digest not in self._index}
        return fresh - self._known(fresh).keys()

    def _known(self, hashes: Iterable[bytes]) -> dict[bytes, Placed]:
        """Where blobs lie already. What was said once stays said: another process may drop rows of
        the catalog, and :meth:`place` must not want data that :meth:`absent` let the caller omit.
        """
        if not self._any_known:
            return {}
        wanted = set(hashes)
        asked = wanted - self._lent.keys()
        found = self._store.catalog.locate(asked, self._unusable, self._scope, self.lendable)
        self._lent.update(found)
        return {digest: self._lent[digest] for digest in wanted & self._lent.keys()}

    def place(
        self, pieces: list[Blob], sizes: list[int] | None = None
    ) -> tuple[list[int], list[Blob]]:
        """Index the blobs of one artifact; return the indexes and those that must be stored.

        With ``sizes``, blobs that need not be stored may come without their data.
        """
        lengths = sizes or [len(blob.data) for blob in pieces]
        fresh: dict[bytes, tuple[Blob, int]] = {
            b.hash: (b, size)
            for b, size in zip(pieces, lengths, strict=True)
            if b.hash not in self._index
        }
        known = self._known(fresh)
        for blob, size in fresh.values():
            self._index[blob.hash] = len(self._sizes)
            self._hashes.append(blob.hash)
            self._sizes.append(size)
            there = known.get(blob.hash)
            self._places.append((there.frame, there.blob.offset) if there else None)
            if there:
                self.pack_sizes[there.frame.pack] = there.pack_bytes
        indexes = [self._index[blob.hash] for blob in pieces]
        return indexes, [blob for blob, _ in fresh.values() if blob.hash not in known]

    def adopt(self, frame: FrameRef, blob: Located) -> int:
        """Index a blob whose place is known without the catalog."""
        if blob.hash not in self._index:
            self._index[blob.hash] = len(self._sizes)
            self._hashes.append(blob.hash)
            self._sizes.append(blob.size)
            self._places.append((frame, blob.offset))
        return self._index[blob.hash]

    def stored(self, packs: list[WrittenPack]) -> None:
        """Note where the new blobs went."""
        for pack in packs:
            references = [FrameRef(pack.ulid, *frame) for frame in pack.frames]
            for spot in pack.spots:
                self._places[self._index[spot.hash]] = (references[spot.frame], spot.offset)

    def manifest(
        self,
        cache: CacheId,
        groups: list[NewGroup],
        sizes: dict[str, int],
        *,
        root: str,
        producer: dict[str, Any],
        replaced: list[str] | None = None,
        hides: list[bytes] | None = None,
    ) -> Manifest:
        """The manifest of ``groups``; ``sizes`` gives each pack's bytes. Unused blobs drop out."""
        ulid = new_ulid()
        table = _Table(self, sizes)
        numbered = [_renumbered(group, table.index) for group in groups]
        requirements, finished = _finished(numbered, ulid)
        return Manifest(
            version=FORMAT_VERSION,
            ulid=ulid,
            gpu=cache.gpu,
            key=cache.key,
            created_ms=time.time_ns() // 1_000_000,
            root=root,
            producer={"host": socket.gethostname(), **producer},
            replaced=replaced or [],
            requirements=requirements,
            packs=table.packs,
            frames=table.frames,
            blobs=table.blobs(),
            groups=finished,
            hides=hides or [],
        )

    def outline(
        self,
        cache: CacheId,
        groups: list[NewGroup],
        of_pack: list[bytes],
        root: str,
        producer: dict[str, Any],
    ) -> bytes:
        """What the manifest will say of ``groups``, for the pack that holds these blobs."""
        numbers = Indexer(of_pack)
        copies = [
            replace(
                group,
                artifacts=[
                    numbers.artifact(a, [self._hashes[i] for i in a.blobs]) for a in group.artifacts
                ],
            )
            for group in groups
        ]
        requirements, finished = _finished(copies, "")
        others = b"".join(numbers.others)
        return outline.encode(
            outline.Outline(
                outline.VERSION,
                cache.gpu,
                cache.key,
                root,
                producer,
                requirements,
                finished,
                others,
            )
        )

    def entry(self, index: int) -> tuple[bytes, int, FrameRef, int]:
        """A blob's hash, size, frame and offset, once stored."""
        place = self._places[index]
        if place is None:
            raise StoreUnavailable("a blob was drafted but never stored")
        return self._hashes[index], self._sizes[index], place[0], place[1]


def _renumbered(group: NewGroup, index: Callable[[int], int]) -> NewGroup:
    """A copy whose artifacts' blobs are numbered as ``index`` says."""
    artifacts = [
        msgspec.structs.replace(artifact, blobs=[index(blob) for blob in artifact.blobs])
        for artifact in group.artifacts
    ]
    return replace(group, artifacts=artifacts)


def _finished(groups: list[NewGroup], ulid: str) -> tuple[list[dict[str, Any]], list[Group]]:
    """The requirements, each once, and the groups that index them; new ones originate here."""
    demands: dict[str, tuple[int, dict[str, Any]]] = {}
    finished = []
    for group in groups:
        key = repr(sorted(group.demands.items()))
        index, _ = demands.setdefault(key, (len(demands), group.demands))
        finished.append(
            Group(
                group.id,
                group.kind,
                group.rank,
                group.origin or ulid,
                group.content,
                index,
                group.replaces,
                group.artifacts,
                group.about,
            )
        )
    return [demand for _, demand in demands.values()], finished


class _Table:
    """Renumbers the blobs that a manifest really uses, with their frames and packs."""

    def __init__(self, draft: Draft, sizes: dict[str, int]) -> None:
        self._draft = draft
        self._pack_sizes = sizes
        self._blobs: dict[int, int] = {}
        self._frames: dict[FrameRef, int] = {}
        self._packs: dict[str, int] = {}
        self._rows: list[tuple[bytes, int, int, int]] = []
        self.packs: list[PackRef] = []
        self.frames: list[PackedFrame] = []

    def index(self, drafted: int) -> int:
        known = self._blobs.get(drafted)
        if known is not None:
            return known
        digest, size, frame, offset = self._draft.entry(drafted)
        self._rows.append((digest, self._frame(frame), offset, size))
        self._blobs[drafted] = len(self._rows) - 1
        return len(self._rows) - 1

    def _frame(self, frame: FrameRef) -> int:
        if frame not in self._frames:
            if frame.pack not in self._packs:
                self._packs[frame.pack] = len(self.packs)
                self.packs.append(PackRef(frame.pack, self._pack_sizes[frame.pack]))
            self._frames[frame] = len(self.frames)
            pack = self._packs[frame.pack]
            self.frames.append(
                PackedFrame(pack, frame.offset, frame.stored, frame.raw, frame.codec)
            )
        return self._frames[frame]

    def blobs(self) -> BlobTable:
        columns = [list(column) for column in zip(*self._rows, strict=True)] or [[], [], [], []]
        return BlobTable(b"".join(columns[0]), columns[1], columns[2], columns[3])
