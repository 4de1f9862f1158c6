"""The catalog: a private SQLite index of the manifests this worker has read.

Invariant: it holds nothing that the store does not; deleting it loses nothing. Each group's rows
carry a checksum, and every blob is verified where it is used, so a damaged catalog is noticed and
rebuilt, never believed. It lies on the worker's own disk: SQLite rules out network filesystems
for WAL (sqlite.org/wal.html) and nothing here is shared.
"""

from __future__ import annotations

import json
import marshal
import os
import sqlite3
import threading
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from casinductor.store.frame import blake3_digest
from casinductor.store.manifest import BlobTable, Manifest
from casinductor.store.names import CacheId

SCHEMA_VERSION = 1
#: Manifests of up to this many stored bytes may be indexed in memory first.
_SMALL_BYTES = 2 << 20
_SCHEMA = """
CREATE TABLE manifest(id INTEGER PRIMARY KEY, gpu TEXT NOT NULL, key TEXT NOT NULL,
    ulid TEXT NOT NULL, created_ms INTEGER NOT NULL, root TEXT NOT NULL, producer TEXT NOT NULL,
    size INTEGER NOT NULL, UNIQUE(gpu, key, ulid));
CREATE TABLE replaced(manifest INTEGER NOT NULL, ulid TEXT NOT NULL,
    PRIMARY KEY(manifest, ulid)) WITHOUT ROWID;
CREATE TABLE requirement(manifest INTEGER NOT NULL, idx INTEGER NOT NULL, demands TEXT NOT NULL,
    PRIMARY KEY(manifest, idx)) WITHOUT ROWID;
CREATE TABLE pack(manifest INTEGER NOT NULL, idx INTEGER NOT NULL, ulid TEXT NOT NULL,
    size INTEGER NOT NULL, PRIMARY KEY(manifest, idx)) WITHOUT ROWID;
CREATE INDEX pack_ulid ON pack(ulid);
CREATE TABLE frame(manifest INTEGER NOT NULL, idx INTEGER NOT NULL, pack INTEGER NOT NULL,
    offset INTEGER NOT NULL, stored INTEGER NOT NULL, raw INTEGER NOT NULL,
    codec INTEGER NOT NULL, PRIMARY KEY(manifest, idx)) WITHOUT ROWID;
CREATE TABLE blobs(manifest INTEGER PRIMARY KEY, hashes BLOB NOT NULL, frame BLOB NOT NULL,
    offset BLOB NOT NULL, size BLOB NOT NULL, indexed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE blob(hash BLOB NOT NULL, manifest INTEGER NOT NULL, frame INTEGER NOT NULL,
    offset INTEGER NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY(hash, manifest)) WITHOUT ROWID;
CREATE INDEX blob_manifest ON blob(manifest);
CREATE TABLE grp(id INTEGER PRIMARY KEY, manifest INTEGER NOT NULL, gid TEXT NOT NULL,
    kind TEXT NOT NULL, rank INTEGER NOT NULL, origin TEXT NOT NULL, content BLOB NOT NULL,
    requires INTEGER NOT NULL, replaces BLOB NOT NULL, about TEXT NOT NULL,
    seal BLOB NOT NULL, needed_seal BLOB NOT NULL);
CREATE INDEX grp_manifest ON grp(manifest);
CREATE TABLE artifact(grp INTEGER NOT NULL, path TEXT NOT NULL, mode INTEGER NOT NULL,
    size INTEGER NOT NULL, hash BLOB NOT NULL, needed INTEGER NOT NULL, blobs BLOB NOT NULL,
    PRIMARY KEY(grp, path)) WITHOUT ROWID;
"""
_OF_MANIFEST = ("replaced", "requirement", "pack", "frame", "blobs", "blob", "grp")


