"""Writes one manifest into the tables of a catalog.

Invariant: a manifest is in the tables as a whole, each of its groups sealed by a checksum over its
artifacts, which stand encoded in the group's row: nothing is asked of one alone.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from typing import Any

import msgspec

from casinductor.store.format.frame import blake3_digest
from casinductor.store.format.manifest import Group, Manifest

Row = tuple[Any, ...]
_ENCODER = msgspec.msgpack.Encoder()


def insert_manifest(db: sqlite3.Connection, manifest: Manifest, size: int, signer: str) -> None:
    """Insert a manifest of ``size`` stored bytes that ``signer`` signed, in the caller's
    transaction; one that is there already is left as it is.
    """
    cursor = db.execute(
        "INSERT OR IGNORE INTO manifest(gpu, key, ulid, created_ms, root, producer, size, signer)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            manifest.gpu,
            manifest.key,
            manifest.ulid,
            manifest.created_ms,
            manifest.root,
            json.dumps(manifest.producer),
            size,
            signer,
        ),
    )
    if cursor.rowcount == 1 and cursor.lastrowid is not None:
        _insert_tables(db, manifest, cursor.lastrowid)
        _insert_groups(db, manifest, cursor.lastrowid)


def _insert_tables(db: sqlite3.Connection, manifest: Manifest, row: int) -> None:
    many = db.executemany
    many("INSERT OR IGNORE INTO replaced VALUES (?, ?)", ((row, u) for u in manifest.replaced))
    many("INSERT OR IGNORE INTO hiding VALUES (?, ?)", ((row, c) for c in manifest.hides))
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
    db.execute("INSERT INTO blobs VALUES (?, ?, ?, ?, ?)", (row, table.hashes, *columns))


def _insert_groups(db: sqlite3.Connection, manifest: Manifest, manifest_row: int) -> None:
    rows = [
        _group_row(row, manifest_row, group)
        for row, group in enumerate(manifest.groups, _next_group(db))
    ]
    db.executemany(f"INSERT INTO grp VALUES ({','.join('?' * 14)})", rows)


def _next_group(db: sqlite3.Connection) -> int:
    """A row id that no group ever had (sqlite.org/autoinc.html)."""
    found = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'grp'").fetchone()
    return int(found[0]) + 1 if found else 1


def _group_row(row: int, manifest: int, group: Group) -> Row:
    by_path = {artifact.path: artifact for artifact in group.artifacts}
    artifacts = [by_path[path] for path in sorted(by_path)]
    encoded = _ENCODER.encode(artifacts)
    return (
        row,
        manifest,
        group.id,
        group.kind,
        group.rank,
        group.origin,
        group.content,
        group.requires,
        b"".join(group.replaces),
        json.dumps(group.about) if group.about else "{}",
        len(artifacts),
        sum([artifact.size for artifact in artifacts]),
        encoded,
        seal_of(encoded),
    )


def seal_of(artifacts: bytes) -> bytes:
    """A checksum of 16 bytes over a group's encoded artifacts."""
    return blake3_digest(artifacts)[:16]
