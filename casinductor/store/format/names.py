"""The names of everything in a store, and which cache keys and GPU types can be part of them.

Invariant: a :class:`CacheId` that exists is safe to build paths and object names from, and two
different ones never share a name. Layout: ``docs/format.md``, "Names".
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from casinductor.errors import InvalidName
from casinductor.store.format.ulid import is_ulid
from casinductor.util.pattern import Pattern

FORMAT = "FORMAT"
MANIFESTS = "manifests"
PACKS = "packs"
CONDEMNED = "condemned"
QUARANTINE = "quarantine"
USES = "uses"
PROBES = "probes"
WARMUPS = "warmups"
CLAIMS = "claims"
LEADS = "leads"
COMPLETIONS = "completions"
CHORES = "chores"
#: The word of a claim to compile for others that was given up or is done.
LEAD_ENDED = "end"
_LONGEST_NUMBER = 9
MANIFEST_SUFFIX = ".manifest"
PACK_SUFFIX = ".pack"
WARMUP_SUFFIX = ".warmup"
MARK_SUFFIX = ".mark"

_RESERVED = {MANIFESTS, PACKS, CONDEMNED, QUARANTINE, USES, PROBES, WARMUPS, FORMAT}
_RESERVED |= {CLAIMS, LEADS, COMPLETIONS, CHORES}
_CONTROL = Pattern(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_USE = Pattern(r"\d{4}-\d{2}-\d{2}(T\d{6})?")
_MAX_PART = 200
_MAX_KEY = 900


class CacheId(msgspec.Struct, frozen=True, order=True):
    """One cache: a GPU type and a cache key. Raises :class:`InvalidName` for unusable names."""

    gpu: str
    key: str

    def __post_init__(self) -> None:
        _check(self.gpu, "GPU type", slashes=False)
        _check(self.key, "cache key", slashes=True)
        if self.gpu in _RESERVED:
            raise InvalidName(f"GPU type {self.gpu!r} is the name of a folder of the store")

    def __str__(self) -> str:
        return f"{self.gpu}/{self.key}"

    @property
    def manifests(self) -> str:
        """The prefix of its manifests."""
        return f"{MANIFESTS}/{self.gpu}/{self.key}/"

    def manifest(self, ulid: str) -> str:
        return f"{self.manifests}{ulid}{MANIFEST_SUFFIX}"

    def use(self, moment: str) -> str:
        """The mark "used then": ``yyyy-mm-ddThhmmss``, or ``yyyy-mm-dd`` for a whole day."""
        return f"{USES}/{self.gpu}/{self.key}/{moment}"

    @property
    def warmups(self) -> str:
        """The prefix of its warm-up records."""
        return f"{WARMUPS}/{self.gpu}/{self.key}/"

    def warmup(self, ulid: str) -> str:
        return f"{self.warmups}{ulid}{WARMUP_SUFFIX}"

    def claim(self, ulid: str, hour: int) -> str:
        """Elects one worker to merge manifests of which ``ulid`` is the oldest, in that hour."""
        return f"{CLAIMS}/{self.gpu}/{self.key}/{ulid}-{hour}"

    @property
    def leads(self) -> str:
        """The prefix of claims to compile for others."""
        return f"{LEADS}/{self.gpu}/{self.key}/"

    def lead(self, ulid: str, kind: str, team: str, word: str) -> str:
        """A sign of the claim of this ULID: its number, or :data:`LEAD_ENDED`."""
        return f"{self.leads}{ulid}-{kind}-{team}-{word}"

    @property
    def completions(self) -> str:
        """The prefix of marks of complete warm-ups."""
        return f"{COMPLETIONS}/{self.gpu}/{self.key}/"

    def completion(self, ulid: str, kind: str, label: str) -> str:
        """The mark that a warm-up covered ``label``, for workers of this kind."""
        return f"{self.completions}{ulid}-{kind}-{label}"

    @property
    def zip(self) -> str:
        """Where fal.toolkit keeps this cache."""
        return f"{self.gpu}/{self.key}.zip"


def check_key(key: str) -> None:
    """Raise :class:`InvalidName` for a cache key that no store could hold."""
    _check(key, "cache key", slashes=True)


def _check(text: str, what: str, *, slashes: bool) -> None:
    shown = f"{what} {text[:80]!r}"
    if not isinstance(text, str) or not text:
        raise InvalidName(f"{what} is empty")
    if len(text.encode("utf-8", "replace")) > _MAX_KEY:
        raise InvalidName(f"{shown} is longer than {_MAX_KEY} bytes")
    if not text.isprintable() and _CONTROL.search(text):
        raise InvalidName(f"{shown} contains a control character")
    if "\\" in text or (not slashes and "/" in text):
        raise InvalidName(f"{shown} contains {'a backslash' if slashes else 'a slash'}")
    if text.startswith("/"):
        raise InvalidName(f"{shown} is an absolute path")
    for part in text.split("/"):
        _check_part(part, shown)


def _check_part(part: str, shown: str) -> None:
    if not part or part.isspace():
        raise InvalidName(f"{shown} has an empty part between slashes")
    if part.startswith("."):
        raise InvalidName(f"{shown} has a part that starts with a dot")
    if part != part.strip():
        raise InvalidName(f"{shown} has a part that starts or ends with a space")
    if len(part.encode("utf-8", "replace")) > _MAX_PART:
        raise InvalidName(f"{shown} has a part longer than {_MAX_PART} bytes")
    for suffix in (MANIFEST_SUFFIX, WARMUP_SUFFIX):
        if part.endswith(suffix):
            raise InvalidName(f"{shown} has a part that ends in {suffix}")


class Mark(NamedTuple):
    """A mark of failed verification: against a pack, a frame of it at a byte offset, or a
    manifest.
    """

    ulid: str
    offset: int | None = None
    manifest: bool = False

    @property
    def name(self) -> str:
        suffix = MANIFEST_SUFFIX if self.manifest else ""
        at = "" if self.offset is None else f"-{self.offset}"
        return f"{QUARANTINE}/{self.ulid}{at}{suffix}{MARK_SUFFIX}"


def parse_mark(name: str) -> Mark | None:
    """The mark of this name; None for anything else."""
    head, _, file = name.rpartition("/")
    text = file.removesuffix(MARK_SUFFIX)
    ulid, _, offset = text.removesuffix(MANIFEST_SUFFIX).partition("-")
    if head != QUARANTINE or text == file or not is_ulid(ulid):
        return None
    at = int(offset) if offset.isdecimal() else None
    mark = Mark(ulid, at, text.endswith(MANIFEST_SUFFIX))
    return mark if mark.name == name else None


def quarantined(ulid: str) -> str:
    """Where a repair puts the bytes of a damaged manifest."""
    return f"{QUARANTINE}/{ulid}{MANIFEST_SUFFIX}"


def probe(ulid: str) -> str:
    """An object by which a writer tries how to publish."""
    return f"{PROBES}/{ulid}"


def claim_hour(name: str) -> int | None:
    """The hour since 1970 of a claim's name; None for anything else."""
    hour = name.rpartition("-")[2]
    return int(hour) if name.startswith(f"{CLAIMS}/") and hour.isdecimal() else None


