"""The truth about one warm-up: what hit, what missed, what was rebuilt although it hit.

Invariant: ``graphs`` are torch's own counts; every other number was read off the local directory,
and what could not be seen is None or said in ``notes``, never zero. Kept in the store as a sealed
record (``docs/format.md``, "Warm-ups").
"""

from __future__ import annotations

from typing import Any

import msgspec

from casinductor.util.human import counted

VERSION = 1


class Rebuilt(msgspec.Struct, gc=False):
    """Something that no missed graph accounts for: its path, kind, why, and the ``cause`` by which
    ``inspect.causes`` gives advice.
    """

    path: str
    kind: str
    why: str = ""
    cause: str = ""


class Happened(msgspec.Struct, gc=False, omit_defaults=True):
    """What happened to one graph; see :class:`casinductor.inductor.trace.Event`."""

    cache: str
    status: str
    key: str
    detail: str = ""
    guard: str = ""
    reason: str = ""


class WarmupReport(msgspec.Struct):
    """What a worker did between a restore and the sync after it. Bytes are bytes."""

    cache: str
    """The cache, as ``GPU/key``."""
    started_ms: int = 0
    """When the restore was done, in Unix milliseconds."""
    seconds: float = 0.0
    """From then until the sync."""
    graphs: dict[str, int] = msgspec.field(default_factory=dict)
    """Counts by ``fxgraph_hit``, ``_miss`` and ``_bypass``, and the same for ``aotautograd``."""
    happened: list[Happened] = msgspec.field(default_factory=list)
    """What happened graph by graph, if torch's trace was listened to; at most 1,024."""
    kernels_built: int = 0
    """C++ libraries and Triton kernels that were compiled."""
    rebuilt: list[Rebuilt] = msgspec.field(default_factory=list)
    """Those of them that no missed graph accounts for; at most 512."""
    tuned: int = 0
    """Autotuning results written."""
    headers_built: int = 0
    """Precompiled C++ headers built, outside the cache directory."""
    groups_restored: int = 0
    """Groups that the restore found wanted."""
    files_restored: int = 0
    """Files of the cache in the local directory when the warm-up began."""
    bytes_restored: int = 0
    """Bytes of those."""
    files_used: int | None = None
    """Those that were read since; None where the mount keeps no access times."""
    bytes_used: int | None = None
    """Bytes of those."""
    saved_seconds: float = 0.0
    """Compile times stored in the entries that hit."""
    spent_seconds: float = 0.0
    """Compile times stored in the entries that this worker made."""
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    """Groups that the restore refused, by reason."""
    lost: int = 0
    """Groups that the restore could not have."""
    traced: bool = False
    """Whether torch's trace was listened to."""
    notes: list[str] = msgspec.field(default_factory=list)
    """What else a user should know, a sentence each."""
    worker: dict[str, Any] = msgspec.field(default_factory=dict)
    """``host``, ``pid``, ``prefix``, ``compiler`` ("": needed and missing), ``fingerprint``."""
    manifest: str | None = None
    """The ULID of what the sync published."""
    published: list[str] = msgspec.field(default_factory=list)
    """The ULIDs of what was published before it, while the warm-up went on."""
    used: bytes = b""
    """The first 8 bytes of the contents of the restored groups that were read, end to end."""
    unused: bytes = b""
    """The same of those that were not."""
    read: list[str] = msgspec.field(default_factory=list)
    """The paths of the restored files that were read; not kept in the store."""
    elsewhere: bool = False
    """Entries came or were read, and torch in this process did neither: it ran in another one."""
    new_entries: int = 0
    """fxgraph and aotautograd entries that came into the local directory."""
    unknown_files: int = 0
    """Files of the local directory of no kind that this version knows; they are not shared."""
    unknown: list[str] = msgspec.field(default_factory=list)
    """The first 64 of those."""

    def count(self, status: str) -> int:
        """fxgraph and aotautograd together: ``hit``, ``miss`` or ``bypass``."""
        return sum(n for name, n in self.graphs.items() if name.endswith(f"_{status}"))

    @property
    def active(self) -> bool:
        """Whether torch compiled or loaded anything, or could not."""
        failed = self.worker.get("compiler") == ""
        compiled = self.kernels_built or self.tuned or self.elsewhere
        return bool(any(self.graphs.values()) or compiled or failed)

    @property
    def compiled(self) -> bool:
        """Whether this worker compiled anything: a graph or a kernel."""
        missed = self.graphs.get("fxgraph_miss", 0) + self.graphs.get("fxgraph_bypass", 0)
        return bool(missed or self.new_entries or self.kernels_built)

    def made(self, origin: str) -> bool:
        """Whether the manifest of this ULID is one that this warm-up published."""
        return origin == self.manifest or origin in self.published

    @property
    def alarming(self) -> bool:
        """Whether torch missed and left nothing that could be shared, or something was lost."""
        nothing_new = bool(self.count("miss")) and not self.new_entries
        return bool((nothing_new and not self.restarted) or self.lost)

    @property
    def restarted(self) -> int:
        """aotautograd lookups that missed and left nothing, while every graph hit: torch began
        their frames anew, or never ran their backward.
        """
        all_hit = self.graphs.get("fxgraph_hit") and not self.graphs.get("fxgraph_miss")
        return self.graphs.get("aotautograd_miss", 0) if all_hit and not self.new_entries else 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the groups' contents as lists of hexadecimal digits."""
        fields: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(bytes,))
        return {**fields, "used": split(self.used), "unused": split(self.unused)}

    def summary(self) -> str:
        """One line."""
        parts = [f"{self._graphs('fxgraph')}, {self._graphs('aotautograd')}"]
        if self.elsewhere:
            parts = ["torch ran in another process: its hits are not seen"]
            parts += [f"{counted(self.new_entries, 'new entry')} came"] if self.new_entries else []
        if self.restarted:
            parts.append("its graphs hit, so nothing was compiled for what missed")
        elif self.count("miss") and not self.new_entries:
            parts.append("what missed left no file here, so nothing of it can be shared")
        parts.append(f"{counted(self.kernels_built, 'kernel')} built")
        if self.rebuilt:
            why = sorted({item.why for item in self.rebuilt if item.why})
            parts[-1] += f", {len(self.rebuilt)} of them rebuilt" + (
                f" ({'; '.join(why)})" if why else ""
            )
        if self.tuned:
            parts.append(f"{counted(self.tuned, 'kernel')} tuned")
        if self.headers_built:
            parts.append("a precompiled header built")
        if self.files_restored:
            seen = "unknown how many" if self.files_used is None else f"{self.files_used:,}"
            parts.append(f"{seen} of {self.files_restored:,} restored files read")
        parts.append(
            f"{self.saved_seconds:.1f} s of compiling saved, {self.spent_seconds:.1f} s spent"
        )
        parts += [f"{counted(n, 'group')} refused: {why}" for why, n in self.refused.items()]
        parts += [f"{counted(self.lost, 'group')} lost to damage"] if self.lost else []
        parts += [not_shared(self.unknown, self.unknown_files)] if self.unknown_files else []
        return f"{self.cache}: " + "; ".join([*parts, *self.notes])

    def _graphs(self, cache: str) -> str:
        hit, miss, bypass = (self.graphs.get(f"{cache}_{s}", 0) for s in ("hit", "miss", "bypass"))
        text = f"{cache} {hit} of {hit + miss + bypass} hit"
        text += f", {miss} missed" if miss else ""
        return text + (f", {bypass} bypassed" if bypass else "")


def not_shared(paths: list[str], count: int) -> str:
    """That ``count`` files are of no known kind, among them ``paths``: a new torch, a new file."""
    named = ", ".join(paths[:3]) + (", …" if count > 3 else "")
    verb = "is" if count == 1 else "are"
    what = f"{counted(count, 'file')} of no known kind {verb} not shared"
    return f"{what} (docs/families.md): {named}"


def split(contents: bytes) -> list[str]:
    """Eight-byte beginnings of contents as hexadecimal digits."""
    return [contents[i : i + 8].hex() for i in range(0, len(contents), 8)]


def to_record(report: WarmupReport) -> dict[str, Any]:
    """The fields to store."""
    fields: dict[str, Any] = msgspec.to_builtins(report, builtin_types=(bytes,))
    del fields["read"]
    return {"version": VERSION, **fields}


def from_record(fields: dict[str, Any]) -> WarmupReport | None:
    """A stored report; None for one of another version or shape, as old records are no harm."""
    if fields.get("version") != VERSION:
        return None
    known = {name: value for name, value in fields.items() if name != "version"}
    try:
        return msgspec.convert(known, WarmupReport)
    except (msgspec.ValidationError, TypeError, ValueError):
        return None
