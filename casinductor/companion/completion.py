"""Whether a cache covers what a program's warm-up would compile, as an earlier one said.

Invariant: nothing is marked that was not published, and nothing counts as covered unless this
worker restored all of it; a fault of the store means "not covered".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from casinductor.cache import Cache
from casinductor.errors import CasinductorError, InvalidName
from casinductor.store import completions
from casinductor.store.opening import with_store
from casinductor.store.store import Store
from casinductor.storm.cold import prepared
from casinductor.storm.waiting import kind_of
from casinductor.util.voice import warn

#: Tells a command which labels are covered, so that it may skip its own sweep.
VARIABLE = "CASINDUCTOR_COMPLETE"
_LABEL = re.compile(r"[0-9A-Za-z][0-9A-Za-z._]{0,63}")
T = TypeVar("T")


def check_label(label: str) -> str:
    """``label`` itself if it can stand in a name; raises :class:`InvalidName`."""
    if not _LABEL.fullmatch(label):
        raise InvalidName(
            f"a completion cannot be called {label[:80]!r}: letters, digits, dots and underscores, "
            "64 at most"
        )
    return label


def is_complete(cache: Cache, label: str) -> bool:
    """Whether what was restored covers ``label``."""
    contents = cache.snapshot.contents.values() if cache.snapshot else ()
    kind = kind_of(cache.worker)

    def work(store: Store) -> bool:
        found = completions.covered(store.backend, cache.id, kind, label, contents)
        return found is not None

    return bool(contents) and bool(_try(cache, work))


def mark_complete(cache: Cache, label: str) -> bool:
    """Say that what the cache holds for this worker covers ``label``; whether that was stored."""
    contents = list(cache.snapshot.contents.values()) if cache.snapshot else []
    kind = kind_of(cache.worker)

    def work(store: Store) -> bool:
        backend = prepared(store, str(cache.id))
        return bool(completions.note(backend, cache.id, kind, label, contents))

    return bool(contents) and bool(_try(cache, work))


def _try(cache: Cache, work: Callable[[Store], T]) -> T | None:
    try:
        return with_store(cache.settings, work, cache.settings.restore_deadline)
    except CasinductorError as error:
        warn(f"{cache.id}: completions are not known: {error}")
        return None
