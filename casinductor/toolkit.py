"""Drop-in for the four functions of ``fal.toolkit``: same names, arguments and return types.

Invariant: a store's fault is logged and never raised; ``TORCHINDUCTOR_CACHE_DIR`` is always
assigned, so that torch compiles into the same place with a store or without. Only a key that no
store could hold is an error, :class:`~casinductor.errors.InvalidName`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from casinductor.cache import Cache
from casinductor.errors import CasinductorError, InvalidName
from casinductor.inductor.gpu import get_gpu_type

logger = logging.getLogger("casinductor")

_loaded: dict[tuple[str, str, str], Cache] = {}


def load_inductor_cache(cache_key: str) -> str:
    """Restore a cache into the local directory and point torch at it.

    Returns a string that identifies the restored state, to hand to :func:`sync_inductor_cache`;
    empty if nothing was restored. Raises :class:`InvalidName` only.
    """
    cache = Cache(cache_key)
    _point_torch_at(cache.root)
    _loaded[_name(cache)] = cache
    try:
        report = cache.restore()
    except InvalidName:
        raise
    except Exception as error:
        _log_fault("restore", cache, error)
        return ""
    logger.info("%s", report.summary())
    return report.state


def sync_inductor_cache(cache_key: str, unpacked_dir_hash: str) -> None:  # noqa: ARG001
    """Publish what came or changed since the load that returned ``unpacked_dir_hash``.

    With nothing new, nothing is published. Without a load in this process everything shareable
    in the local directory is published.
    Raises :class:`InvalidName` only.
    """
    cache = Cache(cache_key)
    cache = _loaded.get(_name(cache), cache)
    warmup = cache.warmup()
    try:
        report = cache.sync()
    except InvalidName:
        raise
    except Exception as error:
        _log_fault("sync", cache, error)
    else:
        warmup = report.warmup
        logger.info("%s", report.summary())
    finally:
        cache.close()
    if warmup is not None:
        logger.info("%s", warmup.summary())


@contextmanager
def synchronized_inductor_cache(cache_key: str) -> Iterator[None]:
    """Load on entry, sync on exit, also when the body raises (whose error then goes on)."""
    dir_hash = load_inductor_cache(cache_key)
    try:
        yield
    finally:
        sync_inductor_cache(cache_key, dir_hash)


def _name(cache: Cache) -> tuple[str, str, str]:
    return cache.settings.store, str(cache.id), cache.root


def _log_fault(verb: str, cache: Cache, error: Exception) -> None:
    """A store's fault is one line; anything else is a fault of ours and shows where."""
    ours = not isinstance(error, CasinductorError)
    logger.warning(
        "%s: cannot %s, this worker goes on without: %s", cache.id, verb, error, exc_info=ours
    )


def _point_torch_at(root: str) -> None:
    """Assign the variable: importing torch._dynamo has set it to a default of its own.

    torch also fixes TRITON_CACHE_DIR below the directory it saw first; that value is dropped, one
    that the user chose is kept.
    """
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = root
    triton = os.environ.get("TRITON_CACHE_DIR")
    if before and triton and before != root and triton.startswith(os.path.join(before, "triton")):
        del os.environ["TRITON_CACHE_DIR"]


__all__ = [
    "get_gpu_type",
    "load_inductor_cache",
    "sync_inductor_cache",
    "synchronized_inductor_cache",
]
