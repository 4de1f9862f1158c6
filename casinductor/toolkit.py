"""Drop-in for the four functions of ``fal.toolkit``: same names, arguments and return types.

Invariant: whatever is wrong with the library, the store, a setting or a directory is one line and
never raised, and torch then compiles where it would have without us: ``TORCHINDUCTOR_CACHE_DIR`` is
assigned only once the local directory was seen to be usable. Only a key that no store could hold is
an error, :class:`~casinductor.errors.InvalidName`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from casinductor.block import point_torch_at
from casinductor.cache import Cache
from casinductor.companion.live import LIVE
from casinductor.errors import CasinductorError
from casinductor.inductor.gpu import get_gpu_type
from casinductor.reports.transfer import RestoreReport
from casinductor.settings import Settings, unknown_variables
from casinductor.store.format.names import check_key
from casinductor.termination import publish_on_termination
from casinductor.util.voice import say, warn

if TYPE_CHECKING:
    from casinductor.storm.leader import Leader

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"

#: The caches loaded in this process, by what names them: variables as they were written, as a
#: program may change its directory meanwhile.
_loaded: dict[tuple[str | None, ...], Cache] = {}
#: Those of them that this process compiles for workers that wait.
_leading: dict[tuple[str | None, ...], Leader] = {}


def load_inductor_cache(cache_key: str) -> str:
    """Restore a cache into the local directory and point torch at it.

    Returns a string that identifies the restored state, to hand to :func:`sync_inductor_cache`;
    empty if nothing was restored. Raises :class:`InvalidName` only.
    """
    check_key(cache_key)
    _loaded.pop(_name(cache_key), None)
    try:
        LIVE.end()
        return _load(cache_key)
    except Exception as error:
        warn(f"{cache_key}: cannot restore, this worker goes on without: {error}", error)
        return ""


def _load(cache_key: str) -> str:
    cache = Cache(cache_key, settings=_settings())
    if reason := cache.unusable():
        where = os.environ.get(_VARIABLE) or "torch's default directory"
        warn(
            f"{cache.id}: cannot use {cache.root} ({reason}), so nothing is restored or shared; "
            f"torch compiles in {where}"
        )
        return ""
    point_torch_at(cache.root)
    _warn_of_others(cache)
    _loaded[_name(cache_key)] = cache
    try:
        report = cache.restore()
    except Exception as error:
        _log_fault("restore", cache, error)
        return ""
    (warn if report.alarming else say)(report.summary())
    _leading.pop(_name(cache_key), None)
    if cache.settings.wait:
        return _lead_or_wait(cache_key, cache, report)
    LIVE.begin(cache, cache.settings.live)
    return report.state


def _lead_or_wait(cache_key: str, cache: Cache, report: RestoreReport) -> str:
    """Compile for others or wait for one that does; the state after the last restore."""
    from casinductor.storm.cold import LIVE_SECONDS, lead_or_wait

    reports = [report]

    def tell(sentence: str, found: RestoreReport | None) -> None:
        say(sentence)
        reports.extend([found] if found else [])

    leader = lead_or_wait(cache, report, tell)
    if leader is not None:
        _leading[_name(cache_key)] = leader
    LIVE.begin(cache, cache.settings.live or (LIVE_SECONDS if leader else 0.0))
    return reports[-1].state


def sync_inductor_cache(cache_key: str, unpacked_dir_hash: str) -> None:  # noqa: ARG001
    """Publish what came or changed since the load that returned ``unpacked_dir_hash``.

    With nothing new, nothing is published. Without a load in this process everything shareable
    in the local directory is published. Where something moved ``TORCHINDUCTOR_CACHE_DIR``
    meanwhile, what torch wrote there since is published too. Raises :class:`InvalidName` only.
    """
    check_key(cache_key)
    try:
        _sync(cache_key)
    except Exception as error:
        warn(f"{cache_key}: cannot sync, this worker goes on without: {error}", error)


def _sync(cache_key: str) -> None:
    cache = _loaded.get(_name(cache_key))
    if cache is None:
        cache = Cache(cache_key, settings=_settings())
        if not os.path.isdir(cache.root):
            say(f"{cache.id}: nothing to publish, there is no directory {cache.root}")
            return
    LIVE.end()
    moved = _moved_from(cache)
    warmup = cache.warmup()
    try:
        report = cache.sync()
    except Exception as error:
        _log_fault("sync", cache, error)
    else:
        warmup = report.warmup
        say(report.summary())
    finally:
        if moved is not None:
            _sync_moved(cache, moved)
        cache.close()
        if leader := _leading.pop(_name(cache_key), None):
            leader.finish()
        if cache.snapshot is not None:
            LIVE.begin(cache, cache.settings.live)  # traffic compiles more behind the block
    if warmup is not None:
        (warn if warmup.alarming else say)(warmup.summary())


@contextmanager
def synchronized_inductor_cache(cache_key: str) -> Iterator[None]:
    """Load on entry, sync on exit, also when the body raises (whose error then goes on).

    While the block is open and nothing else handles SIGTERM, that signal publishes what is finished
    before it ends the process.
    """
    dir_hash = load_inductor_cache(cache_key)
    with publish_on_termination(lambda: sync_inductor_cache(cache_key, dir_hash)):
        try:
            yield
        finally:
            sync_inductor_cache(cache_key, dir_hash)


def _settings() -> Settings:
    """The environment's settings, defaults in place of what makes no sense, which is said."""
    settings, problems = Settings.tolerant()
    for sentence in (*problems, *unknown_variables()):
        warn(sentence, once=True)
    return settings


def loaded_cache(cache_key: str) -> Cache | None:
    """The cache that :func:`load_inductor_cache` loaded in this process, if it could."""
    return _loaded.get(_name(cache_key))


def _name(cache_key: str) -> tuple[str | None, ...]:
    names = ("CASINDUCTOR_STORE", "CASINDUCTOR_LOCAL_DIR", "CASINDUCTOR_GPU_TYPE")
    return (cache_key, *map(os.environ.get, names))


def _log_fault(verb: str, cache: Cache, error: Exception) -> None:
    """A store's fault is one line; anything else is a fault of ours and shows where."""
    ours = not isinstance(error, CasinductorError)
    message = f"{cache.id}: cannot {verb}, this worker goes on without: {error}"
    warn(message, error if ours else None)


def _warn_of_others(cache: Cache) -> None:
    """Torch has one cache directory for all threads, so two open caches cannot be told apart."""
    others = sorted(str(c.id) for c in _loaded.values() if c.is_open and c.id != cache.id)
    if others:
        warn(
            f"{cache.id} is opened while {', '.join(others)} is open: torch compiles both into one "
            "directory, so each may publish what the other compiled"
        )


def _moved_from(cache: Cache) -> str | None:
    """Where torch compiles now, if something moved it away from a cache that was loaded."""
    now = os.environ.get(_VARIABLE)
    if cache.snapshot is None or not now or os.path.realpath(now) == os.path.realpath(cache.root):
        return None
    return os.path.abspath(now)


def _sync_moved(cache: Cache, root: str) -> None:
    """Publish what torch wrote since the load in the directory it was moved to."""
    warn(
        f"{cache.id}: {_VARIABLE} was moved from {cache.root} to {root}, so torch did not read "
        "what was restored; what it compiled there is published from there"
    )
    try:
        say(cache.moved_to(root).sync().summary())
    except Exception as error:
        _log_fault(f"sync {root}", cache, error)


__all__ = [
    "get_gpu_type",
    "load_inductor_cache",
    "sync_inductor_cache",
    "synchronized_inductor_cache",
]
