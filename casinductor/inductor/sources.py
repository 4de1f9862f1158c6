"""What a ninja build was made from, by content: sources, headers and compilers.

Invariant: a mark is the hash of a file's bytes beside its path; a file that cannot be read gives a
mark that no worker meets. ninja itself compares times, and after a restore those say nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable

from blake3 import blake3

from casinductor.util.pattern import Pattern

#: A compiler that ``build.ninja`` names, as torch, tvm-ffi and FlashInfer write it.
_COMMAND = Pattern(rb"(?m)^(cxx|cc|nvcc|hipcc)\s*=\s*(\S+)")
#: torch's own headers, of which the fingerprint's version and build say what they are.
_TORCH = Pattern(r"/site-packages/torch/include/|/dist-packages/torch/include/")
_HEX = 32

_known: dict[tuple[str, int, int, int], str] = {}


def source_marks(inputs: Iterable[str], commands: bytes, folder: str, root: str) -> list[str]:
    """A mark for every file that a build in ``folder`` read outside ``root``, whose files are
    stored themselves, and for each compiler that its ``commands`` (the text of ``build.ninja``)
    name: 32 hexadecimal digits, a blank, the path.
    """
    paths = set()
    for path in inputs:
        whole = os.path.normpath(os.path.join(folder, path))
        if not whole.startswith(root + "/") and not _TORCH.search(whole):
            paths.add(whole)
    paths |= {found.decode("utf-8", "replace") for _, found in _COMMAND.findall(commands)}
    return [f"{_digest(path)} {path}" for path in sorted(paths)]


def changed_source(marks: Iterable[str]) -> str | None:
    """The first path whose content differs here, or that is not here; None if all are the same."""
    for mark in marks:
        digest, _, path = mark.partition(" ")
        if _digest(path) != digest:
            return path
    return None


def _digest(path: str) -> str:
    """Of a file, or of a command that ``PATH`` finds; a file is read once while it is unchanged."""
    found = path if os.path.isabs(path) else shutil.which(path) or path
    try:
        status = os.stat(found)
        name = (found, status.st_size, status.st_mtime_ns, status.st_ino)
        if name not in _known:
            with open(found, "rb") as file:
                _known[name] = blake3(file.read()).hexdigest()[:_HEX]
        return _known[name]
    except OSError:
        return "?"
