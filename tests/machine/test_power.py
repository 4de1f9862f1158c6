"""Power cuts and a real NFS mount, in a machine of the tests' own."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.machine.machine import NFS, Machine, need_machine, need_modules

#: Twice actimeo, which is how long these mounts believe what they have cached.
GRACE = 2.0
MOUNT = "mount -t ext4 /dev/ubda /mnt/disk || exit 1\n"


def records(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def cut_power(folder: Path, cuts: int) -> int:
    """Cut the power at random moments of syncs, compactions and collections; count what was acked.

    After each cut the disk is mounted again, and everything acknowledged must be there.
    """
    machine, moments = Machine(folder), random.Random(cuts)
    log, wanted = folder / "acknowledged", {}
    for number in range(cuts):
        before = len(records(log))
        work = machine.guest("work", "/mnt/disk/store", log, 1000 * number, 1000)
        process = machine.start(MOUNT + work, f"work{number}")
        until = time.monotonic() + 60
        while len(records(log)) < before + 3 and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(moments.uniform(0.0, 1.5))
        machine.cut(process)
        for files in records(log):
            wanted.update(files)
        found = folder / f"found{number}"
        output = machine.run(MOUNT + machine.guest("look", "/mnt/disk/store", found), f"l{number}")
        assert found.exists(), output[-2000:]
        (report,) = records(found)
        assert (report["lost"], report["problems"]) == (0, [])
        missing = [path for path, digest in wanted.items() if report["files"].get(path) != digest]
        assert missing == []
    assert len(records(log)) >= 3 * cuts
    return len(records(log))


@pytest.mark.timeout(200)
def test_what_was_acknowledged_survives_power_cuts(tmp_path: Path) -> None:
    need_machine()
    cut_power(tmp_path, 2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_power_cuts(tmp_path: Path) -> None:
    need_machine()
    print(f"{cut_power(tmp_path, 20)} syncs acknowledged before 20 power cuts, all there")


@pytest.mark.soak
@pytest.mark.timeout(200)
def test_two_clients_of_a_real_nfs_server(tmp_path: Path) -> None:
    """One syncs, compacts and collects through its mount, the other through its own."""
    need_machine("rpc.nfsd", "mount.nfs", "modprobe", "tc")
    need_modules()
    machine = Machine(tmp_path)
    logs = [tmp_path / "log-a", tmp_path / "log-b"]
    found = [tmp_path / "found-a", tmp_path / "found-b"]
    script = MOUNT + NFS
    script += "grep -c nfs4 /proc/mounts\nmkdir -p /mnt/a/store; sleep 4\n"
    for client, log, first in (("a", logs[0], 0), ("b", logs[1], 500)):
        script += machine.guest("work", f"/mnt/{client}/store", log, first, 9, GRACE) + " &\n"
    script += "wait %1 %2 2>/dev/null; sleep 7\n"
    for client, path in zip("ab", found, strict=True):
        script += machine.guest("look", f"/mnt/{client}/store", path) + "\n"
    output = machine.run(script, "nfs", 150)
    if "\n2" not in output.replace("\r", ""):
        pytest.skip(f"the guest has no NFS 4.2, run on another kernel: {output[-300:]}")
    wanted = {path: h for log in logs for files in records(log) for path, h in files.items()}
    assert len(records(logs[0])) + len(records(logs[1])) >= 16
    for path in found:
        assert path.exists(), output[-2000:]
        (report,) = records(path)
        assert (report["lost"], report["problems"]) == (0, [])
        assert [p for p, digest in wanted.items() if report["files"].get(p) != digest] == []
