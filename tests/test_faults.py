"""Real faults of the system below: full disks, permissions that go, failing calls, wrong clocks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest

from casinductor.errors import StoreFull, StoreReadOnly, StoreUnavailable
from casinductor.store.backend import Listed
from casinductor.store.backends.filesystem import FilesystemBackend
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.compact import compact
from casinductor.store.maintain.retention import Policy
from casinductor.store.opening import with_fresh_store
from tests.conftest import Fleet, Tree, content
from tests.needs import need, need_privilege
from tests.store.test_collection import gc, holds

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def small(fleet: Fleet) -> Iterator[Fleet]:
    """A fleet whose store is a tmpfs of 300 kB and 60 inodes."""
    fleet.store.mkdir()
    options = "size=300k,nr_inodes=60"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(fleet.store)]
    need_privilege(command, "mounting a small tmpfs")
    yield fleet
    subprocess.run(["umount", "-l", str(fleet.store)], check=True)


def test_a_disk_that_fills_loses_nothing(small: Fleet) -> None:
    Tree(small.folder / "local/w").model("ab")
    small.cache("w", "one").sync()
    Tree(small.folder / "local/large").write("ab/c" + "a" * 51 + ".py", os.urandom(1 << 20))
    before = {path: path.read_bytes() for path in small.published()}
    with pytest.raises(StoreFull, match="No space left"):
        small.cache("large", "one").sync()
    assert {path: path.read_bytes() for path in small.published()} == before
    full = 0
    for number in range(60):  # until inodes or blocks are used up, whatever comes first
        Tree(small.folder / "local" / f"x{number}", seed=number).kernel(f"{chr(97 + number % 26)}q")
        try:
            small.cache(f"x{number}", f"many{number}").sync()
        except StoreFull:
            full += 1
            break
    assert full == 1
    cache = small.cache("c", "one")
    for verb in (
        lambda store: compact(store, cache.id),
        lambda store: collect(store, Policy(max_bytes=0, keep=("one",)), apply=True),
    ):
        try:
            with_fresh_store(cache.settings, verb)
        except StoreFull as error:
            assert "No space left" in str(error)
    assert len(holds(small, "one")) == 8


def test_space_comes_back_on_a_full_disk(small: Fleet) -> None:
    """A collection needs little room itself: empty tombstones."""
    Tree(small.folder / "local/w").model("ab")
    small.cache("w", "one").sync()
    filler = small.store / "packs/filler"
    Tree(small.folder / "local/v", seed=1).write("cd/c" + "d" * 51 + ".py", os.urandom(150_000))
    small.cache("v", "two").sync()
    with suppress(OSError):
        filler.write_bytes(b"x" * (1 << 20))
    (small.store / "uses/H100/two").rename(small.store / "uses/H100/gone")
    report = gc(small, Policy(max_bytes=20_000, keep=("one",)), max_unused=1.0)
    assert report.bytes_freed > 100_000
    assert len(holds(small, "one")) == 8


def test_permissions_that_are_withdrawn_midway(
    small: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount turns read-only between the pack and the manifest, as a failing disk does."""
    Tree(small.folder / "local/w").model("ab")
    small.cache("w", "one").sync()
    real = FilesystemBackend.put

    def put(self: FilesystemBackend, name: str, *rest: object, **options: object) -> int:
        written = real(self, name, *rest, **options)  # type: ignore[arg-type]
        if name.startswith(("packs/", "condemned/")):
            subprocess.run(["mount", "-o", "remount,ro", str(small.store)], check=True)
        return written

    Tree(small.folder / "local/v", seed=1).model("cd")
    cache = small.cache("c", "one")
    verbs: list[Callable[[], object]] = [
        small.cache("v", "one").sync,
        lambda: with_fresh_store(cache.settings, lambda store: compact(store, cache.id)),
        lambda: gc(small, Policy(max_bytes=0)),
    ]
    for verb in verbs:
        monkeypatch.setattr(FilesystemBackend, "put", put)
        with pytest.raises(StoreReadOnly, match="Read-only file system"):
            verb()
        monkeypatch.undo()
        assert len(holds(small, "one")) == 8
        subprocess.run(["mount", "-o", "remount,rw", str(small.store)], check=True)
    small.cache("v", "one").sync()
    assert len(holds(small, "one")) == 16
    gc(small)
    assert len(holds(small, "one")) == 16


