"""A view of one cache: its groups as published, with what their bytes tell and how they were used.

Invariant: every distinct version is there once, whoever could load it, under the manifest that
brought it first; facts come from :class:`~casinductor.inspect.facts.Facts` and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from casinductor.inspect.facts import Fact, Facts
from casinductor.settings import Settings
from casinductor.store.backends.address import open_backend
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import is_ulid, ulid_ms
from casinductor.store.index.groups import Version
from casinductor.store.index.union import demands_of, versions
from casinductor.store.lookup import not_found
from casinductor.store.opening import state_path, with_store
from casinductor.store.store import Store
from casinductor.store.write.journal import Record, records

#: How many warm-ups of a cache are looked at for the use of its groups.
RUNS = 50


@dataclass
class Producer:
    """Who published a manifest: host, when (Unix milliseconds), local directory, fingerprint."""

    host: str = ""
    made_ms: int = 0
    root: str = ""
    fingerprint: dict[str, Any] = field(default_factory=dict)


@dataclass
class Item:
    """A group: its version, what its bytes tell, who made it, its files' number and bytes, and in
    how many of the looked-at warm-ups it was restored and read.
    """

    version: Version
    fact: Fact
    producer: Producer
    files: int = 0
    bytes: int = 0
    restored: int = 0
    used: int = 0

    @property
    def demands(self) -> dict[str, Any]:
        return demands_of(self.version.demands)

    @property
    def made_ms(self) -> int:
        origin = self.version.origin
        return ulid_ms(origin) if is_ulid(origin) else 0


@dataclass
class View:
    """A cache's items by kind, and its newest warm-ups, oldest first."""

    cache: CacheId
    items: list[Item]
    runs: list[Record] = field(default_factory=list)

    def note(self, noted: list[Record]) -> None:
        """Count the use of every item in these warm-ups."""
        self.runs = noted
        uses = uses_of(noted)
        for item in self.items:
            item.restored, item.used = uses.get(item.version.content[:8], (0, 0))

    def of(self, *kinds: str) -> list[Item]:
        return [item for item in self.items if item.version.kind in kinds]


@contextmanager
def open_facts(settings: Settings) -> Iterator[Facts]:
    """The memory of facts that belongs to a store."""
    path = state_path(settings, open_backend(settings.store).url)
    facts = Facts(path.with_suffix(".facts") if path else None)
    try:
        yield facts
    finally:
        facts.close()


def view_of(settings: Settings, cache: CacheId, *kinds: str, runs: int = RUNS) -> View:
    """The view of one cache, of groups of some kinds or all. Raises :class:`CacheNotFound`."""
    with open_facts(settings) as facts:
        return with_store(settings, lambda store: look_at(store, facts, cache, *kinds, runs=runs))


def look_at(
    store: Store, facts: Facts, cache: CacheId, *kinds: str, runs: int = RUNS, fresh: bool = True
) -> View:
    """As :func:`view_of`, on an open store; ``fresh`` reads manifests not seen yet first."""
    store.require_there()
    if fresh and not store.refresh(cache.gpu, cache.key).log().listed:
        raise not_found(store.backend, cache)
    found: dict[tuple[str, str, bytes], Version] = {}
    for version in sorted(versions(store.catalog, cache), key=lambda v: (v.origin, v.row)):
        if not kinds or version.kind in kinds:
            found.setdefault((version.id, version.demands, version.content), version)
    told = facts.of(store, found.values())
    sizes = store.catalog.groups.sizes(cache)
    makers = producers(store, cache)
    items = []
    for version in found.values():
        files, size = sizes.get(version.row, (0, 0))
        maker = makers.get(version.origin) or makers.get(version.published) or Producer()
        items.append(Item(version, told.get(version.content, {}), maker, files, size))
    view = View(cache, items)
    if runs:
        view.note(records(store, cache, runs, facts.record))
    return view


def producers(store: Store, cache: CacheId) -> dict[str, Producer]:
    """Who published each of a cache's manifests, by ULID."""
    found = {}
    for origin in store.catalog.manifests.origins(cache):
        told = json.loads(origin.producer)
        told = told if isinstance(told, dict) else {}
        print_ = told.get("fingerprint")
        known = print_ if isinstance(print_, dict) else {}
        found[origin.ulid] = Producer(
            str(told.get("host", "")), origin.created_ms, origin.root, known
        )
    return found


def uses_of(noted: list[Record]) -> dict[bytes, tuple[int, int]]:
    """In how many records each group was restored, and read, by its content's first 8 bytes."""
    found: dict[bytes, tuple[int, int]] = {}
    for record in noted:
        for name, was_read in (("used", 1), ("unused", 0)):
            contents = record.fields.get(name)
            if not isinstance(contents, bytes):
                continue
            for i in range(0, len(contents) - 7, 8):
                restored, used = found.get(contents[i : i + 8], (0, 0))
                found[contents[i : i + 8]] = (restored + 1, used + was_read)
    return found
