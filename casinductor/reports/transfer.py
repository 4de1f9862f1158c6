"""What a restore and a sync did, as typed records.

Invariant: every number counts what really happened (bytes are bytes, seconds are wall-clock), and
``summary()`` is one line that says no more than the numbers do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from casinductor.reports.warmup import WarmupReport, not_shared
from casinductor.util.human import counted

#: Told the bytes done and the bytes in all, some hundred times in an operation at most.
Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


class RestoreReport(msgspec.Struct):
    """What one restore did. Bytes are bytes, ``seconds`` wall-clock."""

    cache: str
    """The cache, as ``GPU/key``."""
    source: Literal["manifests", "zip", "nothing"] = "nothing"
    """Where it came from: a store's manifests, a zip of fal.toolkit, or nothing was stored."""
    state: str = ""
    """Identifies what the cache held for this worker; "" if nothing."""
    groups: int = 0
    """Groups with files that this worker wants."""
    groups_restored: int = 0
    """Groups of which something had to be written, and was."""
    files: int = 0
    """Files that this worker wants."""
    files_written: int = 0
    """Files written to the local directory; the others were there already."""
    files_kept: int = 0
    """Autotuning results left as they were, since this worker tuned by itself."""
    bytes_read: int = 0
    """Bytes of frames and manifests that came from the store."""
    bytes_nearby: int = 0
    """Bytes taken from the host cache instead."""
    bytes_written: int = 0
    """Bytes written to the local directory."""
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    """How many groups this worker may not load, by reason."""
    elsewhere: dict[str, int] = msgspec.field(default_factory=dict)
    """How many groups of families without a directory here were left out, by family."""
    untrusted: dict[str, int] = msgspec.field(default_factory=dict)
    """How many manifests are not believed, by reason: only where keys are set."""
    lost: int = 0
    """Groups whose blobs are missing or damaged in the store."""
    damage: list[str] = msgspec.field(default_factory=list)
    """What was found damaged, a sentence each."""
    notes: list[str] = msgspec.field(default_factory=list)
    """What else a user should know, a sentence each."""
    seconds: float = 0.0
    """How long the restore took."""

    @property
    def alarming(self) -> bool:
        """Whether what was stored is lost, or none of it may run here."""
        refused = bool(self.refused) and self.source == "manifests"
        nothing = not self.groups and (refused or bool(self.untrusted))
        return bool(self.lost or self.damage or nothing)

    @property
    def groups_refused(self) -> int:
        return sum(self.refused.values())

    def as_dict(self) -> dict[str, Any]:
        """For JSON: ``refused`` is the number of groups, ``refusals`` says why."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        fields["refusals"] = fields.pop("refused")
        return {**fields, "refused": self.groups_refused}

    def summary(self) -> str:
        if self.source == "nothing" and not self.untrusted:
            return f"{self.cache}: nothing stored yet; this worker compiles ({self.seconds:.2f} s)"
        files = counted(self.files, "file")
        if self.files and not self.files_written and not self.lost:
            text = f"{self.cache}: {files} already there ({self.seconds:.2f} s)"
        else:
            text = (
                f"{self.cache}: restored {self.files_written} of {files} from "
                f"{counted(self.groups, 'group')} ({self.bytes_read:,} bytes read, "
                f"{self.bytes_written:,} written, {self.seconds:.2f} s)"
            )
        for reason, count in self.refused.items():
            text += f"; {counted(count, 'group')} refused: {reason}"
        for family, count in self.elsewhere.items():
            text += f"; {counted(count, 'group')} of family {family} left out (--family {family})"
        if self.lost:
            text += f"; {counted(self.lost, 'group')} lost to damage"
        return "; ".join([text, *not_believed(self.untrusted), *self.notes, *self.damage])


class SyncReport(msgspec.Struct):
    """What one sync did. Bytes are bytes, ``seconds`` wall-clock."""

    cache: str
    """The cache, as ``GPU/key``."""
    manifest: str | None = None
    """The ULID of what was published; None if there was nothing new."""
    files_seen: int = 0
    """Files in the local directory."""
    files_added: int = 0
    """Files of the groups that were published."""
    groups_seen: int = 0
    """Groups of the local directory that belong to this cache."""
    groups_added: int = 0
    """Groups that were published."""
    equivalent: int = 0
    """Groups that the cache has already, by this worker or another."""
    foreign: int = 0
    """Files that belong to other caches."""
    unstable: int = 0
    """Files that were still changing; the next sync takes them."""
    junk: int = 0
    """Files that are never shared, such as locks."""
    unknown: int = 0
    """Files of no kind that this version knows; they are not shared."""
    unknown_paths: list[str] = msgspec.field(default_factory=list)
    """The first 64 of those."""
    opaque: int = 0
    """Entries whose key or guards could not be read; shared, but never merged with others."""
    bytes_added: int = 0
    """Bytes of ``files_added``."""
    bytes_new: int = 0
    """Bytes of them that the store had not, before compression."""
    bytes_uploaded: int = 0
    """Bytes written to the store: packs and the manifest."""
    attempts: int = 0
    """How often it published, as collectors removed what it relied on."""
    merged: int = 0
    """Manifests of the cache that became one."""
    untrusted: dict[str, int] = msgspec.field(default_factory=dict)
    """How many manifests are not believed, by reason: only where keys are set."""
    withheld: str = ""
    """Why nothing was published although there was something: a worker without a key to sign with;
    "" otherwise.
    """
    damage: list[str] = msgspec.field(default_factory=list)
    """What was found damaged, a sentence each."""
    notes: list[str] = msgspec.field(default_factory=list)
    """What else a user should know, a sentence each."""
    seconds: float = 0.0
    """How long the sync took."""
    warmup: WarmupReport | None = None
    """What happened since the restore; None without one."""

    def as_dict(self) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(bytes,))
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
        withheld = [self.withheld] if self.withheld else []
        more = [*withheld, *not_believed(self.untrusted), *self.notes, *self.damage]
        return "; ".join([text, *more])


def not_believed(untrusted: dict[str, int]) -> list[str]:
    """A sentence for each reason why manifests are left out."""
    items = sorted(untrusted.items())
    return [f"{counted(count, 'manifest')} not believed: {reason}" for reason, count in items]
