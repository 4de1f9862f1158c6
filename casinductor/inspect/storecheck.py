"""Checks a store from a worker's side: reachable, how it publishes, how long a restore would take.

Invariant: leaves nothing in the store but for a moment one probe, which collections remove too if
this process dies.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

from casinductor.errors import CasinductorError, StoreReadOnly, StoreUnavailable
from casinductor.inductor.fingerprint import worker_fingerprint
from casinductor.inductor.requirements import refusal
from casinductor.inspect.checkup import Checkup, ok
from casinductor.store.backends.filesystem import FilesystemBackend
from casinductor.store.format import names
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import new_ulid
from casinductor.store.index.places import Plan
from casinductor.store.index.union import Union, resolve, versions
from casinductor.store.read.fetch import planned_bytes, planned_requests
from casinductor.store.read.files import Tables
from casinductor.store.store import Store
from casinductor.util.human import size
from casinductor.util.mounts import filesystem_type, is_local

_ASKED = 7
_SLOW_SECONDS = 0.1
_SPARE_BYTES = 2 << 30
_SPARE_SHARE = 0.05


def check_store(store: Store, cache: CacheId | None, deadline_seconds: float) -> list[Checkup]:
    """All checks of the store; of one cache too, if it is named. Raises nothing for its faults."""
    found = [_reachable(store)]
    if found[0].status == "problem":
        return found
    found += [_latency(store), _writes(store)]
    if isinstance(store.backend, FilesystemBackend):
        found += space("store", store.backend.root)
    if cache is not None:
        found += _of_cache(store, cache, deadline_seconds)
    return found


def _reachable(store: Store) -> Checkup:
    where = store.backend.url
    try:
        problem = store.format_problem()
        store.backend.list(f"{names.CONDEMNED}/")
    except CasinductorError as error:
        return Checkup(
            "store",
            "problem",
            str(error),
            "mount it, or set CASINDUCTOR_STORE; until then every worker compiles",
        )
    if problem == "missing":
        return Checkup(
            "store", "advice", f"{where} is empty", "nothing: the first sync makes it a store"
        )
    if problem:
        return Checkup("store", "warning", f"FORMAT is {problem}", "the next sync writes it anew")
    told = f"{where} is a store of this format"
    if isinstance(store.backend, FilesystemBackend):
        kind = filesystem_type(store.backend.root) or "an unknown filesystem"
        stale = f"listings may be {store.backend.staleness:g} s old"
        told += f", on {kind}, published by {store.backend.mode}; {stale}"
    elif store.backend.mode == "overwrite":
        told += "; the server ignores conditional writes, so names are asked for first"
    return ok("store", told)


def _timed(work: Callable[[], object]) -> float:
    """The median of some runs, in seconds."""
    times = []
    for _ in range(_ASKED):
        start = time.perf_counter()
        with suppress(StoreUnavailable):  # an absent name takes as long to look up
            work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _latency(store: Store) -> Checkup:
    seconds = _timed(lambda: store.backend.get(names.FORMAT, 64 << 10))
    told = f"reading a small object takes {seconds * 1000:.2f} ms"
    if seconds > _SLOW_SECONDS:
        advice = "look at the mount or network; compact caches, so that a restore reads few objects"
        return Checkup("latency", "warning", told, advice)
    return ok("latency", told)


def _writes(store: Store) -> Checkup:
    name = names.probe(new_ulid())
    start = time.perf_counter()
    try:
        store.backend.put(name, [b"doctor"])
        seconds = time.perf_counter() - start
        store.backend.delete(name)
    except StoreReadOnly:
        return Checkup(
            "writes",
            "warning",
            "this worker may not write to the store: it publishes nothing, and where it may not "
            "write below uses/ either, gc --keep-within does not know what it uses",
            "nothing if others publish; let it create objects below uses/ (docs/cli.md, gc)",
        )
    except CasinductorError as error:
        advice = "free space or mend the mount; syncs publish nothing until then"
        return Checkup("writes", "problem", str(error), advice)
    return ok("writes", f"publishing a small object takes {seconds * 1000:.2f} ms")


def space(name: str, path: str) -> list[Checkup]:
    """Free bytes and inodes below an existing directory."""
    try:
        status = os.statvfs(path)
    except OSError as error:
        return [Checkup(f"{name} space", "warning", f"cannot be told: {error}", "look by hand")]
    free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    told = f"{size(free)} of {size(total)} free"
    checks = [ok(f"{name} space", told)]
    if free < min(_SPARE_BYTES, _SPARE_SHARE * total):
        advice = "run casinductor gc --apply with --keep-within or --max-bytes, or grow the disk"
        checks = [Checkup(f"{name} space", "warning", told, advice)]
    if status.f_files and status.f_favail < _SPARE_SHARE * status.f_files:
        told = f"{status.f_favail:,} of {status.f_files:,} inodes free"
        advice = "remove small files; casinductor compact makes few packs of many"
        checks.append(Checkup(f"{name} inodes", "warning", told, advice))
    return checks


def _of_cache(store: Store, cache: CacheId, deadline_seconds: float) -> list[Checkup]:
    start = time.perf_counter()
    refreshed = store.refresh(cache.gpu, cache.key)
    seconds = time.perf_counter() - start
    if not refreshed.listed:
        return [
            Checkup(
                "cache", "advice", f"{cache} is empty", "nothing: the first worker compiles for it"
            )
        ]
    checks = []
    if refreshed.damage:
        checks.append(Checkup("cache", "problem", refreshed.damage[0], "run casinductor repair"))
    worker = worker_fingerprint()
    union = resolve(versions(store.catalog, cache), lambda demands: refusal(demands, worker))
    cost, backend = _cost(store, union), store.backend
    told = (
        f"{cache}: {refreshed.listed:,} manifests listed and read in {seconds:.2f} s; a restore "
        f"reads {size(planned_bytes(cost, backend))} in {planned_requests(cost, backend)} requests"
    )
    if refreshed.listed > 100:
        checks.append(
            Checkup("cache", "advice", told, f"run casinductor compact {cache.key}, once")
        )
    elif seconds > deadline_seconds / 2:
        advice = "raise CASINDUCTOR_RESTORE_DEADLINE or run casinductor compact"
        checks.append(Checkup("cache", "warning", told, advice))
    else:
        checks.append(ok("cache", told))
    return checks + _refused(union, cache)


def _cost(store: Store, union: Union) -> Plan:
    """What a default restore into an empty directory would fetch."""
    plan: Plan = defaultdict(list)
    tables = Tables(store.catalog)
    for wanted in store.catalog.groups.files(union.groups.values(), needed=True).values():
        for file in wanted:
            for frame, located in tables.places(file):
                plan[frame].append(located)
    return plan


def _refused(union: Union, cache: CacheId) -> list[Checkup]:
    lacking = {
        reason: len({version.id for version in those} - union.groups.keys())
        for reason, those in union.refused.items()
    }
    checks = [
        Checkup(
            "producers",
            "warning",
            f"{count:,} groups of {cache} are refused here: {reason}",
            "run one image on machines of one kind, or give this kind a cache key of its own; "
            "what is refused is compiled once more here and kept beside it",
        )
        for reason, count in lacking.items()
        if count
    ]
    return checks or [ok("producers", f"this worker may load all of {cache}")]


def local_or_network(path: str) -> str:
    """The filesystem of a path in words."""
    kind = filesystem_type(path) or "an unknown filesystem"
    return f"{kind} (local)" if is_local(path) else f"{kind} (network)"
