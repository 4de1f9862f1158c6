"""Every setting in one typed object, read from ``CASINDUCTOR_*`` environment variables.

Invariant: settings are read when an operation starts, never at import, and a value that makes no
sense is an :class:`~casinductor.errors.InvalidName` that names the variable.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from casinductor.errors import InvalidName

RestoreMode = Literal["needed", "all"]

DEFAULT_STORE = "/data/inductor-caches"
DEFAULT_LOCAL_DIR = "/tmp/inductor-cache"  # noqa: S108 - the path that fal.toolkit uses

DEFAULT_NODE_BYTES = 10 << 30


def default_state_dir() -> Path:
    """Where this user's private catalogs lie: the temporary directory, which is a local disk."""
    return Path(tempfile.gettempdir()) / f"casinductor-{os.getuid()}"


@dataclass(frozen=True)
class Settings:
    """What a worker is told about its store and its own disk. Deadlines are seconds."""

    store: str = DEFAULT_STORE
    """A directory, or an address such as ``s3://bucket/prefix``."""
    local_dir: Path = Path(DEFAULT_LOCAL_DIR)
    """The ``TORCHINDUCTOR_CACHE_DIR`` to use: the same path on all workers."""
    gpu_type: str | None = None
    """The GPU type; None detects it."""
    restore: RestoreMode = "needed"
    """``needed`` materializes what a cache hit reads, ``all`` everything stored."""
    restore_deadline: float = 60.0
    """How long a restore may take before the worker compiles instead."""
    sync_deadline: float = 120.0
    """How long a sync may take before it gives up."""
    state_dir: Path | None = None
    """Where this machine keeps catalogs: a local disk that only this user can write."""
    trace: bool = True
    """Listen to torch's structured trace between a restore and a sync."""
    warmups: bool = True
    """Keep records of warm-ups in the store."""
    compact_after: int = 16
    """A sync that finds this many manifests of its cache merges them; 0 for never."""
    node_dir: Path | None = None
    """The host cache: a directory that all processes of this host share."""
    node_bytes: int = DEFAULT_NODE_BYTES
    """The size in bytes that the host cache is kept below."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the ``CASINDUCTOR_*`` variables; an empty one counts as unset."""
        env = os.environ if environ is None else environ

        def text(name: str) -> str | None:
            return env.get(f"CASINDUCTOR_{name}") or None

        state, node = text("STATE_DIR"), text("NODE_DIR")
        return cls(
            store=text("STORE") or DEFAULT_STORE,
            local_dir=Path(text("LOCAL_DIR") or DEFAULT_LOCAL_DIR),
            gpu_type=text("GPU_TYPE"),
            restore=parse_restore(text("RESTORE") or "needed", "CASINDUCTOR_RESTORE"),
            restore_deadline=_seconds(text("RESTORE_DEADLINE"), "RESTORE_DEADLINE", 60.0),
            sync_deadline=_seconds(text("SYNC_DEADLINE"), "SYNC_DEADLINE", 120.0),
            state_dir=Path(state) if state else None,
            trace=_switch(text("TRACE"), "TRACE"),
            warmups=_switch(text("WARMUPS"), "WARMUPS"),
            node_dir=Path(node) if node else None,
            node_bytes=_count(text("NODE_BYTES"), "NODE_BYTES", DEFAULT_NODE_BYTES),
            compact_after=_count(text("COMPACT_AFTER"), "COMPACT_AFTER", 16),
        )


def parse_restore(value: str, where: str) -> RestoreMode:
    """``needed`` or ``all``; anything else raises :class:`InvalidName` naming ``where``."""
    if value == "needed":
        return "needed"
    if value == "all":
        return "all"
    raise InvalidName(f"{where} is {value!r}; it must be 'needed' or 'all'")


def _switch(value: str | None, name: str) -> bool:
    if value not in (None, "0", "1"):
        raise InvalidName(f"CASINDUCTOR_{name} is {value!r}; it must be 0 or 1")
    return value != "0"


def _count(value: str | None, name: str, default: int) -> int:
    if value is None:
        return default
    if not value.isdecimal() or len(value) > 15:
        raise InvalidName(f"CASINDUCTOR_{name} is {value!r}; it must be a whole number, 0 or more")
    return int(value)


def _seconds(value: str | None, name: str, default: float) -> float:
    if value is None:
        return default
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise InvalidName(
            f"CASINDUCTOR_{name} is {value!r}; it must be a number of seconds above 0"
        )
    return seconds
