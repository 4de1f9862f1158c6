"""Makes lost manifests again from the outlines in packs that no manifest names.

Invariant: a group comes back only if every blob of it has a place that was read and verified now;
nothing is invented, and a cache that was removed on purpose stays removed.
"""

from __future__ import annotations

from casinductor.deadline import Deadline
from casinductor.errors import Damaged
from casinductor.store.check import Inspection, lacking, plan_of
from casinductor.store.draft import Draft, NewGroup
from casinductor.store.fetch import FrameRef, Located, Losses, Unusable, fetch, locate
from casinductor.store.gc import referenced
from casinductor.store.manifest import Group
from casinductor.store.names import CacheId
from casinductor.store.outline import Outline
from casinductor.store.publish import publish
from casinductor.store.store import Findings, Store

Places = dict[bytes, tuple[FrameRef, Located]]


class Rebuilder:
    """Reads the unreferenced packs of a store once; then rebuilds cache after cache."""

    def __init__(self, store: Store, inspection: Inspection) -> None:
        self.store = store
        self.inspection = inspection
        condemned = store.condemned()
        self.loose = inspection.footers.keys() - referenced(store) - condemned
        self.places: Places = {}
        for ulid in sorted(self.loose):
            self._learn(ulid)

    def _learn(self, ulid: str) -> None:
        """Remember the blobs of a pack that verify."""
        plan, losses = plan_of(self.inspection.footers[ulid]), Losses()
        for _ in fetch(self.store.backend, plan, losses, Deadline(None)):
            pass
        for frame, blobs in plan.items():
            for blob in blobs:
                if (frame.pack, frame.offset, blob.hash) not in losses.spots:
                    self.places.setdefault(blob.hash, (frame, blob))

    def rebuild(self, cache: CacheId) -> tuple[str | None, int]:
        """Publish the groups of ``cache`` that loose packs tell of; its ULID and their number."""
        self.store.refresh(cache.gpu, None, Findings(), Deadline(None))
        groups: list[NewGroup] = []
        draft = Draft(self.store, None, Unusable())
        draft.pack_sizes = dict(self.inspection.there)
        root = ""
        for ulid in sorted(self.loose):
            outline = self.inspection.outline(ulid)
            if outline is not None and (outline.gpu, outline.key) == (cache.gpu, cache.key):
                root = outline.root
                hashes = outline.hashes(self.inspection.footers[ulid].hashes)
                groups += self._groups(outline, hashes, draft)
        if not groups:
            return None, 0
        published = publish(
            self.store,
            cache,
            draft,
            iter(()),
            lambda: groups,
            root=root,
            producer={"rebuilt": True},
        )
        if published.conflicts:
            raise Damaged(f"{cache}: a collection is removing what was to be rebuilt; try again")
        return (published.manifest.ulid if published.manifest else None), len(groups)

    def _groups(self, outline: Outline, hashes: list[bytes], draft: Draft) -> list[NewGroup]:
        wanted = {hashes[i] for g in outline.groups for a in g.artifacts for i in a.blobs}
        places = {**locate(self.store.catalog, wanted, self.store.unusable()), **self.places}
        whole = []
        for group in lacking(self.store, outline):
            if all(hashes[i] in places for a in group.artifacts for i in a.blobs):
                whole.append(_placed(group, outline, hashes, draft, places))
        return whole


def _placed(
    group: Group, outline: Outline, hashes: list[bytes], draft: Draft, places: Places
) -> NewGroup:
    for artifact in group.artifacts:
        artifact.blobs = [draft.adopt(*places[hashes[index]]) for index in artifact.blobs]
    return NewGroup(
        group.id,
        group.kind,
        group.rank,
        group.content,
        outline.requirements[group.requires],
        group.artifacts,
        group.replaces,
        group.about,
        group.origin,
    )
