"""doctor: each thing that surprises people is found, and said with what to do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from casinductor.inspect.workercheck import check_worker
from casinductor.settings import Settings
from casinductor.util.mounts import filesystem_type, is_local
from tests.conftest import Fleet
from tests.inspect.conftest import Command
from tests.needs import need_privilege


def statuses(found: list[dict[str, Any]]) -> dict[str, str]:
    return {check["name"]: check["status"] for check in found}


def worker(tmp_path: Path, **environment: str) -> dict[str, Any]:
    settings = Settings(local_dir=tmp_path / "local", state_dir=tmp_path / "state")
    given = {"PATH": os.environ["PATH"], **environment}
    return {check.name: check for check in check_worker(settings, given)}


def test_flags_under_which_nothing_is_shared(tmp_path: Path) -> None:
    found = worker(tmp_path, TORCH_CACHING_PRECOMPILE="1", TORCHINDUCTOR_FORCE_DISABLE_CACHES="1")
    assert "TORCH_CACHING_PRECOMPILE" in found["precompile"].found
    assert found["caches"].status == "problem"
    assert not {"precompile", "caches"} & set(worker(tmp_path))


def test_a_healthy_store(store: Fleet, run: Command) -> None:
    found = run("doctor", "model/v1")
    by_name = statuses(found)
    for name in ("store", "latency", "writes", "cache", "producers", "store space"):
        assert by_name[name] == "ok", found
    cache = next(check for check in found if check["name"] == "cache")
    assert "2 manifests" in cache["found"]
    assert not list((store.store / "probes").iterdir()), "the probe is gone"
    assert all(check["advice"] for check in found if check["status"] != "ok")


def test_a_store_that_is_not_there(fleet: Fleet, run: Command) -> None:
    result = run("doctor", "--store", "/nowhere/at/all", raw=True, status=1)
    assert "PROBLEM  store:" in result.output
    assert "mount it, or set CASINDUCTOR_STORE" in result.output


def test_an_empty_cache_and_damage(store: Fleet, run: Command) -> None:
    assert statuses(run("doctor", "nothing"))["cache"] == "advice"
    for path in store.files("*.manifest")[:1]:
        path.write_bytes(b"rubbish")
    found = run("doctor", "model/v1", raw=True, status=1)
    assert "casinductor repair" in found.output
    (store.store / "FORMAT").write_bytes(b"rubbish")
    assert "WARNING  store: FORMAT is damaged" in run("doctor", raw=True).output


def test_producers_of_another_kind(
    store: Fleet, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    found = run("doctor", "model/v1")
    refused = [check for check in found if check["name"] == "producers"]
    assert refused[0]["status"] == "warning"
    assert "vector ISA" in refused[0]["found"]
    settings = next(check for check in found if check["name"] == "settings")
    assert "ATEN_CPU_CAPABILITY=default" in settings["found"]


def test_environment(tmp_path: Path) -> None:
    found = worker(tmp_path, TORCHINDUCTOR_CACHE_DIR="/elsewhere")
    assert found["TORCHINDUCTOR_CACHE_DIR"].status == "warning"
    assert "CASINDUCTOR_LOCAL_DIR=/elsewhere" in found["TORCHINDUCTOR_CACHE_DIR"].advice
    assert found["threads"].status == "advice"
    header = found["precompiled header"]
    assert header.status == "advice"
    assert "TORCHINDUCTOR_VEC_ISA_OK=1" in header.advice
    lean = worker(
        tmp_path,
        TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS="0",
        TORCHINDUCTOR_VEC_ISA_OK="1",
        OMP_NUM_THREADS="1",
        TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "local"),
    )
    assert lean["precompiled header"].status == lean["threads"].status == "ok"
    assert lean["TORCHINDUCTOR_CACHE_DIR"].status == "ok"
    assert "TORCHINDUCTOR_VEC_ISA_OK=1" in lean["settings"].found


def test_no_compiler(tmp_path: Path) -> None:
    found = worker(tmp_path, PATH=str(tmp_path))["compiler"]
    assert (found.status, found.found) == ("problem", "there is no g++ in PATH")


def test_a_local_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "local").write_text("a file")
    assert worker(tmp_path)["local directory"].status == "problem"


def test_a_local_directory_that_others_can_write(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "local").chmod(0o777)
    found = worker(tmp_path)["local directory"]
    assert found.status == "problem"
    assert "others can write" in found.found


def test_a_local_directory_on_noexec(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    options = "mode=755,noexec,noatime,size=8m"
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(tmp_path / "local")]
    need_privilege(mount, "mounting a tmpfs")
    try:
        found = worker(tmp_path)
        assert found["local directory"].status == "problem"
        assert "noexec" in found["local directory"].found
        assert found["access times"].status == "advice"
    finally:
        subprocess.run(["umount", tmp_path / "local"], check=True)


def test_a_state_directory_that_others_write(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o777)
    (tmp_path / "state").chmod(0o777)
    assert worker(tmp_path)["state directory"].status == "warning"


def test_filesystem_types() -> None:
    assert filesystem_type("/proc/self") == "proc"
    assert not is_local("/proc")
