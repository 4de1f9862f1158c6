"""Boots user-mode Linux with the host's root through hostfs and a disk of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from tests.needs import need, need_root

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = f"""#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONPATH={ROOT} PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /run
mount -t tmpfs tmp /mnt; mkdir -p /mnt/disk /mnt/a /mnt/b
ip link set lo up
export TMPDIR=/run HOME=/run
"""
POWER_OFF = "\nsync\necho o > /proc/sysrq-trigger\nsleep 10\n"
NFS = """
for module in nfsd nfs nfsv4 sch_netem; do modprobe $module; done
mount -t tmpfs tmp /var/lib/nfs
mkdir -p /var/lib/nfs/v4recovery /var/lib/nfs/sm /var/lib/nfs/rpc_pipefs
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
mount -t rpc_pipefs rpc_pipefs /var/lib/nfs/rpc_pipefs
mount -t nfsd nfsd /proc/fs/nfsd
echo 10 > /proc/fs/nfsd/nfsv4gracetime; echo 10 > /proc/fs/nfsd/nfsv4leasetime
exportfs -o rw,no_root_squash,fsid=0,insecure,no_subtree_check 127.0.0.1:/mnt/disk
rpc.nfsd -N 3 4; rpc.mountd -N 3
tc qdisc add dev lo root netem delay 1ms
for client in a b; do
  mount -t nfs -o vers=4.2,nosharecache,actimeo=1,proto=tcp 127.0.0.1:/ /mnt/$client
done
"""


def need_machine(*names: str) -> None:
    """Skip where user-mode Linux, or something that a test needs inside, is not there."""
    need_root("user-mode Linux on the host's files")
    need("linux.uml", "mkfs.ext4", *names)
    if reason := _why_it_does_not_boot():
        pytest.skip(
            f"user-mode Linux does not start on this processor ({reason}): run on another machine"
        )


@cache
def _why_it_does_not_boot() -> str:
    """The kernel's last words where it does not boot, empty where it does. Seen with Linux 6.1 on a
    processor with AMX: the host refuses the registers that the guest sets.
    """
    with tempfile.TemporaryDirectory(prefix="casinductor-uml-") as folder:
        said = Machine(Path(folder)).run("echo it boots", seconds=60)
    if "it boots" in said:
        return ""
    words = [line.strip() for line in said.splitlines() if "userspace -" in line or "panic" in line]
    return "; ".join(words[:2]) or "no output"


def need_modules() -> None:
    """Skip where the modules of the guest's kernel are not to be found by modprobe."""
    need("uml-modules")
    versions = list(Path("/usr/lib/uml/modules").glob("*"))
    for version in versions:
        link = Path("/lib/modules") / version.name
        if not link.exists():
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(version)


class Machine:
    """One disk, booted as often as one likes; the power can be cut."""

    def __init__(self, folder: Path, megabytes: int = 64) -> None:
        self.folder = folder
        self.disk = folder / "disk"
        with self.disk.open("wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", str(self.disk)], check=True)

    def guest(self, *arguments: object) -> str:
        """The shell line that runs the guest's Python."""
        script = Path(__file__).with_name("guest.py")
        return " ".join([sys.executable, str(script), *map(str, arguments)])

    def start(self, script: str, name: str = "init") -> subprocess.Popen[bytes]:
        init = self.folder / f"{name}.sh"
        init.write_text(PRELUDE + script + POWER_OFF)
        init.chmod(0o755)
        shared = "/dev/shm" if Path("/dev/shm").is_dir() else str(self.folder)
        return subprocess.Popen(
            [
                "linux.uml",
                "mem=512M",
                "root=/dev/root",
                "rootfstype=hostfs",
                "rootflags=/",
                "rw",
                f"init={init}",
                f"ubda={self.disk}",
                "con=null",
                "con0=fd:0,fd:1",
                "quiet",
            ],
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / f"{name}.out").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "TMPDIR": shared},
        )

    def run(self, script: str, name: str = "init", seconds: float = 120) -> str:
        """Boot, run, power off; what it printed."""
        process = self.start(script, name)
        try:
            process.wait(seconds)
        finally:
            self.cut(process)
        return (self.folder / f"{name}.out").read_text(errors="replace")

    def cut(self, process: subprocess.Popen[bytes]) -> None:
        """The power goes: everything of the guest ends at once."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
