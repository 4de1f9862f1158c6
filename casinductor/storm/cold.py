"""What a worker does after its restore: compile for the others, wait for one that does, or go on.

Invariant: a fault of the store, or of ours, makes the worker go on at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.errors import CasinductorError
from casinductor.reports.transfer import RestoreReport
from casinductor.store.backend import Backend
from casinductor.store.opening import with_store
from casinductor.store.store import Store
from casinductor.storm.leader import Leader
from casinductor.storm.waiting import Waiting, kind_of, lead, team_of

#: What a leader's process publishes at least so often while it compiles, so that little is lost if
#: it dies; where CASINDUCTOR_LIVE says otherwise, that counts.
LIVE_SECONDS = 30.0


def lead_or_wait(
    cache: Cache, report: RestoreReport, tell: Callable[[str, RestoreReport | None], None]
) -> Leader | None:
    """The lead of this process, to be finished once it has published, or None if it is to go on.

    ``report`` is that of the restore before; ``tell`` gets a sentence, with the report of each
    restore since. Waits as long as the settings allow, which is not at all by default.
    """
    limit = cache.settings.wait
    if not limit:
        return None

    def restore() -> bool:
        done = cache.restore()
        tell(done.summary(), done)
        return not done.groups

    settings = replace(cache.settings, restore_deadline=min(cache.settings.restore_deadline, limit))
    try:
        backend = with_store(settings, lambda store: prepared(store, str(cache.id)))
        waiting = Waiting(
            backend, cache.id, kind_of(cache.worker), team_of(os.environ), limit, restore
        )
        claimed = waiting.lead_or_wait(cold=not report.groups)
        _tell_wait(cache, waiting, tell)
        if claimed is None:
            return None
        tell(f"{cache.id}: compiles for the workers that wait for it", None)
        return lead(backend, cache.id, claimed)
    except CasinductorError as error:
        tell(f"{cache.id}: cannot wait for others, goes on: {error}", None)
        return None


def prepared(store: Store, cache: str) -> Backend:
    """The backend of a store, ready for claims; raises Untrusted where this worker cannot publish,
    as others would wait for it in vain.
    """
    store.trust.require_signer(cache)
    if store.format_problem() is not None:
        store.prepare_to_write()
    return store.backend


def _tell_wait(
    cache: Cache, waiting: Waiting, tell: Callable[[str, RestoreReport | None], None]
) -> None:
    if waiting.waited < 1.0:
        return
    lost = f"; {waiting.lost} that compiled died" if waiting.lost else ""
    tell(f"{cache.id}: waited {waiting.waited:.0f} s for another worker{lost}", None)
