"""casinductor: share what torch.compile produces between GPU workers.

Invariant: importing this package imports neither torch nor anything heavy; names are loaded when
they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casinductor.cache import Cache
    from casinductor.errors import CasinductorError
    from casinductor.reports.transfer import RestoreReport, SyncReport
    from casinductor.reports.warmup import WarmupReport
    from casinductor.settings import Settings
    from casinductor.toolkit import (
        get_gpu_type,
        load_inductor_cache,
        sync_inductor_cache,
        synchronized_inductor_cache,
    )

__version__ = "0.1.0"

_HOME = {
    "Cache": "cache",
    "CasinductorError": "errors",
    "RestoreReport": "reports.transfer",
    "SyncReport": "reports.transfer",
    "Settings": "settings",
    "get_gpu_type": "toolkit",
    "load_inductor_cache": "toolkit",
    "sync_inductor_cache": "toolkit",
    "synchronized_inductor_cache": "toolkit",
    "WarmupReport": "reports.warmup",
}

__all__ = [
    "Cache",
    "CasinductorError",
    "RestoreReport",
    "Settings",
    "SyncReport",
    "WarmupReport",
    "__version__",
    "get_gpu_type",
    "load_inductor_cache",
    "sync_inductor_cache",
    "synchronized_inductor_cache",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'casinductor' has no attribute {name!r}")
    return getattr(import_module(f"casinductor.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
