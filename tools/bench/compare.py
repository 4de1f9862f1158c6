"""The verbs of a worker against fal's, tree by tree.

Invariant: each run begins with what its name says (an empty store, an empty directory, an unchanged
one), on fresh paths, and the same tree for both sides.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from casinductor.cache import Cache
from casinductor.reports.transfer import SyncReport
from casinductor.settings import Settings
from casinductor.store.maintain.compact import compact
from casinductor.store.opening import with_store
from tools.bench.measure import (
    Pair,
    bytes_below,
    files_below,
    in_turns,
    megabytes,
    milliseconds,
    set_aside,
)
from tools.bench.peer import Fal

KEY = "model/v1"
Row = list[str]


class Comparison:
    """One tree on both sides, below ``folder``."""

    def __init__(self, tree: Path, folder: Path, runs: int) -> None:
        self.tree = tree
        self.folder = folder
        self.runs = runs
        folder.mkdir(parents=True)
        self.local = folder / "producer"
        shutil.copytree(tree, self.local)
        self.fal = Fal(folder)

    def cache(self, local: Path, store: str = "store", state: str = "state") -> Cache:
        settings = Settings(
            store=str(self.folder / store),
            local_dir=local,
            gpu_type="H100",
            state_dir=self.folder / state,
        )
        return Cache(KEY, settings=settings)

    def rows(self) -> list[Row]:
        """All verbs as rows: name, ours, fal's, times as fast, bytes and files."""
        return [
            self._first_sync(),
            *(self._cold_restore(mode) for mode in ("needed", "all")),
            self._warm_restore(),
            self._nothing_new(),
            self._one_new_graph(),
        ]

    def _first_sync(self) -> Row:
        def ours(number: int) -> None:
            self.cache(self.local, f"store{number}", f"state{number}").sync()

        def theirs(number: int) -> None:
            self.fal.sync(f"{KEY}-{number}", self.local)

        pair = in_turns(ours, theirs, self.runs)
        stored = bytes_below(self.folder / "store1")
        zipped = self.fal.stored_bytes() // (self.runs + 1)
        set_aside(Path(self.fal.store))
        for number in range(self.runs + 1):
            set_aside(self.folder / f"store{number}")
        self.cache(self.local).sync()
        self.fal.sync(KEY, self.local)
        return self._row("first sync", pair, f"stores {megabytes(stored)}", megabytes(zipped))

    def _cold_restore(self, mode: str) -> Row:
        report = {}

        def ours(number: int) -> None:
            cache = self.cache(self.folder / f"{mode}{number}", state=f"cold-{mode}{number}")
            report["last"] = cache.restore(mode)  # type: ignore[arg-type]

        def theirs(number: int) -> None:
            self.fal.load(KEY, self.folder / f"unpacked{number}")

        pair = in_turns(ours, theirs, self.runs)
        last = report["last"]
        did = f"reads {megabytes(last.bytes_read)}, writes {last.files_written} files"
        unpacked = files_below(self.folder / "unpacked0")
        peer = f"{megabytes(self.fal.stored_bytes())}, {unpacked} files"
        for number in range(self.runs + 1):
            set_aside(self.folder / f"unpacked{number}")
        return self._row(f"cold restore, {mode}", pair, did, peer)

    def _warm_restore(self) -> Row:
        cache = self.cache(self.folder / "needed0", state="cold-needed0")
        unpacked = self.folder / "warm"
        self.fal.load(KEY, unpacked)
        pair = in_turns(
            lambda _: cache.restore("needed"), lambda _: self.fal.load(KEY, unpacked), self.runs
        )
        files = files_below(unpacked)
        return self._row("warm restore", pair, "reads 0, writes 0 files", f"writes {files} files")

    def _nothing_new(self) -> Row:
        local = self.folder / "all0"
        cache = self.cache(local, state="cold-all0")
        cache.restore("all")
        state = self.fal.load(KEY, self.folder / "warm")
        pair = in_turns(
            lambda _: cache.sync(),
            lambda _: self.fal.sync(KEY, self.folder / "warm", state),
            self.runs,
        )
        files = files_below(local)
        return self._row(f"sync with nothing new, {files} files", pair, "publishes 0", "")

    def _one_new_graph(self) -> Row:
        """A worker restores everything, and one graph is compiled: an entry under a new key."""
        source = max(self.tree.glob("fxgraph/*/*/*"), key=lambda path: path.stat().st_size)
        data = source.read_bytes()
        key = source.parent.name
        uploaded: list[int] = []

        def graph(local: Path, number: int) -> None:
            other = f"f{number:02d}".translate(str.maketrans("0123456789", "abcdefghij")) + key[3:]
            target = local / "fxgraph" / other[1:3] / other / source.name
            target.parent.mkdir(parents=True)
            target.write_bytes(data.replace(key.encode(), other.encode()))

        cache = self.cache(self.folder / "all0", state="cold-all0")
        cache.restore("all")
        state = self.fal.load(KEY, self.folder / "warm")
        runs = min(self.runs, 5)
        prepared: dict[int, Callable[[], SyncReport]] = {}

        def ours(number: int) -> None:
            uploaded.append(prepared[number]().bytes_uploaded)

        for number in range(runs + 1):
            prepared[number] = cache.sync
        pair = Pair([], [])
        for number in range(runs + 1):
            graph(self.folder / "all0", number)
            graph(self.folder / "warm", number)
            one = in_turns(
                lambda n, number=number: ours(number) if n else None,  # type: ignore[misc]
                lambda n: self.fal.sync(KEY, self.folder / "warm", state) if n else None,
                1,
            )
            pair.ours += one.ours
            pair.theirs += one.theirs
        moved = f"uploads {megabytes(sorted(uploaded)[len(uploaded) // 2])}"
        return self._row(
            "sync after one new graph", pair, moved, megabytes(self.fal.stored_bytes())
        )

    def _row(self, name: str, pair: Pair, ours: str, theirs: str) -> Row:
        times = [milliseconds(pair.ours), milliseconds(pair.theirs), f"{pair.ratio:.1f}"]
        return [name, *times, ours, theirs]


def growth(trees: list[Path], folder: Path, *, keys: bool = False) -> list[Row]:
    """The store after each of several workers' syncs, to one key or (``keys``) each to its own.

    fal's side keeps a zip for each, as one key would lose the former worker's kernels.
    """
    folder.mkdir(parents=True)
    fal = Fal(folder)
    rows = []
    for number, tree in enumerate(trees):
        settings = Settings(
            store=str(folder / "store"),
            local_dir=tree,
            gpu_type="H100",
            state_dir=folder / "state",
        )
        cache = Cache(f"{KEY}-{number}" if keys else KEY, settings=settings)
        before = bytes_below(folder / "store") if number else 0
        cache.sync()
        after = bytes_below(folder / "store")
        fal.sync(f"{KEY}-{number}", tree)
        rows.append(
            [tree.name, megabytes(after - before), megabytes(after), megabytes(fal.stored_bytes())]
        )
    for number in range(len(trees) if keys else 1):
        cache = Cache(f"{KEY}-{number}" if keys else KEY, settings=settings)
        with_store(settings, lambda store, cache=cache: compact(store, cache.id))  # type: ignore[misc]
    rows.append(["after compact", "", megabytes(bytes_below(folder / "store")), ""])
    return rows
