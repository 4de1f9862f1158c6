"""doctor on compile caches beside torch's, on hash seeds, and on known faults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from casinductor.inductor.faults import FAULTS, faults_of
from casinductor.inspect import familycheck
from casinductor.inspect.causes import Cause
from casinductor.inspect.explain import _name_seeds
from casinductor.inspect.misses import SAME_GRAPHS, Explained
from casinductor.reports.warmup import WarmupReport
from casinductor.settings import Settings
from tests.conftest import Tree

DOC = Path(__file__).resolve().parents[2] / "docs/torch.md"


def test_each_cache_that_is_there_is_named(tmp_path: Path) -> None:
    vllm, triton = tmp_path / "vllm", tmp_path / "triton"
    Tree(vllm).write("modelinfos/a.json", b"{}")
    Tree(vllm).write("strange", b"x")
    Tree(triton).write("K" * 52 + "/k.json", b"{}")
    triton.chmod(0o777)
    words = (f"vllm={vllm}", f"triton={triton}", f"deepgemm={tmp_path / 'none'}")
    found = familycheck.check_families(Settings(families=words), {"HOME": str(tmp_path)})
    said = {check.found.split()[0]: check for check in found}
    assert set(said) == {"vllm", "triton"}
    assert said["vllm"].found.endswith("1 file to share, 1 file of no known kind")
    assert said["triton"].status == "warning"
    assert "others can write" in said["triton"].found
    (nothing,) = familycheck.check_families(Settings(), {"HOME": str(tmp_path / "home")})
    assert nothing.status == "ok"


def test_seeds_are_advised_until_they_are_fixed() -> None:
    assert familycheck.check_seed({}).status == "advice"
    assert familycheck.check_seed({"PYTHONHASHSEED": "random"}).status == "advice"
    assert familycheck.check_seed({"PYTHONHASHSEED": "0"}).status == "ok"


@pytest.mark.parametrize(
    ("torch", "issues"),
    [
        ("2.8.0+cu128 (abc)", []),
        ("2.11.0", [188332, 191323]),
        ("2.13.0+cpu", [188332, 188390, 191323]),
        ("2.14.1+cu130", [188332, 191323]),
        ("none", []),
    ],
)
def test_faults_by_version(torch: str, issues: list[int]) -> None:
    assert [fault.issue for fault in faults_of(torch)] == issues


def test_the_page_has_the_same_table() -> None:
    rows = re.findall(
        r"^\| \[#(\d+)\].*?\| (.*?) \| (.*?) \| (.*?) \|$", DOC.read_text(), re.MULTILINE
    )
    assert [(int(issue), what, done) for issue, _, what, done in rows] == [
        (fault.issue, fault.what, fault.done) for fault in FAULTS
    ]


def test_faults_concern_jobs_of_many_ranks() -> None:
    for check in familycheck.check_faults({}):
        assert check.status == "ok"
    for check in familycheck.check_faults({"WORLD_SIZE": "8"}):
        assert check.status == "advice"


def test_a_key_that_changes_by_itself_is_explained() -> None:
    def explained(seed: str) -> str:
        graph = Explained("a", "aotautograd", [Cause("unknown", f"{SAME_GRAPHS}; more")])
        _name_seeds(WarmupReport("CPU/k", 0, 1.0, worker={"hash_seed": seed}), [graph])
        return graph.causes[0].kind

    assert explained("random") == "seed"
    assert explained("0") == "unknown"