def test_a_sync_that_cannot_read_tombstones_relies_on_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there may be about to go: a sync that cannot know it must not acknowledge."""
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w", "one").sync()
    real, failures = FilesystemBackend.list, ["the server is busy"]

    def refused(self: FilesystemBackend, prefix: str, *, recursive: bool = False) -> list[Listed]:
        if prefix == "condemned/" and failures:
            raise StoreUnavailable(failures.pop())
        return real(self, prefix, recursive=recursive)

    monkeypatch.setattr(FilesystemBackend, "list", refused)
    with pytest.raises(StoreUnavailable, match="busy"):
        fleet.cache("w", "one").sync()
    monkeypatch.undo()
    assert fleet.cache("w", "one").sync().groups_added == 0


CHILD = """
import sys
from pathlib import Path
from casinductor.cache import Cache
from casinductor.store.opening import with_fresh_store
from casinductor.settings import Settings
from casinductor.store.maintain.compact import compact
verb, store, local = sys.argv[1:4]
settings = Settings(store=store, local_dir=Path(local), gpu_type="H100",
                    state_dir=Path(local + "-state"))
cache = Cache("one", settings=settings)
if verb == "sync":
    cache.sync()
else:
    with_fresh_store(settings, lambda s: compact(s, cache.id))
"""


def child(fleet: Fleet, verb: str, local: str, *prefix: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, verb, str(fleet.store), str(fleet.folder / local)]
    return subprocess.run(
        [*prefix, *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )


@pytest.mark.parametrize("verb", ["sync", "compact"])
@pytest.mark.parametrize(
    "fault",
    [
        "link:error=EIO:when=1",
        "link:error=EIO:when=2",
        "fsync:error=EIO:when=1",
        "fsync:error=ENOSPC:when=3",
        "fsync:error=EIO:when=4",
        "fsync:signal=KILL:when=2",
        "link:signal=KILL:when=2",
    ],
)
def test_system_calls_that_fail(fleet: Fleet, verb: str, fault: str) -> None:
    """Exactly this call fails, or the process is killed in it: fsync of the pack, its folder, the
    manifest and the folder that the manifest already stands in.
    """
    need("strace")
    Tree(fleet.folder / "w").model("ab")
    assert child(fleet, "sync", "w").returncode == 0
    # Every folder of packs is there: making one would be one fsync more, in most runs but not all.
    for prefix in product("0123456789abcdefghjkmnpqrstvwxyz", repeat=2):
        (fleet.store / "packs" / "".join(prefix)).mkdir(exist_ok=True)
    Tree(fleet.folder / "v", seed=1).model("cd")
    result = child(
        fleet, verb, "v", "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={fault}"
    )
    if "ptrace" in result.stderr or "PTRACE" in result.stderr:
        pytest.skip(f"strace may not trace here, allow ptrace: {result.stderr[:100]}")
    if verb == "compact" and "error" in fault and result.returncode == 0:
        return  # it tried once more
    assert result.returncode != 0
    if "signal" not in fault:
        assert "StoreUnavailable" in result.stderr or "StoreFull" in result.stderr
    visible = verb == "sync" and fault == "fsync:error=EIO:when=4"  # there, and not yet durable
    assert len(holds(fleet, "one")) == (16 if visible else 8)
    assert child(fleet, "sync", "v").returncode == 0
    gc(fleet)
    assert len(holds(fleet, "one")) == 16


@pytest.mark.parametrize("shift", ["-400d", "+400d"])
def test_clocks_that_jump(fleet: Fleet, shift: str) -> None:
    """A worker whose clock is far off syncs and compacts; a collector keeps what is used."""
    need("faketime")
    Tree(fleet.folder / "w").model("ab")
    assert child(fleet, "sync", "w").returncode == 0
    Tree(fleet.folder / "v", seed=1).model("cd")
    result = child(fleet, "sync", "v", "faketime", "-f", shift)
    assert result.returncode == 0, result.stderr
    assert len(holds(fleet, "one")) == 16
    assert gc(fleet, Policy(within=30 * 86_400.0)).caches == {}
    assert child(fleet, "compact", "c", "faketime", "-f", shift).returncode == 0
    assert gc(fleet, Policy(within=30 * 86_400.0)).caches == {}
    assert len(holds(fleet, "one")) == 16


def test_a_server_that_goes_away(fleet: Fleet) -> None:
    """The mount point is empty all of a sudden: an error, and nothing is made in its place."""
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w", "one").sync()
    fleet.store.rename(fleet.folder / "away")
    fleet.store.write_text("not a directory")
    with pytest.raises(StoreUnavailable):
        fleet.cache("v", "one").restore()
    with pytest.raises(StoreUnavailable):
        gc(fleet)
    fleet.store.unlink()
    (fleet.folder / "away").rename(fleet.store)
    assert content(fleet.folder / "local/w")
    assert len(holds(fleet, "one")) == 8
