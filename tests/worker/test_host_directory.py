"""The node's directory: verified on use, healed, bounded, cloned where the filesystem can."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from casinductor.deadline import Deadline
from casinductor.worker.host_directory import HostDirectory
from tests.needs import need, need_privilege


def digest(data: bytes) -> bytes:
    return blake3(data).digest()


@pytest.fixture
def node(tmp_path: Path) -> HostDirectory:
    return HostDirectory(tmp_path / "node", 1 << 20)


def keep(node: HostDirectory, data: bytes, folder: Path) -> Path:
    source = folder / f"source-{os.urandom(4).hex()}"
    source.write_bytes(data)
    node.keep(digest(data), str(source))
    return Path(node._file(digest(data)))


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_what_is_kept_can_be_taken(node: HostDirectory, tmp_path: Path, mode: int) -> None:
    data = os.urandom(5_000_000)
    assert not node.take(digest(data), str(tmp_path / "early"), mode, len(data))
    keep(node, data, tmp_path)
    target = tmp_path / "target"
    assert node.take(digest(data), str(target), mode, len(data))
    assert target.read_bytes() == data
    assert target.stat().st_mode & 0o777 == mode
    assert node.read(digest(data), len(data)) == data
    target.write_bytes(b"changed in place by its owner")
    assert node.read(digest(data), len(data)) == data, "a copy, not a link"


@pytest.mark.parametrize("how", ["flip", "truncate", "grow", "directory", "link"])
def test_damage_is_noticed_and_removed(node: HostDirectory, tmp_path: Path, how: str) -> None:
    data = os.urandom(100_000)
    path = keep(node, data, tmp_path)
    if how == "flip":
        path.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    elif how == "truncate":
        os.truncate(path, 1000)
    elif how == "grow":
        path.write_bytes(data + b"x")
    else:
        path.unlink()
        path.mkdir() if how == "directory" else path.symlink_to("/etc/passwd")
    target = tmp_path / "target"
    assert not node.take(digest(data), str(target), 0o644, len(data))
    assert not target.exists()
    if how != "directory":
        assert node.read(digest(data), len(data)) is None
        keep(node, data, tmp_path)
        assert node.take(digest(data), str(target), 0o644, len(data))


def test_the_directory_stays_below_its_limit(node: HostDirectory, tmp_path: Path) -> None:
    """What was used last stays."""
    kept = [os.urandom(200_000) for _ in range(8)]
    for number, data in enumerate(kept):
        path = keep(node, data, tmp_path)
        os.utime(path, (number, number))
    assert node.take(digest(kept[0]), str(tmp_path / "used"), 0o644, 200_000)
    assert node.evict() > 0
    total = sum(p.stat().st_size for p in Path(node.folder).rglob("*") if p.is_file())
    assert total <= node.most
    assert node.read(digest(kept[0]), 200_000) == kept[0]
    assert node.read(digest(kept[1]), 200_000) is None
    assert node.read(digest(kept[-1]), 200_000) == kept[-1]
    assert node.evict() == 0, "nothing was kept since"


def test_an_eviction_by_another_process_is_left_alone(node: HostDirectory, tmp_path: Path) -> None:
    import fcntl

    keep(node, os.urandom(2 << 20), tmp_path)
    with open(Path(node.folder) / "evicting", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert node.evict() == 0
    assert node.evict() == 2 << 20


def test_notes_are_of_a_moment(node: HostDirectory) -> None:
    moment = time.monotonic()
    node.remember("list", b"what was listed", moment)
    assert node.recall("list") == b"what was listed"
    assert node.recall("list", since=moment - 1) == b"what was listed"
    assert node.recall("list", since=moment + 1) is None
    assert node.recall("other") is None
    path = Path(node._note("list"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert node.recall("list") is None
    assert not path.exists()


def test_a_note_of_an_earlier_boot_is_of_no_moment(node: HostDirectory) -> None:
    """The monotonic clock begins anew: an old note may seem younger than this process."""
    other = HostDirectory(Path(node.folder), node.most)
    other._boot = "an earlier boot"
    other.remember("list", b"old", time.monotonic() + 1000)
    assert node.recall("list", since=time.monotonic()) is None
    assert node.recall("list") == b"old"


def test_turns_are_one_at_a_time_and_end_with_their_process(node: HostDirectory) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from casinductor.worker.host_directory import HostDirectory\n"
        "from casinductor.deadline import Deadline\n"
        "with HostDirectory(Path(sys.argv[1]), 1).turn('x', Deadline(None)):\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, node.folder], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    began = time.monotonic()
    with node.turn("y", Deadline(None)):
        assert time.monotonic() - began < 5, "another cache's turn"
    got = threading.Event()

    def wait() -> None:
        with node.turn("x", Deadline(60)):
            got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not got.wait(0.3)
    holder.kill()
    holder.wait()
    assert got.wait(10)
    thread.join()


def test_who_waits_in_vain_goes_on(node: HostDirectory) -> None:
    with node.turn("x", Deadline(None)):
        began = time.monotonic()
        with node.turn("x", Deadline(1.0)):
            assert 0.4 < time.monotonic() - began < 5


@pytest.mark.parametrize("place", ["/proc/node", "a file"])
def test_a_directory_that_cannot_be_used_does_nothing(tmp_path: Path, place: str) -> None:
    if place == "a file":
        (tmp_path / "file").write_text("x")
        place = str(tmp_path / "file")
    node = HostDirectory(Path(place), 1000)
    keep(node, b"data", tmp_path)
    node.keep_bytes(digest(b"x"), b"x")
    node.remember("a", b"b", 1.0)
    assert node.recall("a") is None
    assert not node.take(digest(b"data"), str(tmp_path / "t"), 0o644, 4)
    with node.turn("x", Deadline(1.0)):
        pass
    assert node.evict() == 0


def test_left_overs_of_killed_processes_go(node: HostDirectory, tmp_path: Path) -> None:
    keep(node, b"data", tmp_path)
    old, young = (Path(node.folder) / "arriving" / name for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    node.evict()
    assert not old.exists()
    assert young.exists()


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A small xfs on a loop device: a filesystem that clones files."""
    need("mkfs.xfs")
    image, mount = tmp_path / "image", tmp_path / "xfs"
    with image.open("wb") as file:
        file.truncate(320 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True)
    mount.mkdir()
    command = ["mount", "-o", "loop", str(image), str(mount)]
    need_privilege(command, "mounting xfs on a loop device")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_files_are_cloned_where_the_filesystem_can(xfs: Path) -> None:
    """Ten copies of 20 MiB take the room of one."""
    node = HostDirectory(xfs / "node", 1 << 30)
    data = os.urandom(20 << 20)
    keep(node, data, xfs)
    os.sync()
    before = os.statvfs(xfs).f_bavail
    for number in range(10):
        assert node.take(digest(data), str(xfs / f"t{number}"), 0o644, len(data))
    os.sync()
    status = os.statvfs(xfs)
    assert (before - status.f_bavail) * status.f_frsize < 5 << 20
    assert (xfs / "t9").read_bytes() == data
    (xfs / "t9").write_bytes(b"in place")
    assert (xfs / "t8").read_bytes() == data
