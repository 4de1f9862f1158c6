"""The main job with the real torch: one worker compiles, every other restores and hits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("real_torch"),
]
WORKER = Path(__file__).with_name("torch_worker.py")


@dataclass
class Fleet:
    """Workers that share a store; each has the same local path or, running at once, its own."""

    folder: Path
    address: str = ""

    def environment(self, name: str) -> dict[str, str]:
        shim = self.folder / "bin"
        shim.mkdir(exist_ok=True)
        compiler = shim / "g++"
        if not compiler.exists():
            compiler.write_text(
                f'#!/bin/sh\necho "$@" >> "$GXX_LOG"\nexec {shutil.which("g++")} "$@"\n'
            )
            compiler.chmod(0o755)
        return {
            **os.environ,
            "PATH": f"{shim}:{os.environ['PATH']}",
            "GXX_LOG": str(self.folder / f"gxx-{name}.log"),
            "CASINDUCTOR_STORE": self.address or str(self.folder / "store"),
            "CASINDUCTOR_LOCAL_DIR": str(self.folder / "local" / name),
            "CASINDUCTOR_STATE_DIR": str(self.folder / "state" / name),
            "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",
            "TORCHINDUCTOR_VEC_ISA_OK": "1",
            "OMP_NUM_THREADS": "1",
        }

    def start(self, name: str, **order: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(order)],
            env=self.environment(name),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str, **order: Any) -> list[dict[str, Any]]:
        return self.result(self.start(name, **order))

    @staticmethod
    def result(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
        output, errors = process.communicate()
        assert process.returncode == 0, errors[-5000:]
        return list(json.loads(output.splitlines()[-1])["jobs"])

    def wipe(self, name: str) -> None:
        shutil.rmtree(self.folder / "local" / name)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.fixture
def any_fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Fleet:
    """The same on a directory and in a bucket of SeaweedFS."""
    if request.param == "directory":
        return Fleet(tmp_path)
    server: Server = request.getfixturevalue("seaweed")
    return Fleet(tmp_path, server.address(f"e2e/{tmp_path.name}"))


def full_hit(job: dict[str, Any]) -> bool:
    return bool(
        job["hit"] > 0
        and job["miss"] == 0
        and job["autograd_miss"] == 0
        and job["kernels_compiled"] == 0
    )


@pytest.mark.parametrize(
    "any_fleet", [pytest.param("directory", marks=pytest.mark.soak), "objects"], indirect=True
)
def test_a_second_worker_hits_what_the_first_compiled(any_fleet: Fleet) -> None:
    fleet = any_fleet
    job = {"key": "model/v1", "sizes": [3]}
    (first,) = fleet.run("w", jobs=[job])
    assert first["miss"] == 2
    assert first["kernels_compiled"] >= 2
    fleet.wipe("w")
    (second,) = fleet.run("w", jobs=[job])
    assert full_hit(second), second
    assert second["results"] == first["results"]
    assert second["restore"]["groups_restored"] > 0
    assert second["sync"]["manifest"] is None


@pytest.mark.soak
@pytest.mark.parametrize("any_fleet", ["directory", "objects"], indirect=True)
def test_four_cold_workers_lose_nothing(any_fleet: Fleet) -> None:
    fleet = any_fleet
    barrier = fleet.folder / "barrier"
    barrier.mkdir()
    jobs = [{"key": "model/v1", "sizes": [n], "width": 8 * n} for n in (2, 3, 4, 5)]
    running = [
        fleet.start(f"w{n}", jobs=[job], barrier=str(barrier), workers=len(jobs))
        for n, job in enumerate(jobs)
    ]
    firsts = [fleet.result(process)[0] for process in running]
    assert all(first["miss"] == 2 for first in firsts)
    fifths = fleet.run("fifth", jobs=jobs)
    for first, fifth in zip(firsts, fifths, strict=True):
        assert full_hit(fifth), fifth
        assert fifth["results"] == first["results"]


def test_keys_used_in_one_process_stay_apart(fleet: Fleet) -> None:
    one = {"key": "one", "sizes": [3], "width": 24}
    two = {"key": "two", "sizes": [5], "width": 40}
    third = {"sizes": [7], "width": 56}
    both = {"key": "one", "sizes": [7], "width": 56}
    first = fleet.run("w", foreign=third, jobs=[one, two])
    fleet.wipe("w")
    assert full_hit(fleet.run("w", jobs=[one])[0])
    fleet.wipe("w")
    assert full_hit(fleet.run("w", jobs=[two])[0])
    fleet.wipe("w")
    (stranger,) = fleet.run("w", jobs=[both])
    assert stranger["miss"] == 2, "a cache holds what was compiled before it was loaded"
    assert first[0]["sync"]["foreign"] > 0
    stored = fleet.folder / "store" / "manifests"
    assert len(list(stored.rglob("*.manifest"))) == 3, "only the stranger published more"


def test_what_another_key_brought_is_kept_if_it_was_used(fleet: Fleet) -> None:
    shared = {"sizes": [3], "width": 24}
    fleet.run("w", jobs=[{"key": "one", **shared}, {"key": "two", **shared}])
    fleet.wipe("w")
    (alone,) = fleet.run("w", jobs=[{"key": "two", **shared}])
    assert full_hit(alone), alone


def test_dynamic_shapes_keep_every_guard_variant(fleet: Fleet) -> None:
    job = {"key": "model", "sizes": [3, 70], "dynamic": True}
    (first,) = fleet.run("w", jobs=[job])
    fleet.wipe("w")
    (second,) = fleet.run("w", jobs=[job])
    assert full_hit(second), second
    assert second["results"] == first["results"]


def test_another_vector_isa_is_refused_and_gets_its_own(fleet: Fleet) -> None:
    job = {"key": "model", "sizes": [3]}
    fleet.run("w", jobs=[job])
    narrow = dict(os.environ, ATEN_CPU_CAPABILITY="avx2")
    os.environ["ATEN_CPU_CAPABILITY"] = "avx2"
    try:
        fleet.wipe("w")
        (other,) = fleet.run("w", jobs=[job])
        if "avx512" not in Path("/proc/cpuinfo").read_text():
            pytest.skip("this processor has no wider vector ISA than AVX2")
        assert other["restore"]["refused"] > 0
        assert other["hit"] == 0
        assert other["sync"]["groups_added"] > 0
        fleet.wipe("w")
        (again,) = fleet.run("w", jobs=[job])
        assert full_hit(again), again
        assert narrow["ATEN_CPU_CAPABILITY"] == "avx2"
    finally:
        del os.environ["ATEN_CPU_CAPABILITY"]
