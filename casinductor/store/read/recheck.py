"""Reads manifests again that the catalog knows, as they may have rotted since.

Invariant: what a sync spends on it stays flat, however many manifests its cache has.
"""

from __future__ import annotations

from casinductor.deadline import Deadline
from casinductor.errors import CasinductorError, Damaged, ObjectMissing
from casinductor.store.format.frame import split
from casinductor.store.format.manifest import verify
from casinductor.store.format.names import CacheId
from casinductor.store.parallel import map_parallel
from casinductor.store.sampling import RECHECK_BYTES, RECHECKED, sample_within_budget
from casinductor.store.store import Store


def recheck(store: Store, cache: CacheId, deadline: Deadline) -> list[str]:
    """Read again what the catalog knew of a cache, as its manifests may have rotted since.

    Some of them, chosen at random, so that a sync's cost stays flat. Returns the damage.
    """
    known = store.catalog.manifests.known(cache.gpu, cache.key)

    def ask(ulid: str) -> CasinductorError | None:
        deadline.check()
        try:
            name = cache.manifest(ulid)
            container, _ = split(store.backend.get(name))
            verify(container, ulid, f"{store.backend.url}/{name}")
        except (Damaged, ObjectMissing) as error:
            return error
        return None

    sized = [(name.ulid, indexed.size) for name, indexed in sorted(known.items())]
    chosen = sample_within_budget(sized, RECHECKED, RECHECK_BYTES)
    answers = map_parallel(ask, chosen, store.backend.parallel)
    damage = []
    for ulid, answer in zip(chosen, answers, strict=True):
        if answer is None:
            continue
        if isinstance(answer, Damaged):
            damage.append(str(answer))
            store.marks.quarantine_manifest(cache, ulid, str(answer))
        store.catalog.forget(ulid)
    return damage
