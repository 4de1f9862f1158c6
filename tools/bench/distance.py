"""What distance costs: cold restores and syncs with latency between the worker and the store.

Invariant: both sides move their bytes over the same path: to SeaweedFS through one proxy that adds
the latency to each round trip and counts, or to a directory through one FUSE mount that adds it to
each operation. fal's zip goes to the bucket as one PUT and comes as one GET by the same client.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from casinductor.cache import Cache
from casinductor.settings import Settings
from casinductor.store.backends.address import open_backend
from tests import servers
from tests.proxy import Proxy, proxied
from tools.bench.measure import Pair, milliseconds, set_aside
from tools.bench.peer import Fal

LATENCIES = (0.0, 0.002, 0.01, 0.05)
COLUMNS = [
    "verb", "added", "casinductor", "fal's zip", "times as fast",
    "requests", "in a row", "zip", "moves", "zip", "times less",
]  # fmt: skip
KEY = "model/v1"
_FAR = 0.002
PASSTHROUGH = Path(__file__).resolve().parents[2] / "tests" / "filesystems" / "passthrough.py"


@dataclass
class Moved:
    """Requests and bytes of a run, and how many requests waited for each other."""

    trips: int = 0
    bytes: int = 0
    row: int = 0


@dataclass
class Way:
    """A way to a store: its address, what fal does to store or fetch, and what was moved."""

    address: Callable[[str], str]
    upload: Callable[[Fal, str], None]
    download: Callable[[Fal, str], None]
    moved: Callable[[], Moved]
    fal_store: Path | None = None
    fal_near: Path | None = None  # the same directory without the distance


@dataclass
class Measured:
    pair: Pair = field(default_factory=lambda: Pair([], []))
    ours: Moved = field(default_factory=Moved)
    theirs: Moved = field(default_factory=Moved)

    def row(self, verb: str, latency: float) -> list[str]:
        ours, theirs = self.ours, self.theirs
        return [
            verb,
            f"{latency * 1000:g} ms",
            milliseconds(self.pair.ours),
            milliseconds(self.pair.theirs) if self.pair.theirs else "",
            f"{self.pair.ratio:.1f}" if self.pair.theirs else "",
            f"{ours.trips:,}",
            f"{ours.row}" if ours.row else "",
            f"{theirs.trips:,}" if self.pair.theirs else "",
            f"{ours.bytes / 1e6:.2f} MB",
            f"{theirs.bytes / 1e6:.2f} MB" if self.pair.theirs else "",
            f"{theirs.bytes / max(1, ours.bytes):.1f}" if self.pair.theirs else "",
        ]


class Distance:
    """One tree, one way, one latency; ``runs`` of each verb in turns."""

    def __init__(self, tree: Path, folder: Path, way: Way, runs: int) -> None:
        self.tree = tree
        self.folder = folder
        self.way = way
        self.runs = runs
        folder.mkdir(parents=True)
        self.fal = Fal(folder)
        if way.fal_store is not None:
            self._point_fal_at(way.fal_store)

    def cache(self, store: str, local: Path, state: str) -> Cache:
        settings = Settings(
            store=self.way.address(store),
            local_dir=local,
            gpu_type="H100",
            state_dir=self.folder / state,
            restore_deadline=600,
            sync_deadline=600,
        )
        return Cache(KEY, settings=settings)

    def rows(self, latency: float) -> list[list[str]]:
        """All verbs. On a far filesystem fal's syncs take an operation for each part of each file,
        many minutes: there only ours are timed, and fal's zip is made without the distance.
        """
        patient = self.way.fal_near is None or latency < _FAR
        verbs: dict[str, Callable[[], Measured]] = {
            "first sync": lambda: self._first_sync(patient),
            "cold restore, needed": lambda: self._restore("needed"),
            "cold restore, all": lambda: self._restore("all"),
            "sync of one new graph": lambda: self._one_new_graph(patient),
        }
        rows = []
        for verb, measure in verbs.items():
            rows.append(measure().row(verb, latency))
            print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)  # some take minutes
        return rows

    def _point_fal_at(self, store: Path) -> None:
        self.fal.module.GLOBAL_INDUCTOR_CACHES_DIR = self.fal.store = store
        self.fal.module.PERSISTENT_TMP_DIR = store.parent / "zip-tmp"

    def _turns(
        self,
        ours: Callable[[int], object],
        theirs: Callable[[int], object],
        prepare: Callable[[int], object] = lambda _: None,
        *,
        patient: bool = True,
    ) -> Measured:
        """In turns; of what is moved the last run counts, as all are alike."""
        measured = Measured()
        for number in range(self.runs + 1):
            prepare(number)
            for side, work in (("ours", ours), ("theirs", theirs))[: 2 if patient else 1]:
                self.way.moved()
                start = time.perf_counter()
                work(number)
                seconds = time.perf_counter() - start
                setattr(measured, side, self.way.moved())
                if number:
                    getattr(measured.pair, side).append(seconds)
        return measured

    def _first_sync(self, patient: bool) -> Measured:
        def ours(number: int) -> None:
            self.cache(f"store{number}", self.tree, f"state{number}").sync()

        def theirs(number: int) -> None:
            self.fal.sync(f"{KEY}-{number}", self.tree)
            self.way.upload(self.fal, f"{KEY}-{number}")

        if not patient and self.way.fal_near and self.way.fal_store:
            self._point_fal_at(self.way.fal_near)
            theirs(0)
            self._point_fal_at(self.way.fal_store)
        return self._turns(ours, theirs, patient=patient)

    def _restore(self, mode: str) -> Measured:
        def ours(number: int) -> None:
            local = self.folder / f"{mode}{number}"
            self.cache("store0", local, f"cold-{mode}{number}").restore(mode)  # type: ignore[arg-type]

        def theirs(number: int) -> None:
            self.way.download(self.fal, f"{KEY}-0")
            self.fal.load(f"{KEY}-0", self.folder / f"unpacked-{mode}{number}")

        measured = self._turns(ours, theirs)
        for number in range(self.runs + 1):
            set_aside(self.folder / f"unpacked-{mode}{number}")
            if mode == "needed":
                set_aside(self.folder / f"{mode}{number}")
        return measured

    def _one_new_graph(self, patient: bool) -> Measured:
        source = max(self.tree.glob("fxgraph/*/*/*"), key=lambda path: path.stat().st_size)
        data, key = source.read_bytes(), source.parent.name
        local, unpacked = self.folder / "all0", self.folder / "unpacked"
        cache = self.cache("store0", local, "cold-all0")
        cache.restore("all")
        self.way.download(self.fal, f"{KEY}-0")
        state = self.fal.load(f"{KEY}-0", unpacked)

        def graph(where: Path, number: int) -> None:
            other = "f" + "zyxwvu"[number] * 2 + key[3:]
            target = where / "fxgraph" / other[1:3] / other / source.name
            target.parent.mkdir(parents=True)
            target.write_bytes(data.replace(key.encode(), other.encode()))

        def ours(_: int) -> None:
            cache.sync()

        def theirs(_: int) -> None:
            self.fal.sync(f"{KEY}-0", unpacked, state)
            self.way.upload(self.fal, f"{KEY}-0")

        def both(number: int) -> None:
            graph(local, number)
            graph(unpacked, number)

        return self._turns(ours, theirs, both, patient=patient)


@contextlib.contextmanager
def object_store(folder: Path, latency: float, server: servers.Server) -> Iterator[Way]:
    """The way to a bucket of SeaweedFS through the proxy."""
    with proxied(server.endpoint, latency) as proxy:

        def address(name: str) -> str:
            return f"s3://{servers.BUCKET}/{folder.name}/{name}?endpoint={proxy.endpoint}"

        def zipped(fal: Fal, key: str) -> Path:
            return fal.store / "H100" / f"{key}.zip"

        def upload(fal: Fal, key: str) -> None:
            backend = open_backend(address(f"zips-{time.monotonic_ns()}"), 600)
            backend.put("zip", [zipped(fal, key).read_bytes()])
            uploaded[key] = backend.url

        def download(fal: Fal, key: str) -> None:
            backend = open_backend(uploaded[key], 600)
            zipped(fal, key).write_bytes(backend.get("zip"))

        uploaded: dict[str, str] = {}
        yield Way(address, upload, download, lambda: _of(proxy))


def _of(proxy: Proxy) -> Moved:
    traffic = proxy.reset()
    return Moved(traffic.total, traffic.up + traffic.down, len(traffic.waiting))


@contextlib.contextmanager
def filesystem(folder: Path, latency: float) -> Iterator[Way]:
    """The way to a directory through a FUSE mount that delays each operation.

    The kernel remembers names and attributes for FUSE's default of one second.
    """
    source, mount, count = folder / "source", folder / "mount", folder / "count"
    for path in (source, mount):
        path.mkdir(parents=True)
    options = json.dumps({"delay": latency, "count": str(count), "remember": 1})
    process = subprocess.Popen([sys.executable, str(PASSTHROUGH), str(source), str(mount), options])
    try:
        while not os.path.ismount(mount):
            if process.poll() is not None:
                raise SystemExit("no FUSE mount here: it needs root, /dev/fuse and libfuse")
            time.sleep(0.02)
        before = Moved()

        def moved() -> Moved:
            nonlocal before
            (mount / "tell").write_bytes(b"")  # its release makes the mount tell; not counted below
            time.sleep(0.05 + 6 * latency)
            told = json.loads(count.read_text())
            total = Moved(told["operations"], told["read_bytes"] + told["write_bytes"])
            since = Moved(total.trips - before.trips - 5, total.bytes - before.bytes)
            before = total
            return since

        def nothing(_fal: Fal, _key: str) -> None:
            """fal reads and writes the mount itself."""

        zips = (mount / "zips", source / "zips")
        yield Way(lambda name: str(mount / name), nothing, nothing, moved, *zips)
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False)
        process.wait(20)


def rows(tree: Path, folder: Path, runs: int) -> dict[str, list[list[str]]]:
    """The tables: verbs by latency, over an object store and over a filesystem."""
    found: dict[str, list[list[str]]] = {"Object store": [], "Filesystem": []}
    os.environ.update(servers.KEYS)
    with servers.seaweedfs(folder / "seaweedfs") as server:
        for latency in LATENCIES:
            place = folder / f"objects-{latency}"
            print(f"object store, {latency * 1000:g} ms", file=sys.stderr, flush=True)
            with object_store(place, latency, server) as way:
                found["Object store"] += Distance(tree, place, way, runs).rows(latency)
            set_aside(place)
    for latency in LATENCIES:
        place = folder / f"fuse-{latency}"
        print(f"filesystem, {latency * 1000:g} ms", file=sys.stderr, flush=True)
        with filesystem(place / "way", latency) as way:
            found["Filesystem"] += Distance(tree, place / "work", way, runs).rows(latency)
        set_aside(place)
    return {title: _by_verb(those) for title, those in found.items()}


def _by_verb(rows: list[list[str]]) -> list[list[str]]:
    order = list(dict.fromkeys(row[0] for row in rows))
    return sorted(rows, key=lambda row: order.index(row[0]))
