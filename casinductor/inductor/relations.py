"""Which other artifacts a graph relies on, read from its entry and from the directory.

Invariant: what is named is in the directory; where the entry does not say, more is named rather
than less, because a missing kernel is rebuilt by every worker. torch itself keeps loaded kernels
in memory, so access times alone would miss what a process used twice (``docs/torch.md``).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from casinductor.inductor.directory import Unstable, Walk, read_stable
from casinductor.inductor.entries import read_entry
from casinductor.inductor.layout import Kind

_CPP_BLOCK = re.compile(rb"async_compile\.cpp\w*\(.*?'''(.*?)'''", re.DOTALL)
#: How a kernel's function begins; before torch 2.8 its file's name does not say that it is one.
_KERNEL = re.compile(rb'extern "C"\s+void\s+kernel\(')
_STEM = re.compile(rb"/([0-9a-z]{2})/(c[a-z2-7]{51,52})\.py")


class Relations:
    """The relations among the files below ``root`` that ``walk`` found."""

    def __init__(self, root: str, walk: Walk) -> None:
        self._root = root
        self._walk = walk
        self._members: dict[str, list[str]] = defaultdict(list)
        for path, file in walk.files.items():
            self._members[file.place.group].append(path)
        self._sources: dict[str, bytes] | None = None

    def relied_on(self, graphs: Iterable[str]) -> set[str]:
        """Paths that the fxgraph entries at the given paths rely on, wherever they came from."""
        found: set[str] = set()
        for path in graphs:
            try:
                data = read_stable(self._root, self._walk.files[path])
            except Unstable:
                continue
            found |= self._of(data)
        return found

    def _of(self, data: bytes) -> set[str]:
        entry = read_entry(Kind.FXGRAPH.value, "", data)
        found: set[str] = set()
        if entry.compiles_cpp:
            found |= self._kernels(data) | self._probes()
        for group, members in self._members.items():
            if group.startswith("triton/") and group.rpartition("/")[2] in entry.bundled:
                found.update(members)
        stems = {(folder.decode(), stem.decode()) for folder, stem in _STEM.findall(data)}
        return found | self._modules(stems)

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
        return {
            path
            for path, file in self._walk.files.items()
            if path in modules
            or (file.place.kind is Kind.TUNING and path.partition("/")[0] in folders)
        }

    def _cpp_sources(self) -> dict[str, bytes]:
        if self._sources is None:
            self._sources = {}
            for path, file in self._walk.files.items():
                if file.place.kind is Kind.CPP and path.endswith(".cpp"):
                    try:
                        source = read_stable(self._root, file)
                    except Unstable:
                        continue
                    self._sources[file.place.group] = source.strip()
        return self._sources
