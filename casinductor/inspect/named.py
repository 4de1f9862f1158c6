"""Groups that a user names to hide them: by a hash, by who published them, by what a run saw.

Invariant: a name that fits nothing is an error; a kernel's name also means the entries that carry
its binary, as torch would unpack it from those.
"""

from __future__ import annotations

from collections.abc import Callable

from casinductor.errors import CacheNotFound, InvalidName
from casinductor.inspect.facts import Facts
from casinductor.inspect.view import Item, look_at, uses_of
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import is_ulid
from casinductor.store.index.groups import File, Version
from casinductor.store.store import Store
from casinductor.store.write.journal import Record, records

#: No beginning of a hash that is shorter is looked up.
SHORTEST = 6


def contents_named(store: Store, facts: Facts, cache: CacheId, hashes: list[str]) -> set[bytes]:
    """The contents of the groups that these beginnings of hashes name: of a group, of a file, a
    graph's key, a kernel's folder.

    Raises :class:`InvalidName` for a beginning that is too short or fits nothing.
    """
    view = look_at(store, facts, cache, runs=0)
    members = store.catalog.groups.files(item.version for item in view.items)
    found: set[bytes] = set()
    for text in hashes:
        if len(text) < SHORTEST:
            raise InvalidName(f"{text!r} is too short: give {SHORTEST} characters or more")
        fits = [item for item in view.items if _fits(item, text, members[item.version.row])]
        if not fits:
            raise InvalidName(f"{cache}: {text!r} names no group, file, key or kernel of it")
        found |= {item.version.content for item in fits}
    return found


def _fits(item: Item, text: str, files: list[File]) -> bool:
    names = [item.version.content.hex(), str(item.fact.get("key", "")), item.version.id]
    names += item.version.id.split("/")
    names += [file.hash.hex() for file in files]
    names += item.fact.get("bundle", {})
    return any(name.lower().startswith(text.lower()) for name in names)


def published_by(store: Store, cache: CacheId, run: str) -> Callable[[Version], bool]:
    """Which groups a warm-up, or a sync's manifest, brought into the cache."""
    made = _manifests_of(_record(store, cache, run), run)
    return lambda version: version.origin in made


def unseen_by(store: Store, cache: CacheId, run: str) -> Callable[[Version], bool]:
    """Which groups a warm-up neither restored nor published."""
    record = _record(store, cache, run)
    if record is None:
        raise CacheNotFound(f"{cache} has no warm-up {run}")
    made, seen = _manifests_of(record, run), uses_of([record]).keys()
    return lambda version: version.content[:8] not in seen and version.origin not in made


def _record(store: Store, cache: CacheId, run: str) -> Record | None:
    if not is_ulid(run):
        raise InvalidName(f"{run!r} is no ULID of a warm-up or a manifest")
    return next((record for record in records(store, cache) if record.ulid == run), None)


def _manifests_of(record: Record | None, run: str) -> set[str]:
    if record is None:
        return {run}
    told = record.fields.get("published")
    published = [str(ulid) for ulid in told] if isinstance(told, list) else []
    return {*published, str(record.fields.get("manifest"))}
