"""What a store takes while caches are added to those that live, as a collection will leave it.

Invariant: counts what ``stats`` and ``gc`` print: manifests, and packs in full. Only a pack of
which so little is used that the collection moves it elsewhere counts with what is moved.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from casinductor.store.format.names import CacheId
from casinductor.store.store import Store


class Addition(NamedTuple):
    """What a cache adds: its bytes, and its frames as (pack, offset, stored bytes)."""

    bytes: int
    frames: list[tuple[str, int, int]]


class Footprint:
    """The bytes of the caches that were added; ``max_unused`` as for the collection."""

    def __init__(self, store: Store, max_unused: float) -> None:
        self._catalog = store.catalog
        self._sizes = store.catalog.packs.sizes()
        self._share = 1.0 - max_unused
        self._used: dict[str, int] = defaultdict(int)
        self._frames: set[tuple[str, int]] = set()
        self.bytes = 0

    def more(self, cache: CacheId) -> Addition:
        """What this cache would add."""
        every = self._catalog.packs.frames_of_cache(cache)
        frames = [
            (pack, at, stored) for pack, at, stored in every if (pack, at) not in self._frames
        ]
        added: dict[str, int] = defaultdict(int)
        for pack, _, stored in frames:
            added[pack] += stored
        size = self._catalog.manifests.bytes(cache) + sum(
            self._cost(pack, self._used[pack] + stored) - self._cost(pack, self._used[pack])
            for pack, stored in added.items()
        )
        return Addition(size, frames)

    def add(self, more: Addition) -> None:
        """Add a cache; ``more`` is what it adds now."""
        self.bytes += more.bytes
        for pack, offset, stored in more.frames:
            self._frames.add((pack, offset))
            self._used[pack] += stored

    def _cost(self, pack: str, used: int) -> int:
        size = self._sizes.get(pack, used)
        return size if used and used >= self._share * size else used
