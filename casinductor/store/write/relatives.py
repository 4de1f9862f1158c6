"""Relatives of a cache: other caches of its GPU type whose blobs it may well share.

Invariant: looking for them costs two listings of at most a thousand names and a bounded number of
manifests, however many caches the store has; what is not found is stored once more, never lost.
"""

from __future__ import annotations

from itertools import groupby, takewhile

from casinductor.deadline import UNLIMITED, Deadline
from casinductor.errors import StoreUnavailable
from casinductor.store.backend import Listed
from casinductor.store.format import names
from casinductor.store.format.names import CacheId
from casinductor.store.index.manifests import ManifestId
from casinductor.store.refreshed import Refreshed
from casinductor.store.store import Store

#: One request lists so many names on S3.
LISTED = 1000
#: What is read of them at most.
MANIFESTS = 32
MANIFEST_BYTES = 16 << 20
_LEAST_BYTES = 64 << 10


def read_relatives(
    store: Store,
    cache: CacheId,
    sought_bytes: int = 4 * MANIFEST_BYTES,
    deadline: Deadline = UNLIMITED,
) -> Refreshed:
    """Read the likeliest relatives' manifests into the catalog; without them a sync goes on.

    No more than a quarter of ``sought_bytes``, which might be found there, is read, or 64 KiB.
    """
    try:
        listed = _listed(store, cache)
    except StoreUnavailable:
        return Refreshed()
    known = store.catalog.manifests.known(cache.gpu)
    budget = min(MANIFEST_BYTES, max(_LEAST_BYTES, sought_bytes // 4))
    chosen: dict[ManifestId, Listed] = {}
    size = 0
    for name in _nearest(cache, listed):
        item = listed[name]
        if name in known or size + item.size > budget:
            continue
        chosen[name] = item
        size += item.size
        if len(chosen) == MANIFESTS:
            break
    return store.read(chosen, deadline)


def _listed(store: Store, cache: CacheId) -> dict[ManifestId, Listed]:
    """Manifests of other caches: all of the GPU type's if they are few, else the neighbours'."""
    root = f"{names.MANIFESTS}/{cache.gpu}/"
    found = store.backend.list_from(root, root, LISTED)
    if len(found) >= LISTED:
        parent, _, last = cache.key.rpartition("/")
        folder = f"{root}{parent}/" if parent else root
        found += store.backend.list_from(folder, folder + _stem(last), LISTED)
    named = ((names.parse_manifest(item.name), item) for item in found)
    return {ManifestId(*name): item for name, item in named if name and name[0] != cache}


def _stem(part: str) -> str:
    """``model-v`` of ``model-v12``: versions of one thing differ at their end."""
    return part.rstrip("0123456789.")


def _nearest(cache: CacheId, listed: dict[ManifestId, Listed]) -> list[ManifestId]:
    """Those with the longest beginning of the key in common first; of equals the newest.

    Each cache gives its newest manifest, which after a compaction is all it has, before any gives
    a second one.
    """
    ranked: list[tuple[int, int, str, ManifestId]] = []
    for _, those in groupby(sorted(listed, reverse=True), key=lambda name: name[0]):
        for age, name in enumerate(those):
            common = _common(name[0].key, cache.key)
            ranked.append((age, -common, _reversed(name[1]), name))
    return [name for *_, name in sorted(ranked)]


def _common(one: str, other: str) -> int:
    """How many characters two keys have in common at their beginning."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _reversed(ulid: str) -> str:
    """A ULID's characters so changed that newer ones sort first."""
    return "".join(chr(0x7F - ord(character)) for character in ulid)
