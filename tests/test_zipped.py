"""Caches that exist only as fal.toolkit's zip."""

from __future__ import annotations

import shutil
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from casinductor.errors import Damaged, HostilePath
from casinductor.store.backends.filesystem import FilesystemBackend
from tests.conftest import Fleet, Tree, content

MODULE = "bb/c" + "b" * 51 + ".py"


def zipped(fleet: Fleet, root: Path, key: str = "model/v1") -> Path:
    """What fal.toolkit's sync leaves: shutil.make_archive of the local directory."""
    base = fleet.store / "H100" / key
    base.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.make_archive(str(base), "zip", root))


def handmade(fleet: Fleet, write: Callable[[zipfile.ZipFile], object]) -> Path:
    path = fleet.store / "H100/model/v1.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        write(archive)
    return path


def test_a_zip_is_restored_and_the_next_sync_publishes_it(fleet: Fleet) -> None:
    made = Tree(fleet.folder / "local/w").model("ab")
    made.write("locks/x.lock", b"")
    made.write("cache/0123", b"{}")
    path = zipped(fleet, made.root)
    before = path.read_bytes()
    cache = fleet.cache("v")
    report = cache.restore()
    assert (report.source, report.files_written) == ("zip", 8)
    assert report.state
    there = content(fleet.folder / "local/v")
    wanted = {p for p in made.content() if not p.startswith(("locks", "cache"))}
    assert set(there) == wanted
    assert all(there[p] == made.content()[p] for p in wanted if "__grp__" not in p)
    assert next((fleet.folder / "local/v").rglob("*.so")).stat().st_mode & 0o777 == 0o755
    assert cache.restore().files_written == 0
    assert cache.sync().files_added == 8
    assert path.read_bytes() == before
    assert fleet.cache("u").restore("all").source == "manifests"
    assert set(content(fleet.folder / "local/u")) == wanted


def test_a_zip_next_to_manifests_is_not_read(fleet: Fleet) -> None:
    Tree(fleet.folder / "local/w").module("ab")
    fleet.cache("w").sync()
    zipped(fleet, Tree(fleet.folder / "local/x").model("cd").root)
    report = fleet.cache("v").restore("all")
    assert (report.source, report.files_written) == ("manifests", 1)


@pytest.mark.parametrize(
    "name", ["../evil.py", "/tmp/evil.py", "bb/../../evil.py", "..\\evil.py", f"bb/../{MODULE}"]
)
def test_hostile_member_names(fleet: Fleet, name: str) -> None:
    handmade(fleet, lambda archive: archive.writestr(name, "x"))
    with pytest.raises(HostilePath, match="member"):
        fleet.cache("v").restore()
    assert content(fleet.folder / "local/v") == {}


def test_links_and_doubles(fleet: Fleet) -> None:
    def link(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(MODULE)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")

    def double(archive: zipfile.ZipFile) -> None:
        archive.writestr(MODULE, "one")
        archive.writestr(MODULE, "two")

    for write in (link, double):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns of the second name
            handmade(fleet, write)
        with pytest.raises(HostilePath):
            fleet.cache("v").restore()
    assert content(fleet.folder / "local/v") == {}


def test_a_bomb(fleet: Fleet) -> None:
    handmade(fleet, lambda archive: archive.writestr(MODULE, bytes(200_000_000)))
    with pytest.raises(HostilePath, match="too many"):
        fleet.cache("v").restore()
    assert content(fleet.folder / "local/v") == {}


def test_a_member_that_lies_about_its_size(fleet: Fleet) -> None:
    path = handmade(fleet, lambda archive: archive.writestr(MODULE, b"x" * 5000))
    data = path.read_bytes()
    path.write_bytes(data.replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    with pytest.raises(Damaged):
        fleet.cache("v").restore()
    assert content(fleet.folder / "local/v") == {}


@pytest.mark.parametrize("way", ["truncate", "flip", "garbage", "directory"])
def test_a_damaged_zip_is_said_so_and_healed_by_a_sync(fleet: Fleet, way: str) -> None:
    made = Tree(fleet.folder / "local/w").model("ab")
    path = zipped(fleet, made.root)
    data = bytearray(path.read_bytes())
    if way == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif way == "flip":
        with zipfile.ZipFile(path) as archive:
            largest = max(archive.infolist(), key=lambda info: info.file_size)
        data[largest.header_offset + 200] ^= 0xFF
        path.write_bytes(data)
    elif way == "garbage":
        path.write_bytes(b"garbage" * 100)
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(Damaged, match=r"v1\.zip"):
        fleet.cache("v").restore()
    assert content(fleet.folder / "local/v") == {}
    fleet.cache("w").sync()
    assert fleet.cache("v").restore("all").files_written == 8


def test_unfinished_groups_in_a_zip_stay_out(fleet: Fleet) -> None:
    made = Tree(fleet.folder / "local/w")
    made.kernel("ab").chmod(0o644)
    made.module("cd")
    zipped(fleet, made.root)
    assert fleet.cache("v").restore().files_written == 1


def test_a_zip_is_read_in_ranges(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Tree(fleet.folder / "local/w").model("ab")
    zipped(fleet, made.root)

    def whole(self: FilesystemBackend, name: str, limit: int = 0) -> bytes:
        assert not name.endswith(".zip"), "a large zip would not fit in memory"
        return get(self, name, limit)

    get = FilesystemBackend.get
    monkeypatch.setattr(FilesystemBackend, "get", whole)
    assert fleet.cache("v").restore().files_written == 8
