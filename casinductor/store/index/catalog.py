"""The catalog: a private SQLite index of the manifests this worker has read.

Invariant: it holds nothing that the store does not; deleting it loses nothing. Each group's rows
carry a checksum, and every blob is verified where it is used, so a damaged catalog is noticed and
rebuilt, never believed. Processes of one machine may share it: writes are transactions, and what a
reader resolves within :meth:`Catalog.reading` is one state of it. All SQL is in this folder.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from casinductor.store.format.frame import blake3_digest
from casinductor.store.format.manifest import Manifest
from casinductor.store.format.names import CacheId
from casinductor.store.index.blobs import Blobs
from casinductor.store.index.figures import CatalogFigures
from casinductor.store.index.foreign import Foreign
from casinductor.store.index.groups import Groups
from casinductor.store.index.insertion import insert_manifest
from casinductor.store.index.manifests import ManifestId, Manifests
from casinductor.store.index.packs import Packs
from casinductor.store.index.places import Placed, Unusable
from casinductor.store.index.schema import OF_MANIFEST, connect, remove

#: Manifests of up to this many stored bytes may be indexed in memory first.
_SMALL_BYTES = 2 << 20


class Catalog:
    """One store's catalog. Methods raise ``sqlite3.Error`` where the file is damaged; the caller
    then calls :meth:`discard` and starts over.

    ``manifests``, ``packs``, ``blobs``, ``groups`` and ``figures`` answer questions; ``foreign`` is
    what is not believed, of which nothing stands in the others.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._saving: threading.Thread | None = None
        # A catalog that is not there yet begins in memory: a worker's start need not wait for it.
        self._unsaved = path is not None and not path.exists()
        self._use(connect(None if self._unsaved else path))
        # True once rows written by an earlier operation may be in use: only those can be stale.
        self.loaded_from_disk = self.manifests.any()

    def _use(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.manifests = Manifests(connection)
        self.foreign = Foreign(connection)
        self.packs = Packs(connection)
        self.blobs = Blobs(connection)
        self.groups = Groups(connection)
        self.figures = CatalogFigures(connection, self.manifests, self.blobs)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One state of the catalog for all that the block asks, whatever other processes write.

        Blocks may nest; nothing may be written within one, and blobs that another process added
        since :meth:`index_blobs` cannot be located by hash.
        """
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):  # what ended the block is the error to tell
                self._connection.execute("COMMIT")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the lock for writing before it reads anything."""
        if self._connection.in_transaction:
            raise RuntimeError("the catalog is written while it is being read")
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection

    def add(self, manifest: Manifest, size: int, signer: str = "") -> None:
        """Index one manifest of ``size`` stored bytes; adding it again changes nothing. ``signer``:
        the name of the key that was verified, if any was asked for.
        """
        with self._writing() as db:
            insert_manifest(db, manifest, size, signer)

    def add_foreign(self, name: ManifestId, size: int, reason: str, packs: Iterable[str]) -> None:
        """Note a manifest that is not believed, and the packs that it names."""
        with self._writing():
            self.foreign.add(name, size, reason, packs)

    def forget_foreign(self, gone: Iterable[ManifestId]) -> None:
        """Forget manifests, not believed, that are gone from the store."""
        names = list(gone)
        if names:
            with self._writing():
                self.foreign.drop(names)

    def drop(self, row_ids: Iterable[int]) -> None:
        """Forget manifests that are gone from the store."""
        rows = [(row_id,) for row_id in row_ids]
        if not rows:
            return
        with self._writing() as db:
            self.blobs.forget({row for (row,) in rows})
            for table in OF_MANIFEST:
                db.executemany(f"DELETE FROM {table} WHERE manifest = ?", rows)
            db.executemany("DELETE FROM manifest WHERE id = ?", rows)

    def claim(self, store: str) -> None:
        """Belong to the store of this id (FORMAT's; "" while there is none); what was read of
        another one that lay at the same address before is dropped.
        """
        row = self._connection.execute("SELECT id FROM store").fetchone()
        if row is not None and row[0] == store:
            return
        if row is not None:
            self.drop(known.row for known in self.manifests.known().values())
            self.forget_foreign(self.foreign.known())
        with self._writing() as db:
            db.execute("DELETE FROM store")
            db.execute("INSERT INTO store VALUES (?)", (store,))

    def forget(self, ulid: str) -> None:
        """Drop a manifest of this name, so that the next refresh reads it again."""
        self.drop(self.manifests.rows_named(ulid))

    def index_blobs(self) -> None:
        """Make every blob findable by its hash; restores alone never need that."""
        if not self.blobs.lacking_index():
            return
        with self._writing():
            self.blobs.index()

    def locate(
        self,
        hashes: Iterable[bytes],
        unusable: Unusable,
        gpu: str | None = None,
        only: set[str] | None = None,
    ) -> dict[bytes, Placed]:
        """A usable place of each blob that the catalog knows, of one GPU type or of any; with
        ``only``, in no other packs than those.
        """
        wanted = list(hashes)
        if wanted and not self._connection.in_transaction:
            self.index_blobs()
        return self.blobs.locate(wanted, unusable, gpu, only)

    def stored_bytes(self, cache: CacheId) -> int:
        """Bytes of a cache's manifests and of the packs that they name, shared ones in full."""
        with self.reading():
            packs = self.packs.of_cache(cache)
            return self.manifests.bytes(cache) + sum(pack.size for pack in packs)

    def open_file_if_large(self, incoming: int) -> None:
        """Go to the file at once if so many bytes of manifests are coming that memory matters."""
        if self._unsaved and self._saving is None and incoming > _SMALL_BYTES:
            self._unsaved = False
            self._connection.close()
            self._use(connect(self.path))

    def save_in_background(self) -> None:
        """Begin to write a catalog that is in memory to its file, beside other work."""
        if self._unsaved and self._saving is None:
            self._saving = threading.Thread(target=self._save, name="casinductor-save")
            self._saving.start()

    def _save(self) -> None:
        """Write to a name of its own and link; another process may have been faster."""
        if self.path is None:
            return
        temporary = f"{self.path}.{os.getpid()}-{id(self):x}.new"
        with suppress(OSError, sqlite3.Error):
            target = sqlite3.connect(temporary)
            try:
                target.execute("PRAGMA synchronous = OFF")
                self._connection.backup(target)
            finally:
                target.close()
            os.link(temporary, self.path)
        with suppress(OSError):
            os.unlink(temporary)

    def close(self) -> None:
        self.save_in_background()
        if self._saving is not None:
            self._saving.join()
        self._connection.close()

    def discard(self) -> None:
        """Throw everything away and begin empty."""
        if self._saving is not None:
            self._saving.join()
        self._unsaved = False
        with suppress(sqlite3.Error):
            self._connection.close()
        remove(self.path)
        self._use(connect(self.path))
        self.loaded_from_disk = False


def catalog_path(state_dir: Path, url: str) -> Path | None:
    """Where the catalog of the store at ``url`` lies; None where no private place can be had."""
    folder = state_dir / "catalogs"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = os.lstat(state_dir)
    except OSError:
        return None
    if owner.st_uid != os.getuid() or owner.st_mode & 0o022 or not os.path.isdir(folder):
        return None
    return folder / f"{blake3_digest(url.encode()).hex()[:32]}.db"
