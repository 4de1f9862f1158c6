"""Which families a worker shares, as its settings say, and where their roots lie.

Invariant: no two roots hold the same file: one inside another that knows its rules is left to that
one. A word that names no family is an error, never passed over.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import msgspec

from casinductor.errors import InvalidName
from casinductor.families.family import Environ
from casinductor.families.table import FAMILIES, INDUCTOR
from casinductor.util.roots import Roots

#: All families but those that the user must name.
AUTO = "auto"
#: Between a directory of files and the tag that they demand.
TAG = "#"
_FILES = "files"


class Choice(msgspec.Struct, frozen=True):
    """``names``: the families to share, with the root of each where the user gave one; ``tag``: of
    the files of family ``files``.
    """

    names: Mapping[str, str]
    tag: str = ""

    @property
    def torch(self) -> bool:
        """Whether torch's own directory is among them."""
        return INDUCTOR in self.names

    def roots(self, main: str, environ: Environ) -> Roots:
        """The roots of a worker with this environment whose torch directory is ``main``."""
        found: dict[str, str] = {}
        for name, given in self.names.items():
            root = given or (FAMILIES[name].root(environ) if name in FAMILIES else "")
            if name != INDUCTOR and root:
                found[name] = os.path.abspath(root)
        kept = {name: root for name, root in found.items() if not _inside_another(root, found)}
        if self.torch:
            kept = {name: root for name, root in kept.items() if not _lies_in(root, main)}
        return Roots(self.names.get(INDUCTOR) or main, kept, torch=self.torch)


def _inside_another(root: str, roots: Mapping[str, str]) -> bool:
    others = [other for other in roots.values() if other != root]
    return any(_lies_in(root, other) for other in others)


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def parse(words: Sequence[str]) -> Choice:
    """The choice that words such as ``vllm``, ``triton=/a/directory``, ``files=/dir#tag`` or
    ``auto`` make; none stands for ``auto``. Raises :class:`InvalidName`.
    """
    names: dict[str, str] = {}
    tag = ""
    for word in words or (AUTO,):
        name, _, root = word.partition("=")
        if name == AUTO:
            names.update(dict.fromkeys([INDUCTOR, *_automatic()], ""))
            continue
        if name != INDUCTOR and name not in FAMILIES:
            known = ", ".join([INDUCTOR, *FAMILIES])
            raise InvalidName(f"there is no family {name!r}; there are {known}")
        if name == _FILES:
            root, _, tag = root.partition(TAG)
            if not root or not tag:
                raise InvalidName("family files needs a directory and a tag: files=DIR#TAG")
        names[name] = os.path.abspath(os.path.expanduser(root)) if root else ""
    return Choice(names, tag)


def _automatic() -> list[str]:
    return [name for name, family in FAMILIES.items() if not family.opt_in]


def words_of(text: str) -> tuple[str, ...]:
    """The words of a setting, separated by commas or blanks; raises what :func:`parse` raises."""
    words = tuple(text.replace(",", " ").split())
    parse(words)
    return words


def recognize(folder: str) -> str | None:
    """The family whose root a directory looks like, by the names at its top."""
    tops = {
        "torch_compile_cache": "vllm",
        "modelinfos": "vllm",
        "torch_aot_compile": "vllm",
        "cute_aot": "sglang",
    }
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    for top, family in tops.items():
        if top in names:
            return family
    return _by_contents(names)


def _by_contents(names: list[str]) -> str | None:
    """A family whose rules know a folder of such a name, with any file in it."""
    for family in ("triton", "deepgemm"):
        rules = FAMILIES[family].classify
        if any(rules(f"{name}/kernel.json").kind for name in names):
            return family
    return "deepgemm" if "cache" in names and "tmp" in names else None
