"""Every setting in one typed object, read from ``CASINDUCTOR_*`` environment variables.

Invariant: settings are read when an operation starts, never at import; paths are made absolute
there and then, so a program that changes its directory changes nothing. A value that makes no
sense is an :class:`~casinductor.errors.InvalidName` that names the variable, or, for a worker that
must run whatever is set, a sentence beside the default.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import asdict

from casinductor.errors import InvalidName
from casinductor.families.choice import words_of
from casinductor.util import units
from casinductor.util.voice import LEVELS

RestoreMode = Literal["needed", "all"]

DEFAULT_STORE = "/data/inductor-caches"
DEFAULT_LOCAL_DIR = "/tmp/inductor-cache"  # noqa: S108 - the path that fal.toolkit uses

DEFAULT_NODE_BYTES = 10 << 30
_PREFIX = "CASINDUCTOR_"


def default_state_dir() -> Path | None:
    """Where this user's private catalogs lie: the temporary directory, which is a local disk; None
    where there is none, so that catalogs are kept in memory.
    """
    try:
        return Path(tempfile.gettempdir()) / f"casinductor-{os.getuid()}"
    except FileNotFoundError:
        return None


def default_local_dir() -> str:
    """The path that all workers share by default; a second user of one machine gets one beside it,
    as nobody compiles into another user's directory.
    """
    try:
        owner = os.lstat(DEFAULT_LOCAL_DIR).st_uid
    except OSError:
        return DEFAULT_LOCAL_DIR
    return DEFAULT_LOCAL_DIR if owner == os.getuid() else f"{DEFAULT_LOCAL_DIR}-{os.getuid()}"


def own_torch_dir(environ: Mapping[str, str]) -> str | None:
    """A ``TORCHINDUCTOR_CACHE_DIR`` that the user chose: importing ``torch._dynamo`` sets it to
    torch's default (torch/_inductor/runtime/cache_dir_utils.py), which is no choice.
    """
    value = environ.get("TORCHINDUCTOR_CACHE_DIR")
    return None if not value or Path(value).name.startswith("torchinductor_") else value


class Settings(msgspec.Struct, frozen=True):
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
    trust_local: bool = False
    """Use a local directory that other users can write; of it only what torch announced in this
    process is published.
    """
    live: float = 0.0
    """Seconds after which what is finished is published while the block is open and after it; 0:
    when it ends.
    """
    wait: float = 0.0
    """How many seconds a worker waits at most for another one that compiles; 0: not at all."""
    families: tuple[str, ...] = ()
    """The families of compile caches that are shared, such as ``vllm`` or ``triton=/a/directory``;
    none stands for ``auto``.
    """
    node_bytes: int = DEFAULT_NODE_BYTES
    """The size in bytes that the host cache is kept below."""
    local_bytes: int = 0
    """The size in bytes that a restore prunes the local directory to; 0: never."""
    signing_key: str | None = None
    """What manifests are signed with: a file, the key itself, or a key service's address."""
    trusted_keys: str | None = None
    """A file or directory of public keys; only what they signed is believed."""
    revoked_keys: str | None = None
    """Keys that are no longer trusted: a file or directory of them, or their ids."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Without the key to sign with, as what is printed ends in logs; the name is Rich's, whose
        tracebacks show what variables hold.
        """
        told = {**asdict(self), "signing_key": "hidden" if self.signing_key else None}
        return list(told.items())

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the ``CASINDUCTOR_*`` variables; an empty one counts as unset.

        Raises :class:`InvalidName` for the first value that makes no sense.
        """
        settings, problems = cls.tolerant(environ)
        if problems:
            raise InvalidName(problems[0])
        return settings

    @classmethod
    def tolerant(cls, environ: Mapping[str, str] | None = None) -> tuple[Settings, list[str]]:
        """As :meth:`from_environment`, with the default in place of what makes no sense, and a
        sentence for each.
        """
        env = os.environ if environ is None else environ
        values: dict[str, Any] = {"local_dir": _path(own_torch_dir(env) or default_local_dir())}
        problems: list[str] = []
        for name, (setting, parse) in _VARIABLES.items():
            text = env.get(_PREFIX + name)
            if not text:
                continue
            try:
                values[setting] = parse(text)
            except (ValueError, InvalidName) as error:
                problems.append(f"{_PREFIX}{name} is {text!r}; {error}")
        level = env.get(f"{_PREFIX}LOG")
        if level and level not in LEVELS:
            problems.append(f"{_PREFIX}LOG is {level!r}; it must be {', '.join(LEVELS)}")
        return cls(**values), problems


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each ``CASINDUCTOR_*`` variable that does not exist."""
    env = os.environ if environ is None else environ
    known = [*_VARIABLES, *_OTHER_VARIABLES]
    found = []
    for name in sorted(env):
        short = name.removeprefix(_PREFIX)
        if short == name or short in known:
            continue
        close = get_close_matches(short, known, 1)
        meant = f"; did you mean {_PREFIX}{close[0]}?" if close else ""
        found.append(f"there is no setting {name}{meant}")
    return found


