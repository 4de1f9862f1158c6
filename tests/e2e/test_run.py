"""Commands that know nothing of us: restored before, published while they run and after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import until
from tests.e2e.site import Site

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("real_torch"),
]
#: A server: compiles one graph at its start, another when a file appears, and never ends by itself.
SERVER = """
import os, sys, time, torch
torch.set_grad_enabled(False)
def serve(n):
    torch._dynamo.reset()
    torch.compile(lambda x: torch.relu(x * n + 1).sum(-1))(torch.ones(4, 64))
serve(1)
print("ready", flush=True)
while len(sys.argv) > 1:
    if os.path.exists(sys.argv[1]):
        serve(2)
        os.remove(sys.argv[1])
    time.sleep(0.05)
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "server.py").write_text(SERVER)
    return Site(tmp_path)


def command(site: Site, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    program = [sys.executable, str(site.folder / "server.py"), *arguments]
    head = [sys.executable, "-m", "casinductor", "--json", "run", *options, "m/v1", "--"]
    return [*head, *program]


def run(site: Site, *options: str) -> tuple[int, list[dict[str, Any]]]:
    site.forget()
    done = subprocess.run(
        command(site, options=options),
        env=site.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "ready\n", "the command's output is its own"
    lines = [line for line in done.stderr.splitlines() if line.startswith("{")]
    return done.returncode, [json.loads(line) for line in lines]


def test_the_second_start_compiles_nothing(site: Site) -> None:
    status, told = run(site, "--assert-warm")
    assert status == 10, "the first one compiled"
    status, told = run(site, "--assert-warm")
    assert status == 0
    assert [event["event"] for event in told] == ["restored", "published", "finished"]
    assert told[0]["files_written"]
    assert told[-1]["kernels_built"] == 0
    assert told[-1]["elsewhere"]


def test_what_a_killed_server_compiled_under_traffic_is_shared(site: Site) -> None:
    traffic = site.folder / "traffic"
    with (site.folder / "log").open("w") as errors:
        server = subprocess.Popen(
            command(site, str(traffic)),
            env=site.environment(),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        traffic.touch()
        until(lambda: not traffic.exists())
        time.sleep(8)  # at rest for 3 s, looked at each second
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        for pid in (server.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        server.wait()
    site.forget()
    said = site.run(
        'with synchronized_inductor_cache("m/v1"):\n'
        "    import torch\n"
        "    torch.set_grad_enabled(False)\n"
        "    for n in (1, 2):\n"
        "        torch._dynamo.reset()\n"
        "        torch.compile(lambda x: torch.relu(x * n + 1).sum(-1))(torch.ones(4, 64))"
    )
    assert "fxgraph 2 of 2 hit" in said
