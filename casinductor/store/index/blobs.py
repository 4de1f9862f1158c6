"""What the catalog knows of blobs: each manifest's table of them, and where a hash lies.

Invariant: a place that comes back is one that a manifest names, with the size of its pack. Hashes
are indexed only where somebody asks for one, as restores never do.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from casinductor.errors import CatalogChanged
from casinductor.store.format.manifest import BlobTable
from casinductor.store.index.places import FrameRef, Located, Placed, Unusable

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
        found = self._db.execute(
            "SELECT hashes, frame, offset, size FROM blobs WHERE manifest = ?", (manifest,)
        ).fetchone()
        if found is None:
            raise CatalogChanged(f"manifest row {manifest} is gone from the catalog")
        hashes, *columns = found
        return BlobTable(hashes, *(array("Q", column).tolist() for column in columns))

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
        found = self._db.execute("SELECT 1 FROM blobs WHERE NOT indexed LIMIT 1").fetchone()
        return found is not None

    def index(self) -> None:
        """Index all hashes, in the caller's transaction."""
        rows = self._db.execute("SELECT manifest FROM blobs WHERE NOT indexed").fetchall()
        for (manifest,) in rows:
            table = self.table(manifest)
            places = zip(table.frame, table.offset, table.size, strict=True)
            self._db.executemany(
                "INSERT OR IGNORE INTO blob VALUES (?, ?, ?, ?, ?)",
                ((table.hash(i), manifest, *place) for i, place in enumerate(places)),
            )
            self._db.execute("UPDATE blobs SET indexed = 1 WHERE manifest = ?", (manifest,))

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

    def used_bytes(self, excluding: set[str]) -> dict[str, float]:
        """Stored bytes of each pack that blobs of manifests use, those ``excluding`` left out.

        A frame counts by the share of its raw bytes that is used.
        """
        named: list[tuple[Any, ...]] = self._db.execute("SELECT id, ulid FROM manifest").fetchall()
        left_out = {row for row, ulid in named if ulid in excluding}
        raw: dict[tuple[str, int], dict[int, int]] = {}
        shape: dict[tuple[str, int], tuple[int, int]] = {}
        for manifest, pack, frame, stored, size, offset, length in self._db.execute(
            f"SELECT b.manifest, p.ulid, f.offset, f.stored, f.raw, b.offset, b.size{_PLACES}"
        ):
            if manifest not in left_out:
                raw.setdefault((pack, frame), {})[offset] = length
                shape[pack, frame] = (stored, size)
        total: dict[str, float] = defaultdict(float)
        for (pack, frame), blobs in raw.items():
            stored, size = shape[pack, frame]
            total[pack] += stored * min(1.0, sum(blobs.values()) / max(1, size))
        return total


def chunks(items: list[Any], size: int = 500) -> Iterator[list[Any]]:
    """Slices small enough for SQLite's limit on bound parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
