"""Which published groups can no longer be read, as far as cheap looks tell.

Invariant: nothing is judged lost while any usable copy of its blobs is known, and looking changes
nothing but marks in quarantine.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from casinductor.errors import CasinductorError, Damaged, ObjectMissing
from casinductor.store import names
from casinductor.store.catalog import Catalog
from casinductor.store.fetch import Unusable, frame_rows, locate
from casinductor.store.names import CacheId
from casinductor.store.pack import read_end
from casinductor.store.store import Store
from casinductor.store.union import Version


def lost_versions(catalog: Catalog, found: Iterable[Version], unusable: Unusable) -> set[int]:
    """The rows of those versions that need a blob which only unusable places hold."""
    if not unusable:
        return set()
    rows_of: dict[int, set[int]] = {}
    for version in found:
        rows_of.setdefault(version.manifest, set()).add(version.row)
    lost: set[int] = set()
    for manifest, rows in rows_of.items():
        gone = _lost_blobs(catalog, manifest, unusable)
        if gone:
            lost |= {row for row, blobs in _blobs_of(catalog, manifest) if gone & blobs} & rows
    return lost


def _lost_blobs(catalog: Catalog, manifest: int, unusable: Unusable) -> set[int]:
    barred = {
        index
        for index, frame in frame_rows(catalog, manifest).items()
        if unusable.bars(frame.pack, frame.offset)
    }
    if not barred:
        return set()
    table = catalog.blob_table(manifest)
    suspects = {i: table.hash(i) for i, frame in enumerate(table.frame) if frame in barred}
    elsewhere = locate(catalog, set(suspects.values()), unusable)
    return {index for index, digest in suspects.items() if digest not in elsewhere}


def _blobs_of(catalog: Catalog, manifest: int) -> Iterable[tuple[int, set[int]]]:
    for row, blobs in catalog.db.execute(
        "SELECT a.grp, a.blobs FROM artifact a JOIN grp g ON g.id = a.grp WHERE g.manifest = ?",
        (manifest,),
    ):
        yield row, set(array("I", blobs))


def bad_packs(store: Store, cache: CacheId) -> set[str]:
    """Packs that the cache's manifests name and that are gone, cut short or without their end.

    A damaged pack is marked in quarantine, so that every worker stores its blobs anew.
    """
    rows = store.catalog.db.execute(
        "SELECT DISTINCT p.ulid, p.size FROM pack p JOIN manifest m ON m.id = p.manifest"
        " WHERE m.gpu = ? AND m.key = ?",
        (cache.gpu, cache.key),
    ).fetchall()
    bad = set()
    for ulid, size in rows:
        try:
            actual = store.backend.size(names.pack(ulid))
            if actual != size:
                raise Damaged(f"pack {ulid} has {actual} bytes instead of {size}")
            read_end(store.backend, ulid, size)
        except ObjectMissing:
            bad.add(ulid)
        except Damaged as error:
            bad.add(ulid)
            store.quarantine_pack(ulid, str(error))
        except CasinductorError:
            bad.add(ulid)
    return bad
