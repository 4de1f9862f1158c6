"""What the fxgraph entries of a local directory say together.

Invariant: each entry is read at most once, and an entry that cannot be read makes its artifacts
demand more of a worker, never less.
"""

from __future__ import annotations

import re
from contextlib import suppress

from casinductor.families.place import Kind, entry_key
from casinductor.inductor.directory import Unstable, Walk, read_stable
from casinductor.inductor.entries import Entry, read_entry
from casinductor.util.roots import Where

#: The name of a generated file: torch's hash of its text, 51 or 52 characters of base32.
_STEM = re.compile(rb"c[a-z2-7]{51,52}")


class Graphs:
    """The fxgraph entries in the directories ``where`` that ``walk`` found."""

    def __init__(self, where: Where, walk: Walk) -> None:
        self._where = where
        self._walk = walk
        self._known: dict[str, Entry] = {}  # by path
        self._by_key: dict[str, list[str]] = {}
        for path, file in walk.files.items():
            if file.place.kind is Kind.FXGRAPH:
                self._by_key.setdefault(entry_key(path), []).append(path)
        self._bundled: set[str] | None = None

    def learn(self, path: str, entry: Entry) -> None:
        """Take an entry that was read elsewhere."""
        self._known[path] = entry

    def bundled(self) -> set[str]:
        """The hashes of Triton folders that some entry re-creates by itself (torch 2.6+)."""
        if self._bundled is None:
            paths = [path for those in self._by_key.values() for path in those]
            self._bundled = set().union(*(self._entry(path).bundled for path in paths))
        return self._bundled

    def named_modules(self) -> set[str]:
        """The stems of all generated modules that some entry names: its own, and its kernels'."""
        found: set[str] = set()
        for paths in self._by_key.values():
            for path in paths:
                with suppress(Unstable):
                    data = read_stable(self._where, self._walk.files[path])
                    found.update(stem.decode() for stem in _STEM.findall(data))
        return found

    def compiles_cpp(self, key: str) -> bool:
        """Whether the graph of this key holds code for the CPU; an absent graph counts as yes."""
        paths = self._by_key.get(key)
        return not paths or any(self._entry(path).compiles_cpp for path in paths)

    def _entry(self, path: str) -> Entry:
        if path not in self._known:
            try:
                data = read_stable(self._where, self._walk.files[path])
                self._known[path] = read_entry(Kind.FXGRAPH.value, entry_key(path), data)
            except Unstable:
                self._known[path] = Entry(Kind.FXGRAPH.value, entry_key(path), compiles_cpp=True)
        return self._known[path]
