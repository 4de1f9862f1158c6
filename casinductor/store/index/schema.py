"""The tables of a catalog and the file that holds them.

Invariant: a file that is no catalog of this schema is replaced by an empty one, and row ids are
never used twice, so a row that another process dropped is missed, never mistaken for another. The
file lies on the worker's own disk: SQLite rules out network filesystems for WAL
(sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

SCHEMA_VERSION = 5
#: Seconds to wait for another process that is writing.
_BUSY_SECONDS = 10
_SCHEMA = """
CREATE TABLE store(id TEXT NOT NULL);
CREATE TABLE manifest(id INTEGER PRIMARY KEY AUTOINCREMENT, gpu TEXT NOT NULL, key TEXT NOT NULL,
    ulid TEXT NOT NULL, created_ms INTEGER NOT NULL, root TEXT NOT NULL, producer TEXT NOT NULL,
    size INTEGER NOT NULL, signer TEXT NOT NULL, indexed INTEGER NOT NULL DEFAULT 0,
    UNIQUE(gpu, key, ulid));
CREATE TABLE untrusted(gpu TEXT NOT NULL, key TEXT NOT NULL, ulid TEXT NOT NULL,
    size INTEGER NOT NULL, reason TEXT NOT NULL, packs TEXT NOT NULL,
    PRIMARY KEY(gpu, key, ulid)) WITHOUT ROWID;
CREATE TABLE hiding(manifest INTEGER NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY(manifest, content)) WITHOUT ROWID;
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
    offset BLOB NOT NULL, size BLOB NOT NULL);
CREATE TABLE blob(hash BLOB NOT NULL, manifest INTEGER NOT NULL, frame INTEGER NOT NULL,
    offset INTEGER NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY(hash, manifest)) WITHOUT ROWID;
CREATE TABLE grp(id INTEGER PRIMARY KEY AUTOINCREMENT, manifest INTEGER NOT NULL,
    gid TEXT NOT NULL, kind TEXT NOT NULL, rank INTEGER NOT NULL, origin TEXT NOT NULL,
    content BLOB NOT NULL, requires INTEGER NOT NULL, replaces BLOB NOT NULL, about TEXT NOT NULL,
    files INTEGER NOT NULL, bytes INTEGER NOT NULL, artifacts BLOB NOT NULL, seal BLOB NOT NULL);
CREATE INDEX grp_manifest ON grp(manifest);
"""
#: The tables whose rows name their manifest and are found by it; those of ``blob`` by their hash.
OF_MANIFEST = ("replaced", "hiding", "requirement", "pack", "frame", "blobs", "grp")


def connect(path: Path | None) -> sqlite3.Connection:
    """Open or create; None, or a file that cannot be opened at all, means one in memory."""
    for attempt in range(2):
        try:
            return _prepare(":memory:" if path is None else str(path))
        except sqlite3.Error:
            if attempt == 0:
                remove(path)
    return _prepare(":memory:")


def _prepare(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        # A power cut may damage the file, which is noticed and costs a rebuild; so no fsync.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            version = _create(connection)
        if version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"schema version {version}")
        connection.execute("SELECT COUNT(*) FROM manifest").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _create(connection: sqlite3.Connection) -> int:
    """Make the tables, unless another process did just now; the version that is there."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version:
            return int(version)
        for statement in _SCHEMA.split(";")[:-1]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return SCHEMA_VERSION


def remove(path: Path | None) -> None:
    """Delete a catalog's files."""
    if path is None:
        return
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            os.unlink(f"{path}{suffix}")
