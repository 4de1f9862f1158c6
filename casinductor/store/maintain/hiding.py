"""Takes groups out of every worker's sight, and back: for a kernel that is wrong.

Invariant: what is hidden is neither restored nor published again, whoever has it, until it is
shown; the record is a manifest (signed where manifests are) that collections and merges leave.
Nothing is deleted by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from casinductor.errors import NothingDone, StoreUnavailable
from casinductor.store.format.names import CacheId
from casinductor.store.index.groups import Version
from casinductor.store.index.places import Unusable
from casinductor.store.index.union import removed, versions
from casinductor.store.lookup import not_found
from casinductor.store.maintain.rewrite import require_keys
from casinductor.store.store import Store
from casinductor.store.write.draft import Draft
from casinductor.store.write.publish import Source, publish


@dataclass
class HideReport:
    """The cache, the record (a manifest's ULID), and how many groups it is about."""

    cache: str
    manifest: str
    groups: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Hidden:
    """A record: its ULID and the contents (32 bytes each) that it hides."""

    manifest: str
    contents: frozenset[bytes]


def hide(store: Store, cache: CacheId, chosen: Callable[[Version], bool]) -> HideReport:
    """Hide the chosen groups of a cache from all workers at once.

    Raises :class:`CacheNotFound`, and :class:`NothingDone` where none is chosen.
    """
    _read(store, cache)
    found = versions(store.catalog, cache)
    contents = sorted({version.content for version in found if chosen(version)})
    if not contents:
        raise NothingDone(f"{cache}: of {len(found)} groups none is meant")
    ulid = _publish(store, cache, Source(iter(()), list, producer={"hides": True}, hides=contents))
    return HideReport(str(cache), ulid, len(contents))


def unhide(store: Store, cache: CacheId, chosen: Callable[[Hidden], bool]) -> HideReport:
    """Show again what the chosen records hide. Raises as :func:`hide` does."""
    _read(store, cache)
    records = [record for record in hidden_records(store, cache) if chosen(record)]
    if not records:
        raise NothingDone(f"{cache}: nothing of it is hidden by what was named")
    source = Source(
        iter(()),
        list,
        producer={"removal": True},
        replaced=sorted(record.manifest for record in records),
    )
    ulid = _publish(store, cache, source)
    return HideReport(str(cache), ulid, len(set().union(*(r.contents for r in records))))


def hidden_records(store: Store, cache: CacheId) -> list[Hidden]:
    """The records of a cache that count, oldest first; its manifests were read."""
    gone = removed(store.catalog, cache)
    hiding = store.catalog.manifests.hiding(cache)
    return [Hidden(ulid, frozenset(hiding[ulid])) for ulid in sorted(hiding.keys() - gone)]


def _read(store: Store, cache: CacheId) -> None:
    """Learn what there is of a cache, which must be something that this process may change."""
    store.require_there()
    store.format_problem()
    if not store.refresh(cache.gpu, cache.key).log().listed:
        raise not_found(store.backend, cache)
    require_keys(store, cache)


def _publish(store: Store, cache: CacheId, source: Source) -> str:
    store.prepare_to_write()
    published = publish(store, cache, Draft(store, None, Unusable()), source)
    if published.manifest is None:
        raise StoreUnavailable(f"{cache}: no record was published")
    return published.manifest.ulid
