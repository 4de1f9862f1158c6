"""A cache as a block of Python: restored before it, published after it, and torch pointed at it.

Invariant: torch is pointed at the local directory only once that was restored, or seen to be
usable; what the body raised always goes on, whatever becomes of the sync.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING

from casinductor.errors import CasinductorError
from casinductor.settings import Settings, own_torch_dir
from casinductor.util.voice import say, warn

if TYPE_CHECKING:
    from typing_extensions import Self

    from casinductor.reports.transfer import RestoreReport, SyncReport
    from casinductor.store.format.names import CacheId

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


class Block:
    """What makes :class:`~casinductor.cache.Cache` a context manager."""

    restored: RestoreReport | None = None
    """What the restore at the beginning of the block did."""
    synced: SyncReport | None = None
    """What the sync at its end did, with the warm-up's report in ``synced.warmup``."""

    id: CacheId
    """Its GPU type and key; as text ``GPU/key``."""
    settings: Settings
    """What it was opened with."""

    def __repr__(self) -> str:
        return f"Cache({str(self.id)!r}, store={self.settings.store!r}, root={self.root!r})"

    def __enter__(self) -> Self:
        self.restored = self.restore()
        point_torch_at(self.root)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.synced = self.sync()
        except CasinductorError as fault:
            if error is None:
                raise
            warn(f"cannot sync behind what the block raised: {fault}", fault)
        finally:
            self.close()

    @property
    @abstractmethod
    def root(self) -> str: ...

    @abstractmethod
    def restore(self) -> RestoreReport: ...

    @abstractmethod
    def sync(self) -> SyncReport: ...

    @abstractmethod
    def close(self) -> None: ...


def point_torch_at(root: str) -> None:
    """Assign the variable: importing torch._dynamo has set it to a default of its own.

    torch also fixes TRITON_CACHE_DIR below the directory it saw first; that value is dropped, one
    that the user chose is kept.
    """
    before = os.environ.get(_VARIABLE)
    chosen = own_torch_dir(os.environ)
    if chosen and os.path.abspath(chosen) != root:
        say(f"torch compiles in {root} (CASINDUCTOR_LOCAL_DIR) instead of {chosen} ({_VARIABLE})")
    os.environ[_VARIABLE] = root
    triton = os.environ.get("TRITON_CACHE_DIR")
    if before and triton and before != root and triton.startswith(os.path.join(before, "triton")):
        del os.environ["TRITON_CACHE_DIR"]
