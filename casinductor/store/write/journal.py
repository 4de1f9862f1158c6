"""The journal: one immutable record for each warm-up of a cache, beside the sync it belongs to.

Invariant: records are told by workers and believed by nobody who deletes; one that cannot be read
is passed over. What a record says is not this module's matter. Format: ``docs/format.md``,
"Warm-ups".
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from casinductor.deadline import Deadline, bounded
from casinductor.errors import CasinductorError, Damaged
from casinductor.store.backend import Backend
from casinductor.store.format import names
from casinductor.store.format.frame import seal, unseal
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import new_ulid, ulid_ms
from casinductor.store.store import Store

MAGIC = b"CASIWARM"
#: A record may take so many bytes, stored and in memory.
MAX_BYTES = 8 << 20
#: A collection leaves so many records of each cache, none older than this.
KEPT = 200
KEPT_DAYS = 90
_RECORD_SECONDS = 10.0


@dataclass(frozen=True)
class Record:
    """A record's cache, name and fields."""

    cache: CacheId
    ulid: str
    fields: dict[str, Any]

    @property
    def made_ms(self) -> int:
        """Unix time in milliseconds."""
        return ulid_ms(self.ulid)


def note_warmup(backend: Backend, cache: CacheId, fields: dict[str, Any]) -> str:
    """Publish a record; returns its ULID. Raises what writing raises."""
    ulid = new_ulid()
    payload = msgspec.msgpack.encode({"ulid": ulid, "gpu": cache.gpu, "key": cache.key, **fields})
    if len(payload) > MAX_BYTES:
        raise Damaged(f"a warm-up record of {len(payload):,} bytes is not stored")
    backend.put(cache.warmup(ulid), [seal(MAGIC, payload)], durable=False)
    return ulid


def try_to_note(backend: Backend, cache: CacheId, fields: dict[str, Any]) -> None:
    """As :func:`note_warmup`, for a short while; what fails is not worth a worker."""
    deadline = Deadline(_RECORD_SECONDS, "keeping a record of the warm-up")
    with suppress(CasinductorError):
        bounded(lambda _: note_warmup(backend, cache, fields), deadline)


def listed(store: Store, cache: CacheId | None = None) -> dict[CacheId, list[str]]:
    """The ULIDs of records of one cache or all, the newest first."""
    prefix = cache.warmups if cache else f"{names.WARMUPS}/"
    found: dict[CacheId, list[str]] = {}
    for item in store.backend.list(prefix, recursive=cache is None):
        parsed = names.parse_warmup(item.name)
        if parsed and (cache is None or parsed[0] == cache):
            found.setdefault(parsed[0], []).append(parsed[1])
    return {owner: sorted(ulids, reverse=True) for owner, ulids in sorted(found.items())}


def records(
    store: Store,
    cache: CacheId | None = None,
    newest: int = KEPT,
    read: Callable[[Store, CacheId, str], Record] | None = None,
) -> list[Record]:
    """The newest records of each cache, oldest first; those that cannot be read are left out.

    ``read`` may bring a record from elsewhere, as they never change.
    """
    found = []
    for owner, ulids in listed(store, cache).items():
        for ulid in ulids[:newest]:
            with suppress(CasinductorError):
                found.append((read or read_record)(store, owner, ulid))
    return sorted(found, key=lambda record: record.ulid)


def read_record(store: Store, cache: CacheId, ulid: str) -> Record:
    """One record. Raises :class:`Damaged` and what reading raises."""
    name = cache.warmup(ulid)
    where = f"{store.backend.url}/{name}"
    return decode_record(store.backend.get(name, MAX_BYTES), cache, ulid, where)


def decode_record(data: bytes, cache: CacheId, ulid: str, where: str) -> Record:
    """A record from its stored bytes; ``where`` names it in errors. Raises :class:`Damaged`."""
    payload = unseal(MAGIC, data, where, MAX_BYTES)
    try:
        fields = msgspec.msgpack.decode(payload, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"{where} cannot be decoded: {error}") from error
    claimed = (fields.pop("gpu", None), fields.pop("key", None), fields.pop("ulid", None))
    if claimed != (cache.gpu, cache.key, ulid):
        raise Damaged(f"{where} belongs to another cache")
    return Record(cache, ulid, fields)


def outdated(store: Store, now_ms: int) -> list[str]:
    """The names of records that a collection removes."""
    oldest = now_ms - KEPT_DAYS * 86_400_000
    return [
        cache.warmup(ulid)
        for cache, ulids in listed(store).items()
        for number, ulid in enumerate(ulids)
        if number >= KEPT or ulid_ms(ulid) < oldest
    ]
