"""What a command's environment says of its caches, and which interpreter will load artifacts.

Invariant: a variable that the user set is not replaced without a line.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress

from casinductor.settings import own_torch_dir
from casinductor.util.voice import warn

_TORCH = "TORCHINDUCTOR_CACHE_DIR"
_PYTHON = re.compile(r"(?:python|pypy)[\d.]*")
_HEAD = 256


def worker_environment(environ: Mapping[str, str], root: str) -> dict[str, str]:
    """The environment with torch pointed at ``root``."""
    chosen = own_torch_dir(environ)
    if chosen and os.path.abspath(chosen) != root:
        warn(f"{_TORCH} is {root} for the command (CASINDUCTOR_LOCAL_DIR) instead of {chosen}")
    return {**environ, _TORCH: root}


def interpreter_of(command: str) -> str | None:
    """The Python that a command runs under, where its name or first line says so and it is not this
    one; None for this one.
    """
    path = shutil.which(command)
    if path is None:
        return None
    if not _PYTHON.fullmatch(os.path.basename(path)):
        path = _named_in(path)
    if path is None or _same(path, sys.executable):
        return None
    return path


def _named_in(script: str) -> str | None:
    """The interpreter in a script's first line."""
    with suppress(OSError), open(script, "rb") as file:
        head = file.read(_HEAD)
        if head.startswith(b"#!"):
            words = head[2:].split(b"\n")[0].decode("utf-8", "replace").split()
            for word in words[:2]:  # behind env(1) it is the second
                if _PYTHON.fullmatch(os.path.basename(word)):
                    return shutil.which(word)
    return None


def _same(one: str, other: str) -> bool:
    """Whether two paths are one interpreter of one environment: links lead to its base."""
    return os.path.abspath(one) == os.path.abspath(other)
