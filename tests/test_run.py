"""``run`` and ``watch`` as processes: status, signals, orphans, what happens without a store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from casinductor.companion.environment import interpreter_of
from tests.conftest import Fleet, Tree
from tests.needs import need_package


@pytest.fixture(autouse=True)
def torch_is_there() -> None:
    need_package("torch", "torch")


def environment(fleet: Fleet, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "CASINDUCTOR_STORE": fleet.address,
        "CASINDUCTOR_LOCAL_DIR": str(fleet.folder / "local/v"),
        "CASINDUCTOR_STATE_DIR": str(fleet.folder / "state/v"),
        "CASINDUCTOR_GPU_TYPE": "H100",
        **more,
    }


def start(fleet: Fleet, *command: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "casinductor", "run", "model/v1", "--", *command],
        env=environment(fleet, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ran(fleet: Fleet, *command: str, **more: str) -> tuple[int, str, str]:
    process = start(fleet, *command, **more)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_the_commands_status_is_returned(fleet: Fleet) -> None:
    assert ran(fleet, "sh", "-c", "echo out; exit 7")[:2] == (7, "out\n")
    assert ran(fleet, "sh", "-c", "kill -KILL $$")[0] == 128 + signal.SIGKILL
    assert ran(fleet, "/no/such/command")[0] == 127
    assert ran(fleet, "/etc/passwd")[0] == 126


def test_torch_is_pointed_at_what_was_restored(fleet: Fleet) -> None:
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    _, out, err = ran(fleet, "sh", "-c", 'cd "$TORCHINDUCTOR_CACHE_DIR" && pwd && ls')
    assert out.splitlines()[0] == str(fleet.folder / "local/v")
    assert "fxgraph" in out.splitlines()
    assert "H100/model/v1: restored" in err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGQUIT"])
def test_signals_are_forwarded(fleet: Fleet, name: str) -> None:
    short = name.removeprefix("SIG")
    script = f"trap 'echo {name}; exit 3' {short}; echo ready; while :; do sleep 0.05; done"
    process = start(fleet, "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, name))
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (3, f"{name}\n")


def test_what_is_at_rest_is_published_while_the_command_runs(fleet: Fleet) -> None:
    process = start(fleet, "sh", "-c", "echo ready; exec sleep 60")
    assert process.stdout is not None
    process.stdout.readline()
    Tree(fleet.folder / "local/v").model("ab")
    end = time.monotonic() + 30
    while not fleet.files("manifests/**/*"):
        assert time.monotonic() < end
        time.sleep(0.1)
    process.terminate()
    process.communicate()
    assert fleet.cache("u").restore("all").files_written


def test_a_store_that_is_not_there_changes_nothing(fleet: Fleet) -> None:
    script = 'echo kernel > "$TORCHINDUCTOR_CACHE_DIR/README"; echo out; exit 4'
    status, out, err = ran(fleet, "sh", "-c", script, CASINDUCTOR_STORE="/no/such/place/store")
    assert (status, out) == (4, "out\n")
    assert "/no/such/place" in err


def test_a_directory_that_cannot_be_used_is_left_out(fleet: Fleet) -> None:
    (fleet.folder / "file").write_text("")
    status, out, err = ran(
        fleet,
        "sh",
        "-c",
        'echo "[$TORCHINDUCTOR_CACHE_DIR]"',
        CASINDUCTOR_LOCAL_DIR=str(fleet.folder / "file"),
        TORCHINDUCTOR_CACHE_DIR="",
    )
    assert (status, out) == (0, "[]\n")
    assert "cannot share" in err


def test_as_process_1_it_reaps_orphans(fleet: Fleet) -> None:
    script = "(sleep 0.2 &) ; sleep 1; ps -e -o stat= | grep -c Z; exit 5"
    inner = [sys.executable, "-m", "casinductor", "run", "model/v1", "--", "sh", "-c", script]
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", *inner],
        env=environment(fleet),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stderr.startswith("unshare"):
        pytest.skip(f"needs a process namespace: run as root ({done.stderr.strip()})")
    assert (done.returncode, done.stdout) == (5, "0\n"), done.stderr


def test_watch_says_when_it_is_ready_and_publishes_until_it_is_asked_to_end(fleet: Fleet) -> None:
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    ready = fleet.folder / "ready"
    command = [sys.executable, "-m", "casinductor", "--json", "watch", "model/v1"]
    process = subprocess.Popen(
        [*command, "--ready-file", str(ready)],
        env=environment(fleet),
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 30
    while not ready.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert ready.read_text().strip()
    Tree(fleet.folder / "local/v", 7).model("cd")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    told = [json.loads(line) for line in err.splitlines()]
    assert told[0]["event"] == "restored"
    assert any(event["event"] == "published" and event["groups_added"] for event in told)


def test_the_interpreter_of_a_command(tmp_path: Path) -> None:
    other = tmp_path / "python3"
    other.symlink_to(sys.executable)
    script = tmp_path / "serve"
    script.write_text(f"#!{other}\n")
    script.chmod(0o755)
    assert interpreter_of(str(script)) == str(other)
    assert interpreter_of(str(other)) == str(other)
    assert interpreter_of(sys.executable) is None
    assert interpreter_of("sh") is None
    assert interpreter_of("/no/such/command") is None
