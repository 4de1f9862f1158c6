"""Real processes that start on a cold cache at once: one compiles, the others wait for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.site import BLOCK, HEAD, Site

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("real_torch"),
]


def start(site: Site, number: int, code: str) -> subprocess.Popen[str]:
    """A worker of its own, as on another machine."""
    environment = site.environment(
        CASINDUCTOR_WAIT="200",
        CASINDUCTOR_LOCAL_DIR=str(site.folder / f"local-{number}"),
        CASINDUCTOR_STATE_DIR=str(site.folder / f"state-{number}"),
    )
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_one_of_three_compiles(tmp_path: Path) -> None:
    site = Site(tmp_path)
    workers = [start(site, number, f"{BLOCK}model(1)") for number in range(3)]
    said = [worker.communicate(timeout=200)[0] for worker in workers]
    leaders = [text for text in said if "compiles for the workers that wait" in text]
    assert len(leaders) == 1, said
    assert "1 missed" in leaders[0]
    for text in said:
        if text not in leaders:
            assert "waited" in text
            assert "fxgraph 1 of 1 hit" in text
            assert "0 kernels built" in text
    ends = list((tmp_path / "store/leads").rglob("*-end"))
    assert len(ends) >= 1
    assert len(list((tmp_path / "store/leads").rglob("*-[0-9]"))) <= 3, "old signs are gone"


@pytest.mark.soak  # half a minute of waiting for a sign that does not come
def test_a_leader_that_is_killed_is_replaced(tmp_path: Path) -> None:
    site = Site(tmp_path)
    leader = start(site, 0, f"{BLOCK}time.sleep(600)")
    until = time.monotonic() + 60
    while not list((tmp_path / "store").glob("leads/**/*-1")):
        assert time.monotonic() < until
        time.sleep(0.1)
    waiter = start(site, 1, f"{BLOCK}model(1)")
    time.sleep(3)
    assert waiter.poll() is None
    os.kill(leader.pid, signal.SIGKILL)
    leader.wait()
    said = waiter.communicate(timeout=200)[0]
    assert "1 that compiled died" in said
    assert "compiles for the workers that wait" in said
    assert "published" in said