class Catalog:
    """One store's catalog. Methods raise ``sqlite3.Error`` where the file is damaged; the caller
    then calls :meth:`discard` and starts over.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._saving: threading.Thread | None = None
        # A catalog that is not there yet begins in memory: a worker's start need not wait for it.
        self._unsaved = path is not None and not path.exists()
        self._connection = _connect(None if self._unsaved else path)
        # True once rows written by an earlier operation may be in use: only those can be stale.
        self.inherited = bool(self.db.execute("SELECT 1 FROM manifest LIMIT 1").fetchone())

    @property
    def db(self) -> sqlite3.Connection:
        return self._connection

    def settle(self, incoming: int) -> None:
        """Go to the file at once if so many bytes of manifests are coming that memory matters."""
        if self._unsaved and self._saving is None and incoming > _SMALL_BYTES:
            self._unsaved = False
            self._connection.close()
            self._connection = _connect(self.path)

    def save_meanwhile(self) -> None:
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
        self.save_meanwhile()
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
        _remove(self.path)
        self._connection = _connect(self.path)
        self.inherited = False

    def known(
        self, gpu: str | None = None, key: str | None = None
    ) -> dict[tuple[CacheId, str], tuple[int, int]]:
        """The manifests held of one cache, a GPU type or the store: (row id, size) by name."""
        rows = self.db.execute(
            "SELECT gpu, key, ulid, id, size FROM manifest"
            " WHERE (?1 IS NULL OR gpu = ?1) AND (?2 IS NULL OR key = ?2)",
            (gpu, key),
        )
        return {(CacheId(row[0], row[1]), row[2]): (row[3], row[4]) for row in rows}

    def add(self, manifest: Manifest, size: int) -> None:
        """Index one manifest of ``size`` stored bytes; adding it again changes nothing."""
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            self._insert(manifest, size)

    def blob_table(self, manifest: int) -> BlobTable:
        """A manifest's blobs by the index its artifacts use."""
        hashes, *columns = self.db.execute(
            "SELECT hashes, frame, offset, size FROM blobs WHERE manifest = ?", (manifest,)
        ).fetchone()
        return BlobTable(hashes, *(array("Q", column).tolist() for column in columns))

    def index_blobs(self) -> None:
        """Make every blob findable by its hash; restores alone never need that."""
        rows = self.db.execute("SELECT manifest FROM blobs WHERE NOT indexed").fetchall()
        if not rows:
            return
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            for (manifest,) in rows:
                table = self.blob_table(manifest)
                self.db.executemany(
                    "INSERT OR IGNORE INTO blob VALUES (?, ?, ?, ?, ?)",
                    (
                        (table.hash(i), manifest, *place)
                        for i, place in enumerate(
                            zip(table.frame, table.offset, table.size, strict=True)
                        )
                    ),
                )
                self.db.execute("UPDATE blobs SET indexed = 1 WHERE manifest = ?", (manifest,))

    def drop(self, row_ids: Iterable[int]) -> None:
        """Forget manifests that are gone from the store."""
        rows = [(row_id,) for row_id in row_ids]
        if not rows:
            return
        with self.db:
            self.db.executemany(
                "DELETE FROM artifact WHERE grp IN (SELECT id FROM grp WHERE manifest = ?)", rows
            )
            for table in _OF_MANIFEST:
                self.db.executemany(f"DELETE FROM {table} WHERE manifest = ?", rows)
            self.db.executemany("DELETE FROM manifest WHERE id = ?", rows)

    def forget(self, ulid: str) -> None:
        """Drop a manifest of this name, so that the next refresh reads it again."""
        rows = self.db.execute("SELECT id FROM manifest WHERE ulid = ?", (ulid,)).fetchall()
        self.drop(row for (row,) in rows)

    def _insert(self, manifest: Manifest, size: int) -> None:
        execute, many = self.db.execute, self.db.executemany
        cursor = execute(
            "INSERT OR IGNORE INTO manifest(gpu, key, ulid, created_ms, root, producer, size)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                manifest.gpu,
                manifest.key,
                manifest.ulid,
                manifest.created_ms,
                manifest.root,
                json.dumps(manifest.producer),
                size,
            ),
        )
        if cursor.rowcount != 1:
            return
        row = cursor.lastrowid
        many("INSERT OR IGNORE INTO replaced VALUES (?, ?)", ((row, u) for u in manifest.replaced))
        many(
            "INSERT INTO requirement VALUES (?, ?, ?)",
            ((row, i, json.dumps(d, sort_keys=True)) for i, d in enumerate(manifest.requirements)),
        )
        many(
            "INSERT INTO pack VALUES (?, ?, ?, ?)",
            ((row, i, p.ulid, p.size) for i, p in enumerate(manifest.packs)),
        )
        many(
            "INSERT INTO frame VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (row, i, f.pack, f.offset, f.stored, f.raw, f.codec)
                for i, f in enumerate(manifest.frames)
            ),
        )
        table = manifest.blobs
        columns = (array("Q", c).tobytes() for c in (table.frame, table.offset, table.size))
        execute("INSERT INTO blobs VALUES (?, ?, ?, ?, ?, 0)", (row, table.hashes, *columns))
        self._insert_groups(manifest, row)

    def _insert_groups(self, manifest: Manifest, manifest_row: int | None) -> None:
        (next_id,) = self.db.execute("SELECT COALESCE(MAX(id), 0) + 1 FROM grp").fetchone()
        group_rows, artifact_rows = [], []
        for row, group in enumerate(manifest.groups, next_id):
            artifacts = sorted(
                (
                    row,
                    a.path,
                    a.mode,
                    a.size,
                    a.hash or manifest.blobs.hash(a.blobs[0]),
                    int(a.needed),
                    array("I", a.blobs).tobytes(),
                )
                for a in group.artifacts
            )
            artifact_rows += artifacts
            group_rows.append(
                (
                    row,
                    manifest_row,
                    group.id,
                    group.kind,
                    group.rank,
                    group.origin,
                    group.content,
                    group.requires,
                    b"".join(group.replaces),
                    json.dumps(group.about),
                    row_seal([artifact[1:] for artifact in artifacts]),
                    row_seal([artifact[1:] for artifact in artifacts if artifact[5]]),
                )
            )
        self.db.executemany(f"INSERT INTO grp VALUES ({','.join('?' * 12)})", group_rows)
        self.db.executemany(
            "INSERT OR REPLACE INTO artifact VALUES (?, ?, ?, ?, ?, ?, ?)", artifact_rows
        )


def row_seal(artifacts: list[tuple[Any, ...]]) -> bytes:
    """A checksum over a group's artifact rows, without their group id."""
    return blake3_digest(marshal.dumps(artifacts, 2))[:16]


def chunks(items: list[Any], size: int = 500) -> Iterator[list[Any]]:
    """Slices small enough for SQLite's limit on bound parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


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


def _connect(path: Path | None) -> sqlite3.Connection:
    """Open or create; a file that is no catalog of this version is replaced, one that cannot be
    opened at all is left alone in favour of one in memory.
    """
    for attempt in range(2):
        try:
            return _prepare(":memory:" if path is None else str(path))
        except sqlite3.Error:
            if attempt == 0:
                _remove(path)
    return _prepare(":memory:")


def _prepare(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        # A power cut may damage the file, which is noticed and costs a rebuild; so no fsync.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    for statement in _SCHEMA.split(";")[:-1]:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                    version = SCHEMA_VERSION
        if version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"schema version {version}")
        connection.execute("SELECT COUNT(*) FROM manifest").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _remove(path: Path | None) -> None:
    if path is None:
        return
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            os.unlink(f"{path}{suffix}")
