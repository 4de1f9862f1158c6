"""Who signed what a store holds, as this process' keys tell.

Invariant: a name stands for a signature that was verified just now; everything else is a reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from casinductor.store.format.names import CacheId
from casinductor.store.index.manifests import UNVERIFIED
from casinductor.store.store import Store


@dataclass(frozen=True)
class SignerLine:
    """How many manifests of a cache have this signer and verdict."""

    cache: str
    signer: str
    verdict: str
    manifests: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def signer_lines(store: Store, cache: CacheId | None = None) -> list[SignerLine]:
    """The signers of one cache or all; raises what listing raises."""
    store.require_there()
    store.format_problem()
    scope = (cache.gpu, cache.key) if cache else (None, None)
    store.refresh(*scope).log()
    counts: Counter[tuple[str, str, str]] = Counter()
    for owner in [cache] if cache else store.catalog.manifests.caches():
        for origin in store.catalog.manifests.origins(owner):
            signer, verdict = _verdict(origin.signer)
            counts[str(owner), signer, verdict] += 1
    for owner, reason, count in store.catalog.foreign.by_cache(*scope):
        counts[str(owner), "", reason] += count
    return [SignerLine(*key, count) for key, count in sorted(counts.items())]


def _verdict(signer: str) -> tuple[str, str]:
    if not signer:
        return "", "believed: no keys are set"
    if signer == UNVERIFIED:
        return "", "believed, signature not looked at: no keys are set"
    return signer, "believed"
