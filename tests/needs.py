"""What the tests need from the system: one list, and the command that brings what is missing.

``python tests/needs.py`` lists it, ``--install`` installs what is missing where it can (as root,
with apt). A test that lacks something skips, and says with which command it would run. Standard
library only, as it runs before anything is installed.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

#: The folder of what stands for torch's version where there is no torch.
TORCHLESS = "casinductor-torchless"
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Need:
    """A program or library, the package of Debian and Ubuntu that has it, and what it is for."""

    name: str
    package: str
    purpose: str

    def is_there(self) -> bool:
        if self.name.startswith("lib"):
            return ctypes.util.find_library(self.name.removeprefix("lib")) is not None
        if self.name == "uml-modules":
            return any(Path("/usr/lib/uml/modules").glob("*"))
        path = f"{os.environ.get('PATH', '')}:{_SYSTEM_FOLDERS}"
        return shutil.which(self.name, path=path) is not None


NEEDS = {
    need.name: need
    for need in (
        Need("g++", "g++", "torch compiles for the CPU with it"),
        Need("ninja", "ninja-build", "extensions and operators are built by it"),
        Need("strace", "strace", "system calls that fail or are counted"),
        Need("faketime", "faketime", "clocks that jump"),
        Need("chromium", "chromium", "the report in a browser"),
        Need("chromedriver", "chromium-driver", "the report in a browser"),
        Need("linux.uml", "user-mode-linux", "power cuts and NFS in a virtual machine"),
        Need("uml-modules", "user-mode-linux", "power cuts and NFS in a virtual machine"),
        Need("rpc.nfsd", "nfs-kernel-server", "a real NFS server"),
        Need("mount.nfs", "nfs-common", "a real NFS client"),
        Need("modprobe", "kmod", "modules of the virtual machine"),
        Need("tc", "iproute2", "latency in the virtual machine"),
        Need("mkfs.ext4", "e2fsprogs", "disks of the virtual machine"),
        Need("mkfs.xfs", "xfsprogs", "a filesystem that clones files"),
        Need("libfuse", "libfuse2", "filesystems that lack operations"),
        Need("fusermount3", "fuse3", "mounts by rclone and JuiceFS"),
        Need("ssh-keygen", "openssh-client", "keys in OpenSSH's form"),
        Need("unshare", "util-linux", "commands under a pod's constraints"),
        Need("setpriv", "util-linux", "commands under a pod's constraints"),
        Need("prlimit", "util-linux", "commands under a pod's constraints"),
        Need("docker-registry", "docker-registry", "a real OCI registry"),
        Need("skopeo", "skopeo", "copies between registries"),
        Need("umoci", "umoci", "unpacks images"),
        Need("npm", "npm", "brings Azurite, Azure's emulator"),
    )
}


def need(*names: str) -> None:
    """Skip the test unless the system has all of these."""
    import pytest

    lacking = [NEEDS[name] for name in names if not NEEDS[name].is_there()]
    if lacking:
        packages = " ".join(sorted({item.package for item in lacking}))
        what = ", ".join(item.name for item in lacking)
        pytest.skip(f"needs {what}: apt-get install {packages}")


def need_root(what: str) -> None:
    """Skip the test unless it runs as root, which ``what`` takes."""
    import pytest

    if os.geteuid():
        pytest.skip(f"{what} needs root: sudo make test")


def name_a_torch() -> None:
    """Where there is none, let this process and its children read of one what an installation says
    of itself: publishing needs its version, which most tests do without its code.
    """
    if find_spec("torch") is not None:
        return
    folder = Path(tempfile.gettempdir()) / f"{TORCHLESS}-{os.getuid()}"
    (folder / "torch").mkdir(parents=True, exist_ok=True)
    (folder / "torch/__init__.py").write_text('raise ImportError("there is no torch here")\n')
    (folder / "torch/version.py").write_text("__version__ = '2.13.0+none'\n")
    sys.path.append(str(folder))
    paths = [os.environ.get("PYTHONPATH", ""), str(folder)]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def need_package(module: str, package: str) -> None:
    """Skip the test unless this environment has the Python package."""
    import pytest

    spec = find_spec(module)
    if spec is None or TORCHLESS in str(spec.origin):
        pytest.skip(f"needs {package}: .venv/bin/pip install {package}")


def need_privilege(command: list[str], what: str) -> None:
    """Run a command that containers may forbid even to root; skip the test where it fails."""
    import pytest

    need_root(what)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip()[:120]
        pytest.skip(f"{what} is not allowed here ({reason}): run on a machine that lets root mount")


def missing() -> list[Need]:
    return [item for item in NEEDS.values() if not item.is_there()]


def install(packages: list[str]) -> None:
    """Install with apt as root; what fails stays missing, and its tests say so."""
    if os.geteuid() or shutil.which("apt-get") is None:
        how = "as root " if os.geteuid() else ""
        print(f"Some tests will skip. To run them, {how}install: {' '.join(packages)}")
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    base = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    if subprocess.run([*base, *packages], env=environment, check=False).returncode:
        for package in packages:  # one that this release lacks must not keep the others away
            subprocess.run([*base, package], env=environment, check=False)


def main() -> None:
    lacking = missing()
    for item in NEEDS.values():
        state = "missing" if item in lacking else "there"
        print(f"{state:8} {item.name:14} {item.package:18} {item.purpose}")
    if lacking and "--install" in sys.argv[1:]:
        install(sorted({item.package for item in lacking}))


if __name__ == "__main__":
    main()
