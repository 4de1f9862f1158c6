"""Makes lost manifests again from the outlines in packs that no manifest names.

Invariant: a group comes back only if every blob of it has a place that was read and verified now;
nothing is invented, and a cache that was removed on purpose stays removed.
"""

from __future__ import annotations

import msgspec

from casinductor.deadline import UNLIMITED
from casinductor.errors import Damaged
from casinductor.store.format.manifest import Group
from casinductor.store.format.names import CacheId
from casinductor.store.format.outline import Outline
from casinductor.store.index.places import FrameRef, Located, Losses, Unusable
from casinductor.store.read.fetch import fetch
from casinductor.store.store import Store
from casinductor.store.verify.check import Inspection, lacking, plan_of
from casinductor.store.write.draft import Draft, NewGroup
from casinductor.store.write.publish import Source, publish

#: A verified place of each blob: its frame, and where in it.
Places = dict[bytes, tuple[FrameRef, Located]]


class Rebuilder:
    """Reads the unreferenced packs of a store once; then rebuilds cache after cache."""

    def __init__(self, store: Store, inspection: Inspection) -> None:
        self.store = store
        self.inspection = inspection
        condemned = store.marks.condemned()
        self.loose = inspection.footers.keys() - store.catalog.packs.referenced() - condemned
        self.places: Places = {}
        for ulid in sorted(self.loose):
            self._learn(ulid)

    def _learn(self, ulid: str) -> None:
        """Remember the blobs of a pack that verify."""
        plan, losses = plan_of(self.inspection.footers[ulid]), Losses()
        for _ in fetch(self.store.backend, plan, losses, UNLIMITED):
            pass
        for frame, blobs in plan.items():
            for blob in blobs:
                if (frame.pack, frame.offset, blob.hash) not in losses.spots:
                    self.places.setdefault(blob.hash, (frame, blob))

    def rebuild(self, cache: CacheId) -> tuple[str | None, int]:
        """Publish the groups of ``cache`` that loose packs tell of; its ULID and their number.

        The caller has no keys: packs are not signed, so what they tell is nobody's word.
        """
        self.store.refresh(cache.gpu, None)
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
        source = Source(iter(()), lambda: groups, root, {"rebuilt": True})
        published = publish(self.store, cache, draft, source)
        if published.conflicts:
            raise Damaged(f"{cache}: a collection is removing what was to be rebuilt; try again")
        return (published.manifest.ulid if published.manifest else None), len(groups)

    def _groups(self, outline: Outline, hashes: list[bytes], draft: Draft) -> list[NewGroup]:
        wanted = {hashes[i] for g in outline.groups for a in g.artifacts for i in a.blobs}
        known = self.store.catalog.locate(wanted, self.store.read_marks())
        places = {**{h: (there.frame, there.blob) for h, there in known.items()}, **self.places}
        return [
            _placed(group, outline, hashes, draft, places)
            for group in lacking(self.store, outline)
            if all(hashes[i] in places for a in group.artifacts for i in a.blobs)
        ]


def _placed(
    group: Group, outline: Outline, hashes: list[bytes], draft: Draft, places: Places
) -> NewGroup:
    artifacts = [
        msgspec.structs.replace(
            artifact, blobs=[draft.adopt(*places[hashes[index]]) for index in artifact.blobs]
        )
        for artifact in group.artifacts
    ]
    return NewGroup(
        group.id,
        group.kind,
        group.rank,
        group.content,
        outline.requirements[group.requires],
        artifacts,
        group.replaces,
        group.about,
        group.origin,
    )
