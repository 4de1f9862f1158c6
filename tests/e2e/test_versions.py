"""The main job on whatever torch is installed; ``make test-torch`` runs this on several."""

from __future__ import annotations

import json
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


def test_two_keys_of_one_process_keep_their_kernels_apart(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.run(f"{BLOCK}model(1)\n{OTHER}model(2)")
    assert kernels(site, "m/v1", tmp_path / "one") == 1
    assert kernels(site, "m/v2", tmp_path / "two") == 1
    site.forget()
    assert "fxgraph 1 of 1 hit" in site.run(f"{OTHER}model(2)")
