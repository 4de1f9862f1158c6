"""What the catalog knows of blobs: each manifest's table of them, and where a hash lies.

Invariant: a place that comes back is one that a manifest names, with the size of its pack. Hashes
are indexed only where somebody asks for one, as restores never do.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, NamedTuple

from casinductor.errors import CatalogChanged
from casinductor.store.format.frame import split_hashes
from casinductor.store.format.manifest import BlobTable
from casinductor.store.index.places import FrameRef, Located, Placed, Unusable

_COLUMNS = "hash, manifest, frame, offset, size"
#: How much longer one hash takes to leave the index than to enter it with all others.
_DEARER = 5
_PLACES = (
    " FROM blob b JOIN frame f ON f.manifest = b.manifest AND f.idx = b.frame"
    " JOIN pack p ON p.manifest = b.manifest AND p.idx = f.pack"
)


class BlobPlace(NamedTuple):
    """A blob's hash, pack, the frame's offset, stored and raw bytes and codec, and the blob's
    offset in it.
    """

    hash: bytes
    pack: str
    frame: int
    stored: int
    raw: int
    codec: int
    offset: int


class Blobs:
    """Questions about blobs to the catalog behind ``connection``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def any(self) -> bool:
        return self._db.execute("SELECT 1 FROM blobs LIMIT 1").fetchone() is not None

    def table(self, manifest: int) -> BlobTable:
        """A manifest's blobs by the index its artifacts use. Raises :class:`CatalogChanged`."""
        hashes, *columns = self._table(manifest)
        return BlobTable(hashes, *(column.tolist() for column in columns))

    def _table(self, manifest: int) -> tuple[bytes, array[int], array[int], array[int]]:
        found = self._db.execute(
            "SELECT hashes, frame, offset, size FROM blobs WHERE manifest = ?", (manifest,)
        ).fetchone()
        if found is None:
            raise CatalogChanged(f"manifest row {manifest} is gone from the catalog")
        hashes, frame, offset, size = found
        return hashes, array("Q", frame), array("Q", offset), array("Q", size)

    def frames(self, manifest: int) -> dict[int, FrameRef]:
        """A manifest's frames by index."""
        rows = self._db.execute(
            "SELECT f.idx, p.ulid, f.offset, f.stored, f.raw, f.codec FROM frame f"
            " JOIN pack p ON p.manifest = f.manifest AND p.idx = f.pack WHERE f.manifest = ?",
            (manifest,),
        )
        return {row[0]: FrameRef(*row[1:]) for row in rows}

    def lacking_index(self) -> bool:
        """Whether some manifest's blobs cannot be found by their hash yet."""
        found = self._db.execute("SELECT 1 FROM manifest WHERE NOT indexed LIMIT 1").fetchone()
        return found is not None

    def index(self) -> None:
        """Index all hashes, in the caller's transaction; in their order, as an index of millions is
        written many times faster from one end to the other.
        """
        self._db.execute(f"CREATE TEMP TABLE fresh({_COLUMNS})")
        rows = self._db.execute("SELECT id FROM manifest WHERE NOT indexed").fetchall()
        for (manifest,) in rows:
            hashes, *columns = self._table(manifest)
            self._db.executemany(
                "INSERT INTO fresh VALUES (?, ?, ?, ?, ?)",
                zip(split_hashes(hashes), repeat(manifest), *columns),
            )
        self._db.execute(
            f"INSERT OR IGNORE INTO blob SELECT {_COLUMNS} FROM fresh ORDER BY hash, manifest"
        )
        self._db.execute("DROP TABLE fresh")
        self._db.execute("UPDATE manifest SET indexed = 1 WHERE NOT indexed")

    def forget(self, manifests: set[int]) -> None:
        """Take manifests' blobs out of the index, in the caller's transaction; the whole index
        where most of it goes, as each hash that goes alone costs more than one that is added.
        """
        going, going_bytes, staying_bytes = list[int](), 0, 0
        for manifest, size in self._db.execute(
            "SELECT m.id, LENGTH(b.hashes) FROM manifest m JOIN blobs b ON b.manifest = m.id"
            " WHERE m.indexed"
        ):
            if manifest in manifests:
                going.append(manifest)
                going_bytes += size
            else:
                staying_bytes += size
        if _DEARER * going_bytes > staying_bytes:
            self._db.execute("DELETE FROM blob")
            self._db.execute("UPDATE manifest SET indexed = 0")
            return
        for manifest in going:
            hashes, *_ = self._table(manifest)
            self._db.executemany(
                "DELETE FROM blob WHERE hash = ? AND manifest = ?",
                zip(split_hashes(hashes), repeat(manifest)),
            )

    def locate(
        self,
        hashes: Iterable[bytes],
        unusable: Unusable,
        gpu: str | None = None,
        only: set[str] | None = None,
    ) -> dict[bytes, Placed]:
        """A usable place of each indexed blob, of one GPU type or of any; with ``only``, in no
        other packs than those.
        """
        found: dict[bytes, Placed] = {}
        for some in chunks(list(hashes)):
            marks = ",".join("?" * len(some))
            rows = self._db.execute(
                "SELECT b.hash, b.offset, b.size, p.size, p.ulid, f.offset, f.stored, f.raw,"
                f" f.codec{_PLACES} JOIN manifest m ON m.id = b.manifest"
                f" WHERE b.hash IN ({marks}) AND (? IS NULL OR m.gpu = ?)",
                [*some, gpu, gpu],
            )
            for digest, offset, size, pack_bytes, *frame in rows:
                reference = FrameRef(*frame)
                if digest in found or (only is not None and reference.pack not in only):
                    continue
                if not unusable.bars_blob(reference.pack, reference.offset, digest):
                    found[digest] = Placed(reference, Located(digest, offset, size), pack_bytes)
        return found

    def distinct(self) -> Iterator[tuple[bytes, int]]:
        """Every indexed blob once, by hash: hash and size in bytes."""
        return self._db.execute("SELECT DISTINCT hash, size FROM blob ORDER BY hash")

    def places(self) -> Iterator[BlobPlace]:
        """Every place of every indexed blob."""
        rows = self._db.execute(
            f"SELECT b.hash, p.ulid, f.offset, f.stored, f.raw, f.codec, b.offset{_PLACES}"
        )
        return (BlobPlace(*row) for row in rows)

    def unique_bytes(self, manifests: Iterable[int]) -> int:
        """Bytes of the blobs of some manifests, each once."""
        sizes: dict[bytes, int] = {}
        for manifest in manifests:
            hashes, _, _, size = self._table(manifest)
            sizes.update(zip(split_hashes(hashes), size, strict=True))
        return sum(sizes.values())

    def used_bytes(self, excluding: set[str]) -> dict[str, float]:
        """Stored bytes of each pack that blobs of manifests use, those ``excluding`` left out.

        A frame counts by the share of its raw bytes that is used. Of packs that one manifest names
        nothing is remembered but the sum.
        """
        users: dict[str, int] = {}
        manifests: dict[int, None] = {}
        for manifest, ulid, pack in self._db.execute(
            "SELECT m.id, m.ulid, p.ulid FROM manifest m JOIN pack p ON p.manifest = m.id"
            " ORDER BY m.id"
        ):
            if ulid not in excluding:
                users[pack] = users.get(pack, 0) + 1
                manifests[manifest] = None
        total: dict[str, float] = defaultdict(float)
        shared: dict[FrameRef, dict[int, int]] = {}
        for manifest in manifests:
            for frame, blobs in self._used(manifest).items():
                if users[frame.pack] > 1:
                    shared.setdefault(frame, {}).update(blobs)
                else:
                    total[frame.pack] += _share(frame, blobs)
        for frame, blobs in shared.items():
            total[frame.pack] += _share(frame, blobs)
        return total

    def _used(self, manifest: int) -> dict[FrameRef, dict[int, int]]:
        """The blobs of a manifest, offset and size, by their frame."""
        frames = self.frames(manifest)
        used: dict[int, dict[int, int]] = {index: {} for index in frames}
        _, frame, offset, size = self._table(manifest)
        for index, start, length in zip(frame, offset, size, strict=True):
            used[index][start] = length
        return {frames[index]: blobs for index, blobs in used.items()}


def _share(frame: FrameRef, blobs: dict[int, int]) -> float:
    return frame.stored * min(1.0, sum(blobs.values()) / max(1, frame.raw))


def chunks(items: list[Any], size: int = 500) -> Iterator[list[Any]]:
    """Slices small enough for SQLite's limit on bound parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
