"""Shared fixtures: workers with stores of their own, synthetic cache trees, and the CUDA corpus."""

from __future__ import annotations

import atexit
import base64
import hashlib
import os
import pickle
import random
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from casinductor.cache import Cache
from casinductor.settings import Settings
from casinductor.store.backend import Backend
from casinductor.store.backends.address import open_backend
from casinductor.store.format.pack import read_footer
from casinductor.store.maintain.protocol import require_all_manifests
from casinductor.store.store import Store
from tests import needs, servers
from tests.servers import Server

needs.name_a_torch()
#: The developer's own caches are none of the tests' business, nor what an earlier run left behind.
HOME = tempfile.mkdtemp(prefix="casinductor-tests-")
os.chmod(HOME, 0o755)
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ["HOME"] = HOME
for _name in [n for n in os.environ if n.endswith(("_CACHE_DIR", "_CACHE_ROOT", "_CACHE_HOME"))]:
    del os.environ[_name]

CORPUS = Path(__file__).with_name("data") / "cuda-trees.tar.xz"


#: What a folder or file of tests costs, as a marker of ``pyproject.toml``; ``make quick`` leaves
#: all of these out.
COSTS = {
    "tests/machine": "machine",
    "tests/filesystems": "fuse",
    "tests/objects": "servers",
    "tests/simulation": "slow",
    "tests/test_soak.py": "slow",
    "tests/test_processes.py": "slow",
    "tests/test_run.py": "slow",
    "tests/test_faults.py": "slow",
    "tests/test_host_cache.py": "slow",
    "tests/store/test_shared_catalog.py": "slow",
}
_SERVERS = {"seaweed", "azure"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they cost."""
    root = Path(__file__).resolve().parents[1]
    for item in items:
        where = str(item.path.relative_to(root))
        for start, cost in COSTS.items():
            if where.startswith(start):
                item.add_marker(cost)
        fixtures = set(getattr(item, "fixturenames", ()))
        callspec = getattr(item, "callspec", None)
        chosen = set(callspec.id.split("-")) if callspec is not None else set()
        if fixtures & _SERVERS or chosen & {"objects", "s3", "az"}:
            item.add_marker("servers")
        if "browser" in fixtures:
            item.add_marker("browser")


@dataclass
class Fleet:
    """Workers on one store; each has a state directory of its own, as machines do."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def address(self) -> str:
        return str(self.store)

    def settings(self, worker: str, local: Path | None = None) -> Settings:
        return Settings(
            store=self.address,
            local_dir=local or self.folder / "local" / worker,
            gpu_type="H100",
            state_dir=self.folder / "state" / worker,
        )

    def cache(self, worker: str, key: str = "model/v1", local: Path | None = None) -> Cache:
        return Cache(key, settings=self.settings(worker, local))

    def files(self, pattern: str) -> list[Path]:
        return sorted(path for path in self.store.rglob(pattern) if path.is_file())

    def published(self) -> list[Path]:
        """All objects but marks of use, which come with time."""
        return [path for path in self.files("*") if "uses" not in path.parts]

    def stored_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files("*"))


@dataclass(frozen=True)
class StoredObject:
    """One object of a real server, with as much of a path's manners as the tests need."""

    backend: Backend
    name: str

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    def read_bytes(self) -> bytes:
        return self.backend.get(self.name)

    def write_bytes(self, data: bytes) -> None:
        """Overwrite, which casinductor itself never does."""
        self.backend.delete(self.name)
        self.backend.put(self.name, [data])

    def unlink(self) -> None:
        self.backend.delete(self.name)


@dataclass
class ObjectFleet(Fleet):
    """Workers on a store in a bucket of a real server."""

    server: Server
    scheme: str = "s3"

    @property
    def address(self) -> str:
        return self.server.address(f"t/{self.folder.name}", self.scheme)

    def files(self, pattern: str) -> list[Path]:
        backend = open_backend(self.address)
        found = [item.name for item in backend.list("", recursive=True)]
        return [
            StoredObject(backend, name)  # type: ignore[misc]
            for name in found
            if PurePosixPath(name).match(pattern)
        ]


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """SeaweedFS, started once, with its keys in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in servers.KEYS.items():
            patch.setenv(name, value)
        with servers.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
            yield server


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Azurite, started once, with the emulator's key in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_STORAGE_ACCOUNT_NAME", servers.AZURITE_ACCOUNT)
        patch.setenv("AZURE_STORAGE_ACCOUNT_KEY", servers.AZURITE_KEY)
        with servers.azurite(tmp_path_factory.mktemp("azurite")) as server:
            yield server


@pytest.fixture(params=["directory", "objects"])
def any_fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Fleet:
    """Workers on a directory, and the same on SeaweedFS."""
    if request.param == "directory":
        return Fleet(tmp_path)
    return ObjectFleet(tmp_path, request.getfixturevalue("seaweed"))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        kept = ("CASINDUCTOR_CORPUS", "CASINDUCTOR_SOAK_PYTHONS")
        cleared = ("CASINDUCTOR_", "TORCHINDUCTOR_CACHE", "TRITON_CACHE")
        if name.startswith(cleared) and name not in kept:
            monkeypatch.delenv(name)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what happens beside the test."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


class FxEntry:
    """Pickles to the shape of torch's CompiledFxGraph: a class by name and a dict of attributes."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)


def component_line(name: str, value: str) -> str:
    """A component as torch stores it: the digest of the value, the name, the value."""
    digest = base64.b32encode(hashlib.sha256(value.encode()).digest()).decode().lower()[:51]
    return f"[{digest}] {name}: {value}"


