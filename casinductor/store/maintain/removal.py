"""Removal of a whole cache on request, and its undoing.

Invariant: a removal is one manifest without groups that names what it covers; it hides at once
and deletes nothing. Until a collection has swept that, :func:`undelete` brings all of it back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from casinductor.errors import CacheNotFound, Damaged
from casinductor.store.format.names import CacheId
from casinductor.store.index.union import removed, versions
from casinductor.store.lookup import not_found
from casinductor.store.maintain.protocol import condemn, require_all_manifests
from casinductor.store.maintain.rewrite import Terms, require_keys, rewrite
from casinductor.store.store import Store
from casinductor.store.write.draft import Draft
from casinductor.store.write.publish import Source, publish


@dataclass
class RemovalReport:
    """The cache, the manifest that was published, and how many manifests and groups it is about."""

    cache: str
    manifest: str
    manifests: int = 0
    groups: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def remove(store: Store, cache: CacheId) -> RemovalReport:
    """Hide a cache from all workers; the next collection deletes it. Raises CacheNotFound."""
    store.require_there()
    store.format_problem()
    store.refresh(cache.gpu, cache.key)
    found = versions(store.catalog, cache, even_hidden=True)
    if not found:
        raise not_found(store.backend, cache)
    old = {version.published for version in found}
    require_keys(store, cache)
    store.prepare_to_write()
    draft = Draft(store, None, store.read_marks())
    source = Source(iter(()), list, producer={"removal": True}, replaced=sorted(old))
    published = publish(store, cache, draft, source)
    condemn(store, old)  # a sync that counts on them meanwhile stores its own
    ulid = published.manifest.ulid if published.manifest else ""
    return RemovalReport(str(cache), ulid, len(old), len({version.id for version in found}))


def undelete(store: Store, cache: CacheId) -> RemovalReport:
    """Bring back what removals hide of a cache and no collection has swept.

    It is published anew, as condemned manifests go in any case. Raises CacheNotFound where
    nothing is left, :class:`Damaged` where a collection is sweeping it just now.
    """
    require_all_manifests(store)
    hidden = removed(store.catalog, cache)
    found = [
        version
        for version in versions(store.catalog, cache, even_removed=True, even_hidden=True)
        if version.published in hidden
    ]
    if not found:
        raise CacheNotFound(f"{store.backend.url} holds nothing removed of {cache}")
    barred = store.read_marks()
    barred.packs |= store.catalog.packs.referenced() - set(store.packs())
    try:
        terms = Terms(barred, lend=True, revive=True)
        done = rewrite(store, cache, {version.published for version in found}, terms)
    except Damaged as error:
        raise Damaged(f"{cache} cannot be brought back, it was swept already: {error}") from error
    lineage, hiding = store.catalog.manifests.lineage(cache), store.catalog.manifests.hiding(cache)
    for ulid in sorted(lineage.removals):
        if not lineage.stands_for[ulid] & hiding.keys():  # what unhide showed stays shown
            store.backend.delete(cache.manifest(ulid))
    return RemovalReport(str(cache), done.manifest, len({v.published for v in found}), done.groups)
