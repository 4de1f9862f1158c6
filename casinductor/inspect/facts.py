"""What groups' bytes and records say, remembered on this machine.

Invariant: facts are a function of a group's bytes alone, so they are never stale; losing the file
costs reading the groups again. The database is private, as the catalog is.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from casinductor.errors import CasinductorError
from casinductor.families.place import ENTRY_KINDS, Kind, entry_key
from casinductor.inductor.components import pack
from casinductor.inductor.description import Description, describe, kernel_name
from casinductor.inductor.kernels import TELLING, triton_kernel, tuning
from casinductor.inductor.titles import graph_title
from casinductor.store.format.frame import blake3_digest
from casinductor.store.format.names import CacheId
from casinductor.store.index.blobs import chunks
from casinductor.store.index.groups import File, Version
from casinductor.store.parallel import map_parallel
from casinductor.store.read.files import read_files
from casinductor.store.store import Store
from casinductor.store.write.journal import MAX_BYTES, Record, decode_record
from casinductor.util.remembered import open_remembered

#: Raised when facts are learnt otherwise, so that old ones are learnt again.
_VERSION = 3
#: Where vLLM writes what its key was made of.
_FACTORS = "cache_key_factors.json"
_TOLD = (*ENTRY_KINDS, *(k.value for k in (Kind.TRITON, Kind.TUNING, Kind.CPP, Kind.INDEX)))
_MAX_SOURCE = 16 << 20
#: Larger entries are opaque.
MAX_ENTRY = 512 << 20
_BATCH_BYTES = 64 << 20

Fact = dict[str, Any]


class Facts:
    """The memory; ``path`` None remembers nothing beyond this object."""

    def __init__(self, path: Path | None) -> None:
        self._db = open_remembered(path, _prepare)

    def close(self) -> None:
        self._db.close()

    def of(self, store: Store, versions: Iterable[Version]) -> dict[bytes, Fact]:
        """The facts of groups by content; those that are not known are read from the store.

        Groups that cannot be read have ``opaque``, the reason, and are asked for again next time.
        """
        wanted = {v.content: v for v in versions if v.kind in _TOLD}
        known = self._known(wanted)
        lacking = [version for content, version in wanted.items() if content not in known]
        if lacking:
            known.update(self._learn(store, lacking))
        return known

    def record(self, store: Store, cache: CacheId, ulid: str) -> Record:
        """A warm-up record, read from the store once. Raises as :func:`read_record` does."""
        if known := self._remembered([(cache, ulid)]):
            return known[ulid]
        found, data = _fetch(store, cache, ulid)
        self._remember({ulid: data})
        return found

    def records(self, store: Store, wanted: Iterable[tuple[CacheId, str]]) -> list[Record]:
        """As :meth:`record`, of many at once; those that cannot be read are left out."""
        named = list(wanted)
        known = self._remembered(named)

        def fetch(one: tuple[CacheId, str]) -> tuple[Record, bytes] | None:
            with suppress(CasinductorError):
                return _fetch(store, *one)
            return None

        lacking = [one for one in named if one[1] not in known]
        fetched = [got for got in map_parallel(fetch, lacking, store.backend.parallel) if got]
        self._remember({record.ulid: data for record, data in fetched})
        return [*known.values(), *(record for record, _ in fetched)]

    def _remembered(self, wanted: Iterable[tuple[CacheId, str]]) -> dict[str, Record]:
        owners = {ulid: cache for cache, ulid in wanted}
        found = {}
        for some in chunks(list(owners)):
            marks = ",".join("?" * len(some))
            with suppress(sqlite3.Error):
                for ulid, data in self._db.execute(
                    f"SELECT ulid, data FROM record WHERE ulid IN ({marks})", some
                ):
                    with suppress(CasinductorError):
                        found[ulid] = decode_record(data, owners[ulid], ulid, "remembered")
        return found

    def _remember(self, records: dict[str, bytes]) -> None:
        with suppress(sqlite3.Error), self._db:
            self._db.executemany("INSERT OR REPLACE INTO record VALUES (?, ?)", records.items())

    def parts(self, content: bytes) -> bytes | None:
        """The packed components of an entry, or the compressed source of a C++ kernel."""
        row = self._db.execute("SELECT parts FROM fact WHERE content = ?", (content,)).fetchone()
        return row[0] if row else None

    def _known(self, wanted: Iterable[bytes]) -> dict[bytes, Fact]:
        found: dict[bytes, Fact] = {}
        for some in chunks(list(wanted)):
            marks = ",".join("?" * len(some))
            rows = self._db.execute(
                f"SELECT content, told FROM fact WHERE content IN ({marks})", some
            )
            found.update((content, json.loads(told)) for content, told in rows)
        return found

    def _learn(self, store: Store, lacking: list[Version]) -> dict[bytes, Fact]:
        learnt: dict[bytes, Fact] = {}
        members = store.catalog.groups.files(lacking)
        batch: list[Version] = []
        size = 0
        for number, version in enumerate(lacking):
            store.watch("reading entries", number, len(lacking), "groups")
            batch.append(version)
            size += sum(f.size for f in members[version.row] if _tells(version, f))
            if size >= _BATCH_BYTES:
                learnt.update(self._learn_some(store, batch, members))
                batch, size = [], 0
        return {**learnt, **self._learn_some(store, batch, members)}

    def _learn_some(
        self, store: Store, lacking: list[Version], members: dict[int, list[File]]
    ) -> dict[bytes, Fact]:
        telling = [f for v in lacking for f in members[v.row] if _tells(v, f)]
        read = {
            (file.manifest, file.path, file.hash): data for file, data in read_files(store, telling)
        }
        learnt: dict[bytes, Fact] = {}
        rows = []
        for version in lacking:
            own = members[version.row]
            names = {f.path: (f.manifest, f.path, f.hash) for f in own}
            got = {path: read[name] for path, name in names.items() if name in read}
            if any(data is None for data in got.values()):
                learnt[version.content] = {"opaque": "its blobs are missing or damaged"}
                continue
            whole = {path: data for path, data in got.items() if data is not None}
            told, parts = _told(version, own, whole)
            learnt[version.content] = told
            rows.append((version.content, version.kind, json.dumps(told), parts))
        with suppress(sqlite3.Error), self._db:
            self._db.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?, ?, ?)", rows)
        return learnt


def _fetch(store: Store, cache: CacheId, ulid: str) -> tuple[Record, bytes]:
    """A record and its stored bytes."""
    name = cache.warmup(ulid)
    data = store.backend.get(name, MAX_BYTES)
    return decode_record(data, cache, ulid, f"{store.backend.url}/{name}"), data


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA synchronous = OFF")
    if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        db.execute("DROP TABLE IF EXISTS fact")
        db.execute("DROP TABLE IF EXISTS record")
        db.execute(f"PRAGMA user_version = {_VERSION}")
    db.execute(
        "CREATE TABLE IF NOT EXISTS fact(content BLOB PRIMARY KEY, kind TEXT NOT NULL,"
        " told TEXT NOT NULL, parts BLOB)"
    )
    db.execute("CREATE TABLE IF NOT EXISTS record(ulid TEXT PRIMARY KEY, data BLOB)")
    db.execute("SELECT COUNT(*) FROM fact").fetchone()


def _tells(version: Version, file: File) -> bool:
    """Whether a file is read; a size that a manifest announces must not take the memory."""
    if version.kind in ENTRY_KINDS:
        return file.size <= MAX_ENTRY
    if file.size > _MAX_SOURCE:
        return False
    if version.kind == Kind.TRITON.value:
        name = file.path.rpartition("/")[2]
        return name.endswith(TELLING) and not name.startswith("__grp__")
    if version.kind == Kind.CPP.value:
        return file.path.endswith(".cpp")
    if version.kind == Kind.INDEX.value:
        return file.path.endswith(_FACTORS)
    return version.kind in _TOLD


def _told(version: Version, own: list[File], data: dict[str, bytes]) -> tuple[Fact, bytes | None]:
    """The facts of one group and what is kept beside them."""
    if version.kind in ENTRY_KINDS:
        for path, entry in data.items():
            description = describe(version.kind, entry_key(path), entry)
            return _of_entry(description, len(entry)), pack(description.components)
    if version.kind == Kind.TRITON.value:
        named = {path.rpartition("/")[2]: content for path, content in data.items()}
        sizes = {file.path.rpartition("/")[2]: file.size for file in own}
        return triton_kernel(named, sizes).as_dict(), None
    if version.kind == Kind.TUNING.value:
        for result in data.values():
            return tuning(result).as_dict(), None
    if version.kind == Kind.CPP.value:
        source = b"".join(data.values()).strip()
        libraries = sum(file.size for file in own if file.path.endswith(".so"))
        told = {"library": libraries, "source": blake3_digest(source).hex() if source else ""}
        return told, zlib.compress(source, 1) if source else None
    if version.kind == Kind.INDEX.value:
        return {"factors": _object(*data.values())}, None
    return {"opaque": "it holds nothing that is read, or is too large"}, None


def _object(*texts: bytes) -> dict[str, object]:
    """The JSON object in the first text, empty for anything else."""
    try:
        found = json.loads(texts[0]) if texts else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_entry(found: Description, size: int) -> Fact:
    entry = found.entry
    return {
        "key": entry.key,
        "size": size,
        "guards": entry.guards,
        "opaque": entry.reason,
        "title": graph_title(
            found.source or "", "".join(c.value for c in found.components if c.name == "gm")
        ),
        "compile_ns": entry.compile_ns,
        "device": entry.device,
        "compiles_cpp": entry.compiles_cpp,
        "fx_keys": entry.fx_keys,
        "module": found.module,
        "inputs": len({c.name for c in found.components if c.name.startswith("example_inputs")}),
        "components": len(found.components),
        "bundle": {name: kernel_name(spans) for name, spans in found.bundle.items()},
        "cpp": [
            [name, len(block.encode()), blake3_digest(block.encode()).hex()]
            for name, block in found.cpp.items()
        ],
    }


def cpp_source(parts: bytes | None) -> bytes:
    """A C++ kernel's source as :class:`Facts` keeps it; empty for bad bytes."""
    try:
        return zlib.decompressobj().decompress(parts or b"", _MAX_SOURCE)
    except zlib.error:
        return b""
