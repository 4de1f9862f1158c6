"""The main job on whatever torch is installed; ``make test-torch`` runs this on several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.site import BLOCK, Site

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("real_torch"),
]
OTHER = BLOCK.replace("m/v1", "m/v2")


def kernels(site: Site, key: str, into: Path) -> int:
    """How many C++ kernels the cache of a key holds, by their sources."""
    command = [sys.executable, "-m", "casinductor", "--json", "pull", key, "--to", str(into)]
    said = subprocess.run(
        [*command, "--restore", "all"], env=site.environment(), capture_output=True, check=True
    )
    assert json.loads(said.stdout)["source"] == "manifests"
    sources = (path.read_text() for path in into.rglob("*.cpp"))
    return sum('extern "C"' in text and " kernel(" in text for text in sources)


#: What `make version` runs anyway, on each torch; the suite has their like in ``test_torch.py``.
@pytest.mark.soak
def test_fresh_workers_hit_and_build_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    said = []
    for _ in range(3):
        site.forget()
        said.append(site.run(f"{BLOCK}model(1)"))
    assert "1 missed" in said[0]
    assert "published" in said[0]
    for text in said[1:]:
        assert "fxgraph 1 of 1 hit" in text
        assert "0 kernels built" in text
        assert "of no known kind" not in text
    assert "nothing new to publish" in said[2]
    command = [sys.executable, "-m", "casinductor", "--json", "explain", "m/v1"]
    told = subprocess.run(command, env=site.environment(), capture_output=True, check=True)
    (graph,) = (e for e in json.loads(told.stdout)["run"]["happened"] if e["cache"] == "fxgraph")
    assert (graph["status"], graph["key"][:1]) == ("hit", "f"), "the trace names what hit"


@pytest.mark.soak
def test_two_keys_of_one_process_keep_their_kernels_apart(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.run(f"{BLOCK}model(1)\n{OTHER}model(2)")
    assert kernels(site, "m/v1", tmp_path / "one") == 1
    assert kernels(site, "m/v2", tmp_path / "two") == 1
    site.forget()
    assert "fxgraph 1 of 1 hit" in site.run(f"{OTHER}model(2)")


#: A folder with a ``libcuda.so.1`` that stands in for CUDA's driver (compiling is real, kernels do
#: nothing) and modules that go with it; without one a real GPU is needed.
STANDIN = os.environ.get("CASINDUCTOR_STANDIN", "")
ON_GPU = """
if os.environ.get("CASINDUCTOR_STANDIN"):
    sys.path.insert(0, os.environ["CASINDUCTOR_STANDIN"])
    import fake_ops
def model(n):
    import torch
    torch.set_grad_enabled(False)
    torch._dynamo.reset()
    torch.compile(lambda x: torch.relu(x * n + 1).sum(-1))(torch.empty(64, 256, device="cuda"))
"""


def gpu_environment() -> dict[str, str]:
    """What makes torch take the stand-in for a GPU."""
    if not STANDIN:
        return {}
    return {
        "GB_FAKE": "1",
        "LD_PRELOAD": f"{STANDIN}/libcuda.so.1",
        "LD_LIBRARY_PATH": STANDIN,
        "LIBRARY_PATH": STANDIN,
        "TRITON_LIBCUDA_PATH": STANDIN,
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "CASINDUCTOR_GPU_TYPE": "H100",
        "CASINDUCTOR_STANDIN": STANDIN,
    }


def need_gpu() -> None:
    asked = "import torch; print(torch.cuda.is_available())"
    environment = {**os.environ, **gpu_environment()}
    done = subprocess.run(
        [sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True
    )
    if done.stdout.strip() != "True":
        pytest.skip("needs a GPU, or CASINDUCTOR_STANDIN and a torch that was built for CUDA")


def test_fresh_workers_hit_on_a_gpu(tmp_path: Path) -> None:
    need_gpu()
    site = Site(tmp_path)
    said = []
    for number in range(3):
        site.forget()
        text = site.run(f"{ON_GPU}{BLOCK}model(1)", cwd=None, **gpu_environment())
        assert "of no known kind" not in text, number
        said.append(text)
    assert "1 missed" in said[0]
    for text in said[1:]:
        assert "fxgraph 1 of 1 hit" in text
        assert "0 kernels built" in text
    assert "nothing new to publish" in said[2]
    command = [sys.executable, "-m", "casinductor", "--json", "explain", "m/v1"]
    environment = {**site.environment(), **gpu_environment()}
    told = subprocess.run(command, env=environment, capture_output=True, check=True)
    (graph,) = (e for e in json.loads(told.stdout)["run"]["happened"] if e["cache"] == "fxgraph")
    assert (graph["status"], graph["key"][:1]) == ("hit", "f"), "the trace names what hit"


def test_two_keys_of_one_process_keep_their_kernels_apart_on_a_gpu(tmp_path: Path) -> None:
    need_gpu()
    site = Site(tmp_path)
    site.run(f"{ON_GPU}{BLOCK}model(1)\n{OTHER}model(2)", cwd=None, **gpu_environment())
    site.forget()
    text = site.run(f"{ON_GPU}{OTHER}model(2)", cwd=None, **gpu_environment())
    assert "fxgraph 1 of 1 hit" in text
    assert "0 kernels built" in text
