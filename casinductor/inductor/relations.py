"""Which other artifacts a graph relies on, read from its entry and from the directory.

Invariant: what is named is in the directory; where the entry does not say, more is named rather
than less, because a missing kernel is rebuilt by every worker. torch itself keeps loaded kernels
in memory, so access times alone would miss what a process used twice (``docs/torch.md``).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from casinductor.families.place import ENTRY_KINDS, Kind, Place
from casinductor.inductor.directory import Unstable, Walk, read_stable
from casinductor.inductor.entries import read_entry
from casinductor.util.roots import Where

#: How generated code has a C++ kernel compiled.
CPP_CALL = b"async_compile.cpp"
_CPP_BLOCK = re.compile(rb"async_compile\.cpp\w*\(.*?'''(.*?)'''", re.DOTALL)
#: How a kernel's function begins; before torch 2.8 its file's name does not say that it is one.
_KERNEL = re.compile(rb'extern "C"\s+void\s+kernel\(')
_STEM = re.compile(rb"/([0-9a-z]{2})/(c[a-z2-7]{51,52})\.py")


class Relations:
    """The relations among the files of the directories ``where`` that ``walk`` found."""

    def __init__(self, where: Where, walk: Walk) -> None:
        self._where = where
        self._walk = walk
        self._members: dict[str, list[str]] = defaultdict(list)
        for path, file in walk.files.items():
            self._members[file.place.group].append(path)
        self._sources: dict[str, bytes] | None = None

    def relied_on(self, graphs: Iterable[str]) -> set[str]:
        """Paths that the graphs at the given paths rely on, wherever they came from: entries of
        torch's, and models of other families that hold graphs.
        """
        found: set[str] = set()
        for path in graphs:
            try:
                data = read_stable(self._where, self._walk.files[path])
            except Unstable:
                continue
            found |= self._of(path, data)
        return found

    def _of(self, path: str, data: bytes) -> set[str]:
        place = self._walk.files[path].place
        home = _Home(path, place)
        found: set[str] = set()
        if _compiles_cpp(place, data):
            found |= {p for p in self._kernels(data) | self._probes() if home.has(self._place(p))}
        bundled = read_entry(Kind.FXGRAPH.value, "", data).bundled
        for members in self._members.values():
            place = self._place(members[0])
            if place.kind is Kind.TRITON and place.name in bundled:
                found.update(members)
        stems = {(folder.decode(), stem.decode()) for folder, stem in _STEM.findall(data)}
        return found | {p for p in self._modules(stems) if home.has(self._place(p))}

    def _place(self, path: str) -> Place:
        return self._walk.files[path].place

    def _kernels(self, data: bytes) -> set[str]:
        """The C++ kernels whose source stands in the entry; the file adds bindings behind it."""
        blocks = [block.strip() for block in _CPP_BLOCK.findall(data)]
        return {
            path
            for group, source in self._cpp_sources().items()
            if any(source.startswith(block) for block in blocks)
            for path in self._members[group]
        }

    def _probes(self) -> set[str]:
        """The libraries by which torch learns what the compiler can do: every graph needs them."""
        sources = self._cpp_sources()
        return {
            path
            for path, file in self._walk.files.items()
            if file.place.kind is Kind.CPP
            and ".main" not in path
            and not _KERNEL.search(sources.get(file.place.group, b""))
        }

    def _modules(self, stems: set[tuple[str, str]]) -> set[str]:
        """Generated modules and the tunings beside them, whose names do not say whose they are."""
        modules = {f"{folder}/{stem}.py" for folder, stem in stems}
        folders = {folder for folder, _ in stems}
        found = set()
        for path, file in self._walk.files.items():
            inner = path.removeprefix(file.place.prefix)
            tuning = file.place.kind is Kind.TUNING and inner.partition("/")[0] in folders
            if inner in modules or tuning:
                found.add(path)
        return found

    def _cpp_sources(self) -> dict[str, bytes]:
        if self._sources is None:
            self._sources = {}
            for path, file in self._walk.files.items():
                if file.place.kind is Kind.CPP and path.endswith(".cpp"):
                    try:
                        source = read_stable(self._where, file)
                    except Unstable:
                        continue
                    self._sources[file.place.group] = source.strip()
        return self._sources


class _Home:
    """The directory of torch's in which a graph finds what it needs: the one that its entry lies
    in, or those below the folder that a model of another family is kept in for all ranks.
    """

    def __init__(self, path: str, place: Place) -> None:
        self._exact = place.kind in ENTRY_KINDS
        self._prefix = place.prefix if self._exact else path.rsplit("/", 2)[0] + "/"

    def has(self, place: Place) -> bool:
        if self._exact:
            return place.prefix == self._prefix
        return place.prefix.startswith(self._prefix)


def _compiles_cpp(place: Place, data: bytes) -> bool:
    if place.kind is Kind.FXGRAPH:
        return read_entry(Kind.FXGRAPH.value, "", data).compiles_cpp
    return CPP_CALL in data
