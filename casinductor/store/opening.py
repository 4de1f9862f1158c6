"""Opens a store with the catalog that this machine keeps of it, and tries again where that fails.

Invariant: whatever becomes of the catalog (damage, a lock, another process that changes it), the
work is done on one that is good, and no fault of a catalog leaves here.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

from casinductor.errors import CatalogChanged, CatalogDamaged, Damaged
from casinductor.settings import Settings, default_state_dir
from casinductor.store.backends.address import open_backend
from casinductor.store.index.catalog import Catalog, catalog_path
from casinductor.store.store import Store
from casinductor.trust.policy import EVERYBODY, Trust, trust_of

T = TypeVar("T")
#: How often work begins again because another process changed the catalog under it.
_TRIES = 3


def with_store(settings: Settings, work: Callable[[Store], T], seconds: float | None = None) -> T:
    """Run ``work``, which has ``seconds`` in all, on the store.

    It begins again on an empty catalog where this machine's is damaged, and on one in memory where
    other processes keep it locked or go on changing it. Raises what ``work`` raises.
    """
    trust = settings_trust(settings)
    backend = open_backend(settings.store, seconds)
    catalog = Catalog(state_path(settings, backend.url, trust))
    try:
        for _ in range(_TRIES):
            try:
                return work(Store(backend, catalog, trust))
            except CatalogChanged:
                continue
            except (sqlite3.Error, CatalogDamaged) as error:
                if _is_locked(error):
                    break
                catalog.discard()
        catalog.close()
        catalog = Catalog(None)
        return work(Store(backend, catalog, trust))
    except (sqlite3.Error, CatalogDamaged, CatalogChanged) as error:
        raise Damaged(f"the catalog of {backend.url} cannot be used: {error}") from error
    finally:
        catalog.close()


def with_fresh_store(settings: Settings, work: Callable[[Store], T]) -> T:
    """Run ``work`` on the store with a catalog read anew: what decides on deletions believes no
    file that lay on this machine.
    """
    trust = settings_trust(settings)
    backend = open_backend(settings.store)
    with ExitStack() as stack:
        path = None
        with suppress(FileNotFoundError):  # where there is no temporary directory, in memory
            folder = tempfile.TemporaryDirectory(prefix="casinductor-catalog-")
            path = Path(stack.enter_context(folder)) / "catalog.db"
        catalog = Catalog(path)
        stack.callback(catalog.close)
        return work(Store(backend, catalog, trust))


def state_path(settings: Settings, url: str, trust: Trust = EVERYBODY) -> Path | None:
    """Where this machine keeps the catalog of the store at ``url``, of what ``trust`` believes of
    it; None where it cannot.
    """
    folder = settings.state_dir or default_state_dir()
    return catalog_path(folder, f"{url} {trust.digest}".rstrip()) if folder is not None else None


def settings_trust(settings: Settings) -> Trust:
    """Whom this worker believes. Raises :class:`~casinductor.errors.InvalidName`."""
    return trust_of(settings.signing_key, settings.trusted_keys, settings.revoked_keys)


def _is_locked(error: Exception) -> bool:
    """Whether other processes are busy with the catalog (SQLITE_BUSY, SQLITE_LOCKED), which is no
    damage; Python 3.10 has no code for it.
    """
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
