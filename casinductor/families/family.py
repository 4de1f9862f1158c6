"""The contract of a family: what one kind of compile cache is, as a row of a table.

Invariant: a row is a function of the environment and of relative paths; it reads no file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import msgspec

from casinductor.families.place import JUNK, UNKNOWN, Kind, Place, has_junk, share
from casinductor.util.pattern import Pattern

Environ = Mapping[str, str]
Rules = Callable[[str], Place]
Root = Callable[[Environ], str]


class Family(msgspec.Struct, frozen=True):
    """``name`` stands in paths; ``root`` says where the directory lies, given the environment of
    the process that compiles (an absolute path, or ``""`` if nothing names one); ``classify`` gives
    a path below it its place.

    ``packages``: distributions whose versions its groups demand; the first that is installed makes
    the family one of a worker's. ``demands``: what of the fingerprint its own kind demands, where
    that is not all that torch's artifacts do. ``bound``: artifacts are valid at the producer's
    path only. ``opt_in``: only where the user names it.
    """

    name: str
    root: Root
    classify: Rules
    packages: tuple[str, ...] = ()
    demands: tuple[str, ...] = ()
    bound: bool = False
    opt_in: bool = False


def first_set(environ: Environ, *names: str) -> str | None:
    """The value of the first of these variables that is set, as an absolute path."""
    for name in names:
        if value := environ.get(name):
            return os.path.abspath(os.path.expanduser(value))
    return None


def home(environ: Environ) -> str:
    return environ.get("HOME") or os.path.expanduser("~")


def cache_home(environ: Environ) -> str:
    """``$XDG_CACHE_HOME``, by default ``~/.cache``."""
    return first_set(environ, "XDG_CACHE_HOME") or os.path.join(home(environ), ".cache")


def rule(pattern: Pattern[str], kind: Kind, private: Callable[[str], bool] = has_junk) -> Rules:
    """The rules of a directory in which one pattern says what is shared: all that matches, less
    what is ``private``; the first parenthesis is its group, without one the whole path.
    """

    def classify(path: str) -> Place:
        if private(path):
            return JUNK
        match = pattern.fullmatch(path)
        return share(kind, match[1] if pattern.groups else path) if match else UNKNOWN

    return classify


def below_home(variable: str, *parts: str) -> Root:
    """Where a variable says, else so below the home."""
    return lambda environ: first_set(environ, variable) or os.path.join(home(environ), *parts)


def below_caches(variable: str, name: str) -> Root:
    """Where a variable says, else a folder of this name in the user's caches."""
    return lambda environ: first_set(environ, variable) or os.path.join(cache_home(environ), name)


def nowhere(environ: Environ) -> str:
    """No root by default."""
    del environ
    return ""
