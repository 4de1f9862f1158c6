"""What a user points at: a cache, one of its manifests, what one torch made, a local directory.

Invariant: a selection is found before anything is compared; what does not exist is an error that
names it. Grammar: ``docs/cli.md``, "What commands compare".
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from casinductor.errors import CacheNotFound, InvalidName
from casinductor.inspect.facts import Facts
from casinductor.inspect.graphs import Graph, of_directory, of_view
from casinductor.inspect.view import Item, View, look_at
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import is_ulid
from casinductor.store.lookup import find_cache
from casinductor.store.store import Store

_TORCH = "torch="


@dataclass(frozen=True)
class Selection:
    """A cache, narrowed to one ``manifest`` (ULID) or to what a ``torch`` of this version made; or
    the ``directory`` alone.
    """

    cache: CacheId | None = None
    manifest: str | None = None
    torch: str | None = None
    directory: str | None = None

    def __str__(self) -> str:
        if self.directory:
            return self.directory
        detail = self.manifest or (f"{_TORCH}{self.torch}" if self.torch else "")
        return f"{self.cache}@{detail}" if detail else str(self.cache)

    def holds(self, item: Item) -> bool:
        """Whether the group belongs to the selection."""
        if self.manifest:
            return self.manifest in (item.version.origin, item.version.published)
        if self.torch:
            made_by = str(item.demands.get("torch", ""))
            return made_by.startswith(self.torch)
        return True


def select(store: Store, text: str, gpu: str) -> Selection:
    """``[GPU/]KEY[@ULID|@torch=VERSION]`` or a directory that begins with ``/`` or ``.``.

    Raises :class:`InvalidName` and :class:`CacheNotFound`.
    """
    store.require_there()
    if text.startswith(("/", ".")):
        if not os.path.isdir(text):
            raise InvalidName(f"there is no directory {text}")
        return Selection(directory=os.path.abspath(text))
    name, separator, detail = text.rpartition("@")
    manifest = detail if separator and is_ulid(detail) else None
    torch = detail[len(_TORCH) :] if separator and detail.startswith(_TORCH) else None
    cache = find_cache(store.backend, name if manifest or torch else text, gpu)
    return Selection(cache, manifest, torch)


def items_of(store: Store, facts: Facts, chosen: Selection, *kinds: str) -> View:
    """The selected part of a cache. Raises :class:`CacheNotFound` if it is empty."""
    if chosen.cache is None:
        raise InvalidName(f"{chosen} is a directory; a cache is needed here")
    view = look_at(store, facts, chosen.cache, *kinds, runs=0)
    items = [item for item in view.items if chosen.holds(item)]
    if not items:
        raise CacheNotFound(f"{store.backend.url} holds nothing that {chosen} selects")
    return View(view.cache, items)


def graphs_of(store: Store, facts: Facts, chosen: Selection) -> list[Graph]:
    """The entries that a selection holds."""
    if chosen.directory is not None:
        return of_directory(chosen.directory)
    return of_view(items_of(store, facts, chosen, "fxgraph", "aotautograd"), facts)
