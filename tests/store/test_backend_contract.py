"""The contract that every backend keeps; a new backend joins ``BACKENDS`` and passes as it is."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from casinductor.errors import Damaged, NameTaken, ObjectMissing, StoreFull, StoreUnavailable
from casinductor.store.backend import Backend
from casinductor.store.backends.address import open_backend
from casinductor.store.backends.filesystem import MODES, FilesystemBackend
from tests.conftest import until
from tests.needs import need_privilege
from tests.servers import BUCKET, Server


def filesystem(mode: str) -> Callable[[Path], Backend]:
    return lambda folder: FilesystemBackend(folder / "store", mode)


def objects(scheme: str) -> Callable[[Path], Backend]:
    """The server that a fixture has started, as its endpoint in the environment says."""

    def make(folder: Path) -> Backend:
        endpoint = os.environ[f"TEST_ENDPOINT_{scheme}"]
        return open_backend(
            f"{scheme}://{BUCKET}/contract/{folder.name}?endpoint={endpoint}", seconds=20.0
        )

    return make


BACKENDS: dict[str, Callable[[Path], Backend]] = {
    **{f"filesystem-{mode}": filesystem(mode) for mode in MODES},
    "s3": objects("s3"),
    "az": objects("az"),
}
SERVERS = {"s3": "seaweed", "az": "azure"}


@pytest.fixture(params=BACKENDS)
def backend(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Backend:
    name = request.param
    if name in SERVERS:
        server: Server = request.getfixturevalue(SERVERS[name])
        monkeypatch.setenv(f"TEST_ENDPOINT_{name}", server.endpoint)
    return BACKENDS[name](tmp_path)


def test_what_is_put_can_be_read(backend: Backend) -> None:
    assert backend.put("a/b/c", [b"one ", b"", b"two"]) == 7
    assert backend.get("a/b/c") == b"one two"
    assert backend.size("a/b/c") == 7
    assert list(backend.get_ranges("a/b/c", [(4, 3), (0, 3), (2, 0)])) == [b"two", b"one", b""]


def test_a_name_is_used_once(backend: Backend) -> None:
    backend.put("name", [b"first"])
    with pytest.raises(NameTaken):
        backend.put("name", [b"second"])
    assert backend.get("name") == b"first"


def test_nothing_appears_when_the_parts_fail(backend: Backend) -> None:
    def parts() -> Iterator[bytes]:
        yield b"some"
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        backend.put("a/name", parts())
    assert backend.list("a/") == []
    backend.put("a/name", [b"whole"])
    assert backend.get("a/name") == b"whole"


def test_listing(backend: Backend) -> None:
    for name in ("p/1", "p/q/2", "p/q/r/3", "px/4"):
        backend.put(name, [b"x" * int(name[-1])])
    assert [tuple(item) for item in backend.list("p/")] == [("p/1", 1)]
    recursive = [tuple(item) for item in backend.list("p/", recursive=True)]
    assert recursive == [("p/1", 1), ("p/q/2", 2), ("p/q/r/3", 3)]
    assert backend.list("nothing/") == []


def test_a_part_of_a_listing(backend: Backend) -> None:
    for name in ("p/a/1", "p/v1/22", "p/v2/c/333", "p/w/4444", "q/55555"):
        backend.put(name, [b"x" * len(name.rpartition("/")[2])])
    everything = [("p/a/1", 1), ("p/v1/22", 2), ("p/v2/c/333", 3), ("p/w/4444", 4)]
    assert [tuple(item) for item in backend.list_from("p/", "p/", 10)] == everything
    assert [tuple(item) for item in backend.list_from("p/", "p/v", 2)] == everything[1:3]
    assert [tuple(item) for item in backend.list_from("p/", "p/vx", 9)] == everything[3:]
    assert backend.list_from("p/", "p/x", 9) == []
    assert backend.list_from("none/", "none/", 9) == []


@pytest.mark.parametrize("part", ["sp ace", "#x%41?y=z&", "ü~*;$@:,", "'\"<>|{}^`[]!()+"])
def test_names_are_kept_as_they_are(backend: Backend, part: str) -> None:
    backend.put(f"odd/{part}/x", [b"1"])
    assert backend.get(f"odd/{part}/x") == b"1"
    assert [item.name for item in backend.list("odd/", recursive=True)] == [f"odd/{part}/x"]
    assert [item.name for item in backend.list(f"odd/{part}/")] == [f"odd/{part}/x"]


def test_the_probe_leaves_nothing(backend: Backend) -> None:
    assert backend.probe() in backend.modes
    until(lambda: backend.list("probes/") == [])
    backend.put("after", [b"x"])
    with pytest.raises(NameTaken):
        backend.put("after", [b"y"])


def test_missing_objects(backend: Backend) -> None:
    for read in (backend.get, backend.size, lambda name: list(backend.get_ranges(name, [(0, 1)]))):
        with pytest.raises(ObjectMissing):
            read("absent/name")
    backend.delete("absent/name")


def test_ranges_past_the_end_are_damage(backend: Backend) -> None:
    backend.put("name", [b"12345"])
    with pytest.raises(Damaged):
        list(backend.get_ranges("name", [(3, 3)]))


def test_a_whole_read_is_bounded(backend: Backend) -> None:
    backend.put("name", [b"12345"])
    with pytest.raises(Damaged):
        backend.get("name", 4)
    assert backend.get("name", 5) == b"12345"


def test_delete(backend: Backend) -> None:
    backend.put("d/name", [b"1"])
    backend.delete("d/name")
    assert backend.list("d/") == []


RACE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.store.test_backend_contract import BACKENDS
from casinductor.errors import NameTaken
backend = BACKENDS[sys.argv[1]](Path(sys.argv[2]))
won = 0
for n in range(100):
    try:
        backend.put(f"race/{n}", [sys.argv[4].encode()])
        won += 1
    except NameTaken:
        pass
print(won)
"""


