"""Carries caches over to signatures: what they hold, published anew under this process' key.

Invariant: only what the caller says is vouched for: unsigned manifests, or any; what was signed by
a trusted key stays as it is.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from msgspec.structs import replace

from casinductor.store.format.names import CacheId
from casinductor.store.grace import Wait
from casinductor.store.index.union import versions
from casinductor.store.maintain.protocol import retire
from casinductor.store.maintain.rewrite import Terms, rewrite
from casinductor.store.store import Store
from casinductor.trust.policy import Carry, Trust


@dataclass
class ResignReport:
    """The cache, the manifest that was published, and how many it replaced."""

    cache: str
    manifest: str | None = None
    manifests: int = 0
    groups: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def carrying(trust: Trust, carry: Carry) -> Trust:
    """The same keys, for which other manifests count as well while they are carried over."""
    return replace(trust, carry=carry)


def resign(
    store: Store, cache: CacheId, *, grace: float | None = None, wait: Wait = time.sleep
) -> ResignReport:
    """Publish anew what nobody trusted signed of a cache, in a store opened by :func:`carrying`.

    Raises :class:`~casinductor.errors.Untrusted` where this process may not sign for it.
    """
    store.require_there()
    store.format_problem()
    store.refresh(cache.gpu, cache.key).log()
    store.trust.require_signer(str(cache))
    signed = {o.ulid for o in store.catalog.manifests.origins(cache) if o.signer}
    found = versions(store.catalog, cache, even_hidden=True)
    old = {version.published for version in found} - signed
    report = ResignReport(str(cache))
    if not old:
        return report
    store.prepare_to_write()
    done = rewrite(store, cache, old, Terms(store.read_marks(), lend=True))
    report.manifest, report.groups = done.manifest, done.groups
    report.manifests = len(done.replaced)
    retire(store, cache, done.replaced, grace=grace, wait=wait)
    return report
