"""The look before a sync: what the store has of its cache, and what of that cannot be relied on.

Invariant: whatever is relied on was listed after tombstones, and those after the mark of use
(``docs/protocol.md``); where nothing of the cache is there nothing is, and all is asked at once.
"""

from __future__ import annotations

from collections.abc import Callable

from casinductor.errors import StoreUnavailable
from casinductor.job import Job
from casinductor.store.index.places import Unusable
from casinductor.store.parallel import begin, start_background
from casinductor.store.read.health import bad_packs
from casinductor.store.read.recheck import recheck
from casinductor.store.refreshed import Refreshed
from casinductor.store.store import Store


class Look:
    """One sync's look at ``store``, which adds what it reads to ``refreshed``."""

    def __init__(self, store: Store, job: Job, refreshed: Refreshed) -> None:
        self._store = store
        self._job = job
        self._refreshed = refreshed
        self._noted: Callable[[float | None], None] | None = None

    def take(self) -> Unusable:
        """Learn what the cache has already; raises what listing raises."""
        found = self._of_nothing()
        return self._in_order() if found is None else found

    def refresh(self) -> None:
        """Read what came to the cache since."""
        cache = self._job.cache
        self._refreshed.add(self._store.refresh(cache.gpu, cache.key, self._job.deadline))

    def begin_to_note_use(self) -> None:
        """Leave the mark "used", beside what the caller does, where none was left yet."""
        if self._noted is None:
            self._noted = start_background(self._note, self._store.backend.parallel)

    def note_use(self) -> None:
        """See to it that the mark is there, or cannot be."""
        self.begin_to_note_use()
        assert self._noted is not None
        self._noted(self._job.deadline.remaining())

    def _note(self) -> None:
        try:
            self._store.founding.await_mode()
        except StoreUnavailable:
            return  # whoever publishes is told
        self._store.marks.note_use(self._job.cache)

    def _of_nothing(self) -> Unusable | None:
        """What cannot be relied on, if the store has nothing of the cache; else None. Asked where
        requests run side by side and this machine knows of nothing.
        """
        store, cache = self._store, self._job.cache
        most = store.backend.parallel
        if most <= 1 or store.catalog.manifests.known(cache.gpu, cache.key):
            return None
        listing = begin(lambda: store.backend.list(cache.manifests), most)
        marks = begin(store.marks.unusable, most)
        try:
            store.format_problem()
            unusable, _ = marks()
            return None if listing() else unusable
        except StoreUnavailable:
            return None

    def _in_order(self) -> Unusable:
        """The mark comes first: a collector that condemned, unseen by this listing, what the cache
        has already, looks for such marks after it and keeps what is used.
        """
        store = self._store
        unusable, there = Unusable(), False
        try:
            if there := store.format_problem() is None:
                self.begin_to_note_use()
                self._recheck()
                self.note_use()
            unusable = store.read_marks()
        except StoreUnavailable:
            if there:
                raise
            store.prepare_to_write()  # a store that does not exist yet
        self.refresh()
        unusable.packs |= bad_packs(store, self._job.cache, sampled=True)
        return unusable

    def _recheck(self) -> None:
        for sentence in recheck(self._store, self._job.cache, self._job.deadline):
            self._refreshed.note_damage(sentence)
