"""Which published groups can no longer be read, as far as cheap looks tell.

Invariant: nothing is judged lost while any usable copy of its blobs is known, nor on anybody's
word where something would be deleted for it: :func:`verify_suspects` reads for itself. Looking
changes nothing but marks in quarantine.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from casinductor.deadline import UNLIMITED
from casinductor.errors import CasinductorError, Damaged, StoreUnavailable
from casinductor.store.format import names
from casinductor.store.format.names import CacheId
from casinductor.store.format.pack import read_end, read_footer_at, read_trailer
from casinductor.store.grace import Pause
from casinductor.store.index.catalog import Catalog
from casinductor.store.index.groups import Version
from casinductor.store.index.places import Located, Losses, Plan, Unusable
from casinductor.store.parallel import map_parallel
from casinductor.store.read.fetch import fetch
from casinductor.store.sampling import RECHECK_BYTES, RECHECKED, sample_within_budget
from casinductor.store.store import Store


def lost_versions(
    catalog: Catalog, found: Iterable[Version], unusable: Unusable, *, elsewhere: bool = True
) -> set[int]:
    """The rows of those versions that need a blob which only unusable places hold.

    Without ``elsewhere`` only the places that their own manifests name count: who acknowledges
    relies on packs that were looked at, not on any that some manifest mentions.
    """
    if not unusable:
        return set()
    rows_of: dict[int, set[int]] = {}
    for version in found:
        rows_of.setdefault(version.manifest, set()).add(version.row)
    lost: set[int] = set()
    for manifest, rows in rows_of.items():
        gone = _lost_blobs(catalog, manifest, unusable, elsewhere)
        if gone:
            lost |= {row for row, blobs in catalog.groups.blobs(manifest) if gone & blobs} & rows
    return lost


def _lost_blobs(catalog: Catalog, manifest: int, unusable: Unusable, elsewhere: bool) -> set[int]:
    references = catalog.blobs.frames(manifest)
    barred = {i for i, frame in references.items() if unusable.bars(frame.pack, frame.offset)}
    spots = unusable.spots
    spotted = {spot[:2] for spot in spots}
    frames = {
        index: frame[:2]
        for index, frame in references.items()
        if index not in barred and frame[:2] in spotted
    }
    if not barred and not frames:
        return set()
    table = catalog.blobs.table(manifest)
    suspects = {
        i: table.hash(i)
        for i, frame in enumerate(table.frame)
        if frame in barred or (frame in frames and (*frames[frame], table.hash(i)) in spots)
    }
    others = catalog.locate(set(suspects.values()), unusable) if elsewhere else {}
    return {index for index, digest in suspects.items() if digest not in others}


def bad_packs(store: Store, cache: CacheId, *, sampled: bool = False) -> set[str]:
    """Packs that the cache's manifests name and that are gone, cut short or without their end.

    ``sampled`` looks at some of them, chosen at random, and reads few of their footers.
    A damaged pack is marked in quarantine, so that every worker stores its blobs anew.
    """
    packs = store.catalog.packs.of_cache(cache)
    if sampled and len(packs) > RECHECKED:
        packs = random.sample(packs, RECHECKED)
    budget = RECHECK_BYTES // max(1, len(packs)) if sampled else None
    problems = map_parallel(
        lambda pack: _pack_problem(store, *pack, budget), packs, store.backend.parallel
    )
    bad = set()
    for (ulid, _), problem in zip(packs, problems, strict=True):
        if problem is None:
            continue
        bad.add(ulid)
        if isinstance(problem, Damaged):
            store.marks.quarantine_pack(ulid, str(problem))
    return bad


def _pack_problem(
    store: Store, ulid: str, size: int, budget: int | None
) -> CasinductorError | None:
    """What is wrong with a pack; with a budget, its footer is read if chance and that allow it."""
    try:
        if budget is not None:
            offset, length = read_trailer(store.backend, ulid, size)
            if sample_within_budget([(ulid, length)], 1, budget):
                read_footer_at(store.backend, ulid, offset, length)
            return None
        actual = store.backend.size(names.pack(ulid))
        if actual != size:
            return Damaged(f"pack {ulid} has {actual} bytes instead of {size}")
        read_end(store.backend, ulid, size)
    except CasinductorError as error:
        return error
    return None


def verify_suspects(
    store: Store, cache: CacheId, manifests: Iterable[str], suspects: Unusable, again: Pause
) -> Unusable:
    """Of the places that are suspected, the spots of blobs that this process cannot read either.

    ``again`` waits until what another client wrote must be visible; only then is a missing pack
    missing. Raises :class:`StoreUnavailable` where the store fails, which proves nothing.
    """
    chosen = set(manifests)
    rows = [
        row
        for (_, ulid), (row, _) in store.catalog.manifests.known(cache.gpu, cache.key).items()
        if ulid in chosen
    ]
    plan = _suspect_plan(store.catalog, rows, suspects)
    losses = _read_through(store, plan)
    if losses.packs:
        again()
        losses = _read_through(store, plan)
    if losses.failures:
        raise StoreUnavailable(losses.failures[0])
    return Unusable(spots=losses.spots)


def _suspect_plan(catalog: Catalog, manifests: list[int], suspects: Unusable) -> Plan:
    plan: Plan = {}
    for manifest in manifests:
        frames = {
            index: frame
            for index, frame in catalog.blobs.frames(manifest).items()
            if suspects.bars(frame.pack, frame.offset)
        }
        if not frames:
            continue
        table = catalog.blobs.table(manifest)
        for index, frame_index in enumerate(table.frame):
            if frame_index in frames:
                place = Located(table.hash(index), table.offset[index], table.size[index])
                plan.setdefault(frames[frame_index], []).append(place)
    return plan


def _read_through(store: Store, plan: Plan) -> Losses:
    losses = Losses()
    for _ in fetch(store.backend, plan, losses, UNLIMITED):
        pass
    return losses