def parse_restore(value: str, where: str) -> RestoreMode:
    """``needed`` or ``all``; anything else raises :class:`InvalidName` naming ``where``."""
    if value == "needed":
        return "needed"
    if value == "all":
        return "all"
    raise InvalidName(f"{where} is {value!r}; it must be 'needed' or 'all'")


def _restore(text: str) -> RestoreMode:
    if text not in ("needed", "all"):
        raise ValueError("it must be 'needed' or 'all'")
    return parse_restore(text, "")


def _path(text: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(text)))


def _store(text: str) -> str:
    """An address as it is; a directory made absolute."""
    if "$" in text:
        raise ValueError("the shell left a variable in it: set that variable, or write the path")
    scheme, colon, rest = text.partition(":")
    if colon and scheme.isalnum() and len(scheme) > 1:
        if rest.startswith("/") and not rest.startswith("//"):
            raise ValueError(f"write {scheme}://{rest.lstrip('/')}")
        return text
    return str(_path(text))


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 15:
        raise ValueError("it must be a whole number, 0 or more")
    return int(text)


def _deadline(text: str) -> float:
    value = units.seconds(text)
    if not 0 < value < 1e9:
        raise ValueError("it must be more than 0 seconds")
    return value


#: The variables by name, with the field that each sets and how it is read.
_VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "STORE": ("store", _store),
    "LOCAL_DIR": ("local_dir", _path),
    "GPU_TYPE": ("gpu_type", str),
    "RESTORE": ("restore", _restore),
    "RESTORE_DEADLINE": ("restore_deadline", _deadline),
    "SYNC_DEADLINE": ("sync_deadline", _deadline),
    "STATE_DIR": ("state_dir", _path),
    "TRACE": ("trace", units.switch),
    "WARMUPS": ("warmups", units.switch),
    "NODE_DIR": ("node_dir", _path),
    "NODE_BYTES": ("node_bytes", units.size),
    "LOCAL_BYTES": ("local_bytes", units.size),
    "COMPACT_AFTER": ("compact_after", _count),
    "LIVE": ("live", units.seconds),
    "WAIT": ("wait", units.seconds),
    "FAMILIES": ("families", words_of),
    "TRUST_LOCAL": ("trust_local", units.switch),
    "SIGNING_KEY": ("signing_key", str),
    "TRUSTED_KEYS": ("trusted_keys", str),
    "REVOKED_KEYS": ("revoked_keys", str),
}
#: Read elsewhere: what is printed, and what development sets.
_OTHER_VARIABLES = (
    "LOG",
    "KEY",
    "SPOOL",
    "COMPLETE",
    "CORPUS",
    "SOAK_PYTHONS",
    "STANDIN",
    "VLLM_PYTHON",
)
