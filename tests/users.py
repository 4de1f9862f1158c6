"""Commands as other users of this machine, wherever the tests and their Python lie."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def in_namespace(script: str, aside: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell in a mount namespace of its own, in which any user may enter this checkout and
    its Python; ``aside`` is an unused folder.
    """
    shown = _show_to_everybody([ROOT, Path(sys.base_prefix).resolve()], aside)
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-euc", f"{shown}; {script}"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
            "HOME": "/nonexistent",
            "CASINDUCTOR_GPU_TYPE": "H100",
            **environment,
        },
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def _show_to_everybody(folders: list[Path], aside: Path) -> str:
    """The lines of a shell that let any user enter ``folders``, although they lie in a home that is
    private.
    """
    hidden = {
        next((p for p in reversed(f.parents) if not p.stat().st_mode & 0o001), None)
        for f in folders
    }
    lines = []
    for number, folder in enumerate(folders):
        (aside / str(number)).mkdir(parents=True)
        lines.append(f"mount --rbind {folder} {aside / str(number)}")
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {private}" for private in hidden - {None}]
    for number, folder in enumerate(folders):
        lines.append(f"mkdir -p {folder}; mount --rbind {aside / str(number)} {folder}")
    return "; ".join(lines)


def open_the_way(folder: Path) -> None:
    """Let any user enter a folder of a test."""
    for path in (folder, *folder.parents):
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)


def run_as(
    uid: int, groups: tuple[int, ...], arguments: list[str], aside: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``casinductor`` as a user of these groups, who has no rights; ``aside`` is an unused
    folder.
    """
    command = shlex.join([sys.executable, "-m", "casinductor", *arguments])
    script = (
        f"exec setpriv --reuid={uid} --regid={groups[0]} --groups={','.join(map(str, groups))} "
        f"--no-new-privs --bounding-set=-all --inh-caps=-all {command}"
    )
    return in_namespace(script, aside, PYTHONDONTWRITEBYTECODE="1", **environment)
