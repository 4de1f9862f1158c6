"""Writes a store's whole catalog, with what its bytes tell, as one SQLite file.

Invariant: the file appears whole or not at all, and holds no path or address of this machine but
the store's; each row stands for something that the store has.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from casinductor import __version__
from casinductor.errors import LocalDirectory
from casinductor.inductor.components import unpack
from casinductor.inspect.facts import Facts
from casinductor.inspect.schema import TABLES, VERSION
from casinductor.inspect.tables import GRAPH_KINDS, GraphRow, graph_row, kernel_rows
from casinductor.inspect.view import Item, View, look_at
from casinductor.reports.warmup import from_record
from casinductor.store.format.frame import Codec
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import ulid_ms
from casinductor.store.index.groups import File
from casinductor.store.index.manifests import Origin
from casinductor.store.index.union import removed, versions
from casinductor.store.read.files import Tables
from casinductor.store.store import Store
from casinductor.store.uses import marks_of_use
from casinductor.store.write.journal import records

Row = tuple[Any, ...]


@dataclass
class Exported:
    """Where the file is, and rows by table."""

    path: str
    rows: dict[str, int] = field(default_factory=dict)
    bytes: int = 0


def export(store: Store, facts: Facts, target: Path) -> Exported:
    """Write the catalog to ``target``; an earlier export there is replaced.

    Raises :class:`LocalDirectory` where the file cannot be written or is something else.
    """
    _check_target(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with closing(sqlite3.connect(temporary)) as db:
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("PRAGMA synchronous = OFF")
            db.executescript(TABLES)
            with db:
                _Export(store, facts, db).run()
            db.execute(f"PRAGMA user_version = {VERSION}")
            names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            rows = {n: db.execute(f"SELECT COUNT(*) FROM {n}").fetchone()[0] for (n,) in names}
        os.replace(temporary, target)
    except (OSError, sqlite3.Error) as error:
        raise LocalDirectory(f"cannot write {target}: {error}") from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    return Exported(str(target), dict(sorted(rows.items())), target.stat().st_size)


def _check_target(target: Path) -> None:
    """Refuse to replace a file that is no earlier export."""
    if not target.exists():
        return
    try:
        with closing(sqlite3.connect(f"file:{target}?mode=ro", uri=True)) as db:
            db.execute("SELECT casinductor FROM store").fetchone()
    except sqlite3.Error as error:
        raise LocalDirectory(
            f"{target} is there and no earlier export; it is left alone"
        ) from error


class _Export:
    """One export; use once."""

    def __init__(self, store: Store, facts: Facts, db: sqlite3.Connection) -> None:
        self.store = store
        self.facts = facts
        self.db = db
        self.blobs: dict[bytes, int] = {}
        self.components: dict[tuple[str, str], int] = {}
        self.groups = 0

    def run(self) -> None:
        store = self.store
        now = time.time_ns() // 1_000_000
        self._put("store", [(store.backend.url, now, __version__)])
        store.refresh().log()
        store.catalog.index_blobs()
        self._put("packs", ((u, size, ulid_ms(u)) for u, size in store.packs().items()))
        self._blobs()
        days = marks_of_use(store)
        caches = store.catalog.manifests.caches()
        for number, cache in enumerate(caches, 1):
            store.watch("writing caches", number, len(caches), "caches")
            self._put("caches", [(number, cache.gpu, cache.key)])
            self._put("uses", ((number, day) for day in sorted(days.get(cache, ()))))
            self._manifests(number, cache)
            view = look_at(store, self.facts, cache, runs=0, fresh=False)
            self._warmups(number, cache, view)
            self._contents(number, view)

    def _put(self, table: str, rows: Iterable[Row]) -> None:
        pending = iter(rows)
        first = next(pending, None)
        if first is not None:
            marks = ",".join("?" * len(first))
            insert = f"INSERT OR IGNORE INTO {table} VALUES ({marks})"
            self.db.execute(insert, first)
            self.db.executemany(insert, pending)

    def _blobs(self) -> None:
        catalog = self.store.catalog
        for number, (digest, size) in enumerate(catalog.blobs.distinct(), 1):
            self.blobs[digest] = number
            self._put("blobs", [(number, digest.hex(), size)])
        self._put(
            "blob_places",
            (
                (self.blobs[p.hash], *p[1:5], Codec(p.codec).name.lower(), p.offset)
                for p in catalog.blobs.places()
            ),
        )

    def _manifests(self, number: int, cache: CacheId) -> None:
        hidden = removed(self.store.catalog, cache)
        origins = self.store.catalog.manifests.origins(cache)
        self._put("manifests", (self._manifest(number, made, hidden) for made in origins))

    @staticmethod
    def _manifest(number: int, origin: Origin, hidden: set[str]) -> Row:
        ulid, created, root, text, size, signer = origin
        told = json.loads(text)
        told = told if isinstance(told, dict) else {}
        fingerprint = told.get("fingerprint")
        torch = fingerprint.get("torch") if isinstance(fingerprint, dict) else None
        host, gone = told.get("host"), int(ulid in hidden)
        return ulid, number, created, host, torch, root, size, gone, signer or None

    def _contents(self, number: int, view: View) -> None:
        """The groups of a cache, the artifacts in them, and what their bytes tell."""
        members = self.store.catalog.groups.files(item.version for item in view.items)
        tables = Tables(self.store.catalog)
        ids: dict[tuple[str, str, bytes], int] = {}
        for item in view.items:
            self.groups += 1
            version = item.version
            ids[version.id, version.demands, version.content] = self.groups
            self._group(number, self.groups, item)
            for file in members[version.row]:
                table, _ = tables.read(file.manifest)
                self._artifact(self.groups, file, [table.hash(i) for i in file.blobs])
        self._put(
            "manifest_groups",
            (
                (v.published, ids[v.id, v.demands, v.content])
                for v in versions(self.store.catalog, view.cache)
                if (v.id, v.demands, v.content) in ids
            ),
        )
        self._kernels(number, view)

    def _group(self, number: int, row: int, item: Item) -> None:
        version = item.version
        self._put(
            "groups",
            [
                (
                    row,
                    number,
                    version.id,
                    version.kind,
                    version.content.hex(),
                    version.origin,
                    item.made_ms,
                    version.demands,
                    item.files,
                    item.bytes,
                    item.restored,
                    item.used,
                )
            ],
        )
        if version.kind in GRAPH_KINDS:
            self._graph(row, graph_row(item), version.content)

    def _artifact(self, group: int, file: File, hashes: list[bytes]) -> None:
        cursor = self.db.execute(
            "INSERT INTO artifacts VALUES (NULL, ?, ?, ?, ?, ?, ?)",
            (group, file.path, file.mode, file.size, file.hash.hex(), int(file.needed)),
        )
        row = cursor.lastrowid
        self._put("artifact_blobs", ((row, i, self.blobs[d]) for i, d in enumerate(hashes)))

    def _graph(self, group: int, row: GraphRow, content: bytes) -> None:
        self._put(
            "graphs",
            [
                (
                    group,
                    row.key,
                    row.kind,
                    row.guards,
                    row.seconds,
                    row.kernels,
                    row.inputs,
                    row.device,
                    row.opaque or None,
                    row.title or None,
                )
            ],
        )
        self._put("graph_graphs", ((group, key) for key in row.graphs))
        self._put("graph_components", self._components(group, content))

    def _components(self, group: int, content: bytes) -> Iterator[Row]:
        for part in unpack(self.facts.parts(content)):
            known = self.components.get((part.name, part.digest))
            if known is None:
                known = self.components[part.name, part.digest] = len(self.components) + 1
                self._put("components", [(known, part.name, part.digest, part.value)])
            yield group, known

    def _kernels(self, number: int, view: View) -> None:
        for row in kernel_rows(view, self.facts):
            cursor = self.db.execute(
                "INSERT INTO kernels VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
                " ?, ?)",
                (
                    number,
                    row.name,
                    row.kind,
                    row.hash,
                    row.target,
                    row.warps,
                    row.stages,
                    row.shared,
                    row.registers,
                    row.stack_bytes,
                    row.bytes,
                    row.variants,
                    row.chosen,
                    json.dumps(row.config),
                    row.module,
                    row.restored,
                    row.used,
                    row.opaque or None,
                ),
            )
            kernel = cursor.lastrowid
            self._put("graph_kernels", ((key, kernel) for key in row.graphs))

    def _warmups(self, number: int, cache: CacheId, view: View) -> None:
        noted = records(self.store, cache, read=self.facts.record)
        view.note(noted)
        for record in noted:
            run = from_record(record.fields)
            if run is None:
                continue
            counts = [
                run.graphs.get(f"{kind}_{status}", 0)
                for kind in GRAPH_KINDS
                for status in ("hit", "miss", "bypass")
            ]
            told = (run.kernels_built, len(run.rebuilt), run.tuned, run.files_restored)
            times = (run.files_used, run.saved_seconds, run.spent_seconds)
            host = run.worker.get("host")
            head = (record.ulid, number, host, run.started_ms, run.seconds, run.manifest)
            self._put("warmups", [(*head, *counts, *told, *times)])
            self._put(
                "warmup_graphs",
                (
                    (record.ulid, i, h.cache, h.status, h.key, h.detail, h.guard, h.reason)
                    for i, h in enumerate(run.happened)
                ),
            )
            self._put("warmup_rebuilt", ((record.ulid, r.path, r.kind, r.why) for r in run.rebuilt))
