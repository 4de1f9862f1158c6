"""The contract of a family: what one kind of compile cache is, as a row of a table.

Invariant: a row is a function of the environment and of relative paths; it reads no file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from casinductor.families.place import Place

Environ = Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """``name`` stands in paths; ``root`` says where the directory lies, given the environment of
    the process that compiles (an absolute path, or ``""`` if nothing names one); ``classify`` gives
    a path below it its place.

    ``packages``: distributions whose versions its groups demand; the first that is installed makes
    the family one of a worker's. ``demands``: names of the fingerprint that its own kinds demand
    beside. ``bound``: artifacts are valid at the producer's path only. ``opt_in``: only where the
    user names it.
    """

    name: str
    root: Callable[[Environ], str]
    classify: Callable[[str], Place]
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