def test_of_several_processes_one_wins_each_name(
    request: pytest.FixtureRequest, backend: Backend, tmp_path: Path
) -> None:
    name = request.node.callspec.params["backend"]
    root = str(Path(__file__).resolve().parents[2])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, name, str(tmp_path), root, f"writer{n}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    outputs = [process.communicate()[0] for process in processes]
    if name == "filesystem-rename":  # rename cannot refuse; the probe prefers link
        assert sum(map(int, outputs)) >= 100
    else:
        assert sum(map(int, outputs)) == 100
    assert len(backend.list("race/")) == 100
    for item in backend.list("race/"):
        assert backend.get(item.name).startswith(b"writer")


class TestFilesystem:
    """What only a directory can do wrong."""

    def backend(self, tmp_path: Path) -> FilesystemBackend:
        return FilesystemBackend(tmp_path / "store")

    def test_the_probe_prefers_links(self, tmp_path: Path) -> None:
        backend = self.backend(tmp_path)
        assert backend.probe() == "link"
        assert backend.list("probes/") == []

    def test_the_probe_falls_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        backend = self.backend(tmp_path)
        assert backend.probe() == "rename"
        backend.put("name", [b"x"])

    def test_a_store_where_both_writers_win_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(FilesystemBackend, "_holds", lambda self: False)
        with pytest.raises(StoreUnavailable, match="two writers"):
            self.backend(tmp_path).probe()

    def test_links_and_fifos_are_no_objects(self, tmp_path: Path) -> None:
        backend = self.backend(tmp_path)
        backend.put("a/real", [b"x"])
        (tmp_path / "store/a/link").symlink_to(tmp_path / "store/a/real")
        os.mkfifo(tmp_path / "store/a/fifo")
        assert [item.name for item in backend.list("a/")] == ["a/real"]
        for name in ("a/link", "a/fifo"):
            with pytest.raises(Damaged):
                backend.get(name)

    def test_a_full_disk_is_said_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = self.backend(tmp_path)
        backend.put("a/first", [b"x"])

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StoreFull, match="No space left"):
            backend.put("a/second", [b"y"])
        monkeypatch.undo()
        assert [item.name for item in backend.list("a/")] == ["a/first"]
        assert [p.name for p in (tmp_path / "store/a").iterdir()] == ["first"]

    def test_a_store_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailable, match="not mounted"):
            FilesystemBackend(tmp_path / "no" / "such" / "place").list("manifests/")
        assert FilesystemBackend(tmp_path / "new").list("manifests/") == []
        (tmp_path / "file").write_text("x")
        with pytest.raises(StoreUnavailable):
            FilesystemBackend(tmp_path / "file").list("manifests/")

    def test_a_real_small_disk_fills(self, tmp_path: Path) -> None:
        mount = tmp_path / "small"
        mount.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
        need_privilege(command, "mounting a small tmpfs")
        try:
            backend = FilesystemBackend(mount / "store")
            backend.put("a/first", [b"x" * 1000])
            with pytest.raises(StoreFull):
                backend.put("a/second", [b"y" * 10_000] * 100)
            assert [item.name for item in backend.list("a/")] == ["a/first"]
            backend.put("a/third", [b"z" * 1000])
        finally:
            subprocess.run(["umount", str(mount)], check=True)
