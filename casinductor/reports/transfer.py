"""What a restore and a sync did, as typed records.

Invariant: every number counts what really happened (bytes are bytes, seconds are wall-clock), and
``summary()`` is one line that says no more than the numbers do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from casinductor.reports.warmup import WarmupReport, not_shared
from casinductor.util.human import counted

#: Told the bytes done and the bytes in all, some hundred times in an operation at most.
Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


@dataclass
class RestoreReport:
    """A restore of ``cache``. ``state`` identifies what the cache held for this worker ("" if
    nothing); ``refused`` counts groups by reason; ``lost`` groups whose blobs are missing or bad;
    ``bytes_read`` came from the store and ``bytes_nearby`` from this node's directory,
    ``bytes_written`` went to the local directory.
    """

    cache: str
    source: Literal["manifests", "zip", "nothing"] = "nothing"
    state: str = ""
    groups: int = 0
    groups_restored: int = 0
    files: int = 0
    files_written: int = 0
    files_kept: int = 0
    bytes_read: int = 0
    bytes_nearby: int = 0
    bytes_written: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    damage: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def groups_refused(self) -> int:
        return sum(self.refused.values())

    def as_dict(self) -> dict[str, Any]:
        """For JSON: ``refused`` is the number of groups, ``refusals`` says why."""
        fields = asdict(self)
        fields["refusals"] = fields.pop("refused")
        return {**fields, "refused": self.groups_refused}

    def summary(self) -> str:
        if self.source == "nothing":
            return f"{self.cache}: nothing stored yet; this worker compiles ({self.seconds:.2f} s)"
        text = (
            f"{self.cache}: restored {self.files_written} of {counted(self.files, 'file')} from "
            f"{counted(self.groups, 'group')} ({self.bytes_read:,} bytes read, "
            f"{self.bytes_written:,} written, {self.seconds:.2f} s)"
        )
        for reason, count in self.refused.items():
            text += f"; {counted(count, 'group')} refused: {reason}"
        if self.lost:
            text += f"; {counted(self.lost, 'group')} lost to damage"
        return "; ".join([text, *self.notes, *self.damage])


@dataclass
class SyncReport:
    """A sync into ``cache``. ``manifest`` is the ULID published, None if there was nothing new;
    ``equivalent`` groups were stored by another worker before; ``foreign`` files belong to other
    caches; ``unstable`` files were still changing and are left for the next sync; ``unknown`` files
    are of no kind that this version knows, the first of them ``unknown_paths``; ``warmup`` is
    what happened since the restore, if there was one; ``merged`` manifests became one.
    """

    cache: str
    manifest: str | None = None
    files_seen: int = 0
    files_added: int = 0
    groups_seen: int = 0
    groups_added: int = 0
    equivalent: int = 0
    foreign: int = 0
    unstable: int = 0
    junk: int = 0
    unknown: int = 0
    unknown_paths: list[str] = field(default_factory=list)
    opaque: int = 0
    bytes_added: int = 0
    bytes_new: int = 0
    bytes_uploaded: int = 0
    attempts: int = 0
    merged: int = 0
    damage: list[str] = field(default_factory=list)
    seconds: float = 0.0
    warmup: WarmupReport | None = None

    def as_dict(self) -> dict[str, Any]:
        fields = asdict(replace(self, warmup=None))
        return {**fields, "warmup": self.warmup.as_dict() if self.warmup else None}

    def summary(self) -> str:
        text = f"{self.cache}: " + (
            f"published {counted(self.groups_added, 'group')}, "
            f"{counted(self.files_added, 'file')}, {self.bytes_uploaded:,} bytes"
            if self.manifest
            else "nothing new to publish"
        )
        text += f" ({counted(self.files_seen, 'file')} seen, {self.seconds:.2f} s)"
        if self.unstable:
            text += f"; {counted(self.unstable, 'file')} still changing"
        if self.unknown and self.warmup is None:  # else the warm-up's line says so
            text += f"; {not_shared(self.unknown_paths, self.unknown)}"
        if self.merged:
            text += f"; {counted(self.merged, 'manifest')} merged"
        return "; ".join([text, *self.damage])
