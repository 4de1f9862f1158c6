"""The collectors' protocol: how packs and manifests are removed beside running syncs.

Invariant: a pack or a used manifest is deleted only after its tombstone, which is never lifted,
was visible for the grace time, and after everything that still counts on it was published anew,
handshake included, for as long again (``docs/protocol.md``). A collector that dies anywhere
leaves tombstones, which the next one takes over, and nothing else to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from casinductor.errors import Damaged, NameTaken, StoreUnavailable, Untrusted
from casinductor.store.format import names
from casinductor.store.format.names import CacheId
from casinductor.store.grace import Wait, grace_of, pause
from casinductor.store.index.groups import Keep, Version
from casinductor.store.index.places import Unusable
from casinductor.store.maintain.rewrite import Terms, require_keys, rewrite
from casinductor.store.store import Store

#: What is to be kept of a cache some of whose manifests are condemned.
KeepFor = Callable[[CacheId], Keep]
Manifests = dict[str, CacheId]


@dataclass
class Swept:
    """ULIDs of the packs and manifests removed, bytes written to move what was still needed, and
    what could not be moved and therefore stays, in sentences.
    """

    packs: list[str] = field(default_factory=list)
    manifests: list[str] = field(default_factory=list)
    moved: int = 0
    problems: list[str] = field(default_factory=list)


def require_all_manifests(store: Store) -> None:
    """Read every manifest of the store; one that cannot be read stops all collection.

    Raises :class:`Damaged`, as nobody can tell which packs such a manifest needs,
    :class:`~casinductor.errors.StoreFormat` for a store of a later format and what
    :func:`require_keys` raises.
    """
    store.require_there()
    store.format_problem()  # a later format's store is none of this version's business
    damage = store.refresh().damage
    require_keys(store)
    if damage:
        raise Damaged(
            f"{len(damage)} manifests of {store.backend.url} cannot be read, so nobody "
            f"knows which packs they need; run casinductor repair first: {damage[0]}"
        )


def retire(
    store: Store,
    cache: CacheId,
    manifests: Iterable[str],
    *,
    grace: float | None = None,
    wait: Wait = time.sleep,
) -> list[str]:
    """Delete manifests that a published one replaces, and the packs that only they named.

    The caller has seen the handshake of what replaces them. Returns the packs' ULIDs.
    """
    seconds = grace_of(store.backend, grace)
    old = set(manifests)
    suspects = store.catalog.packs.referenced() - store.catalog.packs.referenced(old)
    pause(seconds, wait)
    for ulid in sorted(old):
        store.backend.delete(cache.manifest(ulid))
    require_all_manifests(store)
    return sweep(store, suspects - store.catalog.packs.referenced(), grace=seconds, wait=wait).packs


def sweep(
    store: Store,
    packs: set[str],
    manifests: Manifests | None = None,
    *,
    replaced: Manifests | None = None,
    keep_for: KeepFor | None = None,
    grace: float | None = None,
    wait: Wait = time.sleep,
) -> Swept:
    """Remove ``packs``, ``manifests`` that may be in use, and ``replaced`` ones that are not.

    ``keep_for`` is asked, after the grace time, what to keep of a cache that loses manifests.
    """
    doomed, done, left = dict(manifests or {}), Swept(), dict(replaced or {})
    if not packs and not doomed and not left:
        return done
    seconds = grace_of(store.backend, grace)
    condemn(store, packs | doomed.keys())
    pause(seconds, wait)
    require_all_manifests(store)
    going = doomed.keys() | left.keys()
    again = partial(pause, seconds, wait)
    evacuated, stuck = evacuate(store, packs, doomed, going, keep_for, done, again)
    if evacuated:
        pause(seconds, wait)
    if stuck:
        packs = packs - store.catalog.packs.referenced((going - stuck) | evacuated.keys())
    packs = packs - store.catalog.foreign.packs()  # not believed, but perhaps somebody's
    gone = {**doomed, **left, **evacuated}
    for ulid in sorted(gone.keys() - stuck):
        store.backend.delete(gone[ulid].manifest(ulid))
        done.manifests.append(ulid)
    for ulid in sorted(packs):
        store.backend.delete(names.pack(ulid))
    done.packs = sorted(packs)
    pause(seconds, wait)
    for ulid in sorted(packs | (doomed.keys() - stuck)):
        store.backend.delete(names.condemned(ulid))
    return done


def condemn(store: Store, ulids: Iterable[str]) -> None:
    """Publish tombstones; another collector's counts as well."""
    for ulid in sorted(ulids):
        try:
            store.backend.put(names.condemned(ulid), [b""])
        except NameTaken:
            continue


def evacuate(
    store: Store,
    packs: set[str],
    doomed: Manifests,
    going: set[str],
    keep_for: KeepFor | None,
    done: Swept,
    again: Callable[[], None],
) -> tuple[Manifests, set[str]]:
    """Publish anew what is still needed of condemned packs and manifests.

    Returns the manifests that this replaces, and those of a cache where it failed: they stay.
    """
    work: dict[CacheId, set[str]] = {}
    known = store.catalog.manifests.caches_of()
    for ulid in store.catalog.packs.naming(packs) - going:
        work.setdefault(known[ulid], set()).add(ulid)
    for ulid in doomed.keys() & known.keys():
        if keep_for is not None:
            work.setdefault(known[ulid], set()).add(ulid)
    replaced: Manifests = {}
    stuck: set[str] = set()
    barred = _barred(store, packs) if work else Unusable()  # once: a large store takes seconds
    for cache in sorted(work):
        keeps = _keeps(cache, doomed, keep_for)
        problem = ""
        for _ in range(2):
            try:
                store.trust.require_signer(str(cache))
                done.moved += _move(store, cache, work[cache], barred, keeps)
                replaced.update(dict.fromkeys(work[cache], cache))
                break
            except Untrusted as error:
                stuck |= work[cache]  # without a key nothing can be moved: it stays
                done.problems.append(str(error))
                break
            except (Damaged, StoreUnavailable) as error:
                problem = f"{cache}: {error}"
                again()
                require_all_manifests(store)
                barred = _barred(store, packs)
                work[cache] &= store.catalog.manifests.caches_of().keys()
                if not work[cache]:
                    break  # another collector has taken care of them meanwhile
        else:
            stuck |= work[cache]
            done.problems.append(problem)
    return replaced, stuck


def _keeps(cache: CacheId, doomed: Manifests, keep_for: KeepFor | None) -> Keep | None:
    if keep_for is None:
        return None
    wanted = keep_for(cache)

    def keeps(version: Version) -> bool:
        return version.published not in doomed or wanted(version)

    return keeps


def _barred(store: Store, packs: set[str]) -> Unusable:
    """What nothing that is published now may rely on."""
    barred = store.read_marks()
    barred.packs |= packs | (store.catalog.packs.referenced() - set(store.packs()))
    return barred


def _move(
    store: Store, cache: CacheId, manifests: set[str], barred: Unusable, keeps: Keep | None
) -> int:
    """Rewrite manifests without the barred packs; blobs that lie elsewhere stay there."""
    done = rewrite(store, cache, manifests, Terms(barred, lend=True, keeps=keeps))
    return done.bytes