def entry_bytes(
    key: str,
    *,
    guards: str | None = None,
    payload: bytes = b"",
    source: str = "import torch\n",
    time_ns: int = 5_000_000_000,
    bundled: tuple[str, ...] = (),
    components: dict[str, str] | None = None,
) -> bytes:
    """An fxgraph entry as torch 2.13 lays it out, without torch."""
    parts = {"gm": f"GraphModule() {key}"} if components is None else components
    fields: dict[str, object] = {
        "cache_key": "c" + key[1:],
        "source_code": source,
        "guards_expr": guards,
        "_time_taken_ns": time_ns,
        "_fx_graph_cache_key": key,
        "_fx_graph_cache_debug_lines": [component_line(*part) for part in parts.items()],
        "_triton_bundle": [(name, payload) for name in bundled] or None,
        "constants": payload,
    }
    return pickle.dumps(FxEntry(**fields), protocol=4)


@dataclass
class Tree:
    """A synthetic local directory whose files have the names and shapes that torch gives them."""

    root: Path
    seed: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(mode)
        return target

    def noise(self, size: int) -> bytes:
        return self.random.randbytes(size)

    def graph(
        self,
        name: str,
        *,
        guards: str | None = None,
        time_ns: int = 1,
        payload: bytes = b"",
        components: dict[str, str] | None = None,
        source: str = "import torch\n",
        bundled: tuple[str, ...] = (),
    ) -> Path:
        key = "f" + (name * 60)[:51]
        data = entry_bytes(
            key,
            guards=guards,
            time_ns=time_ns,
            payload=payload,
            components=components,
            source=source,
            bundled=bundled,
        )
        file = (f"{abs(hash((data, 1))):x}" + name * 60)[:51].replace("0", "a").replace("1", "b")
        return self.write(f"fxgraph/{key[1:3]}/{key}/{file}", data)

    def kernel(self, name: str, data: bytes | None = None) -> Path:
        stem = "c" + (name * 60)[:51]
        self.write(f"{stem[1:3]}/{stem}.main.cpp", f"// {name}\n".encode())
        return self.write(f"{stem[1:3]}/{stem}.main.so", data or self.noise(3000), 0o755)

    def probe(self, name: str, *, loads: bool = True) -> Path:
        """A probe of the compiler; torch 2.14 marks those that it could load."""
        stem = "c" + (name * 60)[:51]
        self.write(f"{stem[1:3]}/{stem}.cpp", f"// probe {name}\n".encode())
        library = self.write(f"{stem[1:3]}/{stem}.so", self.noise(500), 0o755)
        if loads:
            self.write(f"{stem[1:3]}/{stem}.so.load_ok", b"")
        return library

    def module(self, name: str) -> Path:
        stem = "c" + (name * 60)[:51]
        return self.write(f"{stem[1:3]}/{stem}.py", f"# {name}\n".encode())

    def tuning(self, name: str, choice: int = 1) -> Path:
        return self.write(f"{name[:2]}/{name * 8}.best_config", b'{"XBLOCK": %d}' % choice)

    def triton(self, name: str) -> Path:
        folder = f"triton/0/{(name.upper() * 60)[:52]}"
        children = {f"{name}.cubin": self.noise(2000), f"{name}.json": b'{"num_warps": 4}'}
        for child, data in children.items():
            self.write(f"{folder}/{child}", data)
        paths = {child: f"{self.root}/{folder}/{child}" for child in children}
        import json

        return self.write(
            f"{folder}/__grp__{name}.json", json.dumps({"child_paths": paths}).encode()
        )

    def model(self, name: str) -> Tree:
        """One of everything."""
        self.graph(name)
        self.kernel(name)
        self.module(name)
        self.tuning(name)
        self.triton(name)
        return self

    def content(self) -> dict[str, bytes]:
        return content(self.root)


def content(root: Path) -> dict[str, bytes]:
    """Every file below a directory but casinductor's own, by relative path."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".casinductor" not in path.parts
    }


def exact(store: Store) -> None:
    """Every blob of every pack is needed by some manifest, and nothing else lies around."""
    require_all_manifests(store)
    store.catalog.index_blobs()
    places = store.catalog.blobs.places()
    needed = {(place.pack, place.frame, place.offset, place.hash) for place in places}
    stored = set()
    for ulid, size in store.packs().items():
        footer = read_footer(store.backend, ulid, size)
        for spot in footer.spots():
            stored.add((ulid, footer.frames[spot.frame].offset, spot.offset, spot.hash))
    assert stored == needed
    assert store.marks.condemned() == set()


@pytest.fixture
def two(fleet: Fleet) -> Fleet:
    """A cache of two workers' syncs, one of everything each."""
    for number, name in enumerate(("ab", "cd")):
        Tree(fleet.folder / "local" / name, seed=number).model(name)
        fleet.cache(name).sync()
    return fleet


@pytest.fixture
def tree(fleet: Fleet) -> Callable[..., Tree]:
    """Make a synthetic tree as the local directory of a worker."""

    def make(worker: str = "w", seed: int = 0) -> Tree:
        return Tree(fleet.folder / "local" / worker, seed)

    return make


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The real CUDA trees of ``tests/data``, unpacked once."""
    folder = tmp_path_factory.mktemp("corpus")
    with tarfile.open(CORPUS) as archive:
        archive.extractall(folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def unet() -> Path:
    """A CUDA tree of 128 MB that is not in the repository."""
    tree = Path(os.environ.get("CASINDUCTOR_CORPUS", "nowhere"), "cuda-sdturbo_unet-512")
    if not tree.is_dir():
        pytest.skip("needs a large CUDA tree: set CASINDUCTOR_CORPUS, see tests/data/README.md")
    return tree
