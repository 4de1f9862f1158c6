"""Ten thousand artifacts from a directory to SeaweedFS, a bundle, a registry and back, each copy
killed in the middle and resumed: byte for byte what was there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path

import pytest

from casinductor.cache import Cache
from casinductor.settings import Settings
from tests.conftest import Fleet, Tree, content
from tests.objects.test_registry import Registry
from tests.objects.test_registry import registry as registry
from tests.servers import Server
from tests.store.test_copying import kill_a_copy

pytestmark = [pytest.mark.soak, pytest.mark.servers, pytest.mark.timeout(300)]
MODELS, SYNCS = 1250, 10


@pytest.fixture
def filled(fleet: Fleet) -> Fleet:
    names = map("".join, product("abcdefghjkmnp", repeat=3))
    tree = Tree(fleet.folder / "local/w")
    for number in range(MODELS):
        tree.model(next(names))
        if number % (MODELS // SYNCS) == MODELS // SYNCS - 1:
            fleet.cache("w").sync()
    return fleet


def restored(fleet: Fleet, store: str) -> dict[str, bytes]:
    local = fleet.folder / "local/reader"
    shutil.rmtree(local, ignore_errors=True)
    settings = Settings(
        store=store,
        local_dir=local,
        gpu_type="H100",
        state_dir=fleet.folder / "state/reader",
        restore_deadline=120.0,
    )
    report = Cache("model/v1", settings=settings).restore("all")
    assert (report.lost, report.damage, report.refused) == (0, [], {})
    return content(local)


def copy_with_a_kill(fleet: Fleet, source: str, target: str) -> None:
    """Copy, killed after four chunks, and then to the end."""
    state = fleet.folder / "state/copier"
    kill_a_copy(state, source, target)
    said = subprocess.run(
        [sys.executable, "-m", "casinductor", "--gpu", "H100", "copy", source, target],
        env={**os.environ, "CASINDUCTOR_STATE_DIR": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    there = int(said.stdout.split("; ")[1].split()[0].replace(",", ""))
    assert there >= 4 * 5 * MODELS // SYNCS, "what was published before the kill was kept"


def test_everywhere_and_back(
    filled: Fleet, seaweed: Server, registry: Registry, tmp_path: Path
) -> None:
    wanted = restored(filled, str(filled.store))
    assert len(wanted) == 8 * MODELS
    places = [
        str(filled.store),
        seaweed.address(f"t/{tmp_path.name}"),
        str(tmp_path / "all.casi"),
        registry.address("ml/all:v1"),
        str(tmp_path / "back"),
    ]
    for source, target in pairwise(places):
        copy_with_a_kill(filled, source, target)
        assert restored(filled, target) == wanted, target
