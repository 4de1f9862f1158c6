"""What each cache brought and takes: warm-ups beside bytes.

Invariant: ``own_bytes`` of all caches and the packs that several share add up to what manifests
name; nothing that is shared is counted as anybody's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from casinductor.inspect.runs import RunLine, Tally
from casinductor.store.format.names import CacheId
from casinductor.store.store import Store


@dataclass
class Account(Tally):
    """A cache's warm-ups, with the bytes of its manifests and of packs that it alone names, and
    those of packs that it shares.
    """

    cache: str = ""
    own_bytes: int = 0
    shared_bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        fields = super().as_dict()
        del fields["days"]
        return fields


def accounts(store: Store, runs: Iterable[RunLine], cache: CacheId | None) -> list[Account]:
    """One account for each cache (or this one) of a catalog that was refreshed, the one that saved
    most first.
    """
    users, sizes = store.catalog.packs.users(), store.catalog.packs.sizes()
    packs: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    for pack, owners in users.items():
        for owner in owners:
            packs[owner].append((sizes[pack], len(owners) > 1))
    found = {}
    for one in [cache] if cache else store.catalog.manifests.caches():
        named = packs[str(one)]
        own = store.catalog.manifests.bytes(one) + sum(n for n, shared in named if not shared)
        shared = sum(n for n, shared in named if shared)
        found[str(one)] = Account(cache=str(one), own_bytes=own, shared_bytes=shared)
    for line in runs:
        if line.cache in found:
            found[line.cache].add(line)
    return sorted(found.values(), key=lambda a: (-a.saved_seconds, -a.own_bytes, a.cache))