def parse_lead(name: str) -> tuple[str, str, str, str] | None:
    """ULID, kind, team and word of a sign of a claim; None for anything else."""
    parts = name.rpartition("/")[2].split("-")
    if not name.startswith(f"{LEADS}/") or len(parts) != 4 or not is_ulid(parts[0]):
        return None
    word = parts[3]
    known = word == LEAD_ENDED or (word.isdecimal() and len(word) <= _LONGEST_NUMBER)
    return (parts[0], parts[1], parts[2], word) if known else None


def parse_completion(name: str) -> tuple[str, str, str] | None:
    """ULID, kind and label of a mark of a complete warm-up; None for anything else."""
    parts = name.rpartition("/")[2].split("-")
    if not name.startswith(f"{COMPLETIONS}/") or len(parts) != 3 or not is_ulid(parts[0]):
        return None
    return parts[0], parts[1], parts[2]


def parse_use(name: str) -> tuple[CacheId, str] | None:
    """The cache and moment of a mark of use; None for anything else."""
    head, _, moment = name.rpartition("/")
    parts = head.split("/", 2)
    if len(parts) != 3 or parts[0] != USES or not _USE.fullmatch(moment):
        return None
    try:
        return CacheId(parts[1], parts[2]), moment
    except InvalidName:
        return None


def pack(ulid: str) -> str:
    """``packs/<xx>/<ulid>.pack``; ``xx`` are the last two characters, which are random."""
    return f"{PACKS}/{ulid[-2:].lower()}/{ulid}{PACK_SUFFIX}"


def chore(kind: str, ulid: str) -> str:
    """The note that a store was collected, checked or repaired."""
    return f"{CHORES}/{kind}-{ulid}"


def condemned(ulid: str) -> str:
    return f"{CONDEMNED}/{ulid}"


def parse_manifest(name: str) -> tuple[CacheId, str] | None:
    """The cache and ULID of a manifest's name; None for anything else."""
    return _parse(name, MANIFESTS, MANIFEST_SUFFIX)


def parse_warmup(name: str) -> tuple[CacheId, str] | None:
    """The cache and ULID of a warm-up record's name; None for anything else."""
    return _parse(name, WARMUPS, WARMUP_SUFFIX)


def _parse(name: str, folder: str, suffix: str) -> tuple[CacheId, str] | None:
    head, _, file = name.rpartition("/")
    parts = head.split("/", 2)
    ulid = file.removesuffix(suffix)
    if len(parts) != 3 or parts[0] != folder or file == ulid or not is_ulid(ulid):
        return None
    try:
        return CacheId(parts[1], parts[2]), ulid
    except InvalidName:
        return None


def parse_pack(name: str) -> str | None:
    """The ULID of a pack's name; None for anything else."""
    ulid = name.rpartition("/")[2].removesuffix(PACK_SUFFIX)
    return ulid if is_ulid(ulid) and name == pack(ulid) else None
