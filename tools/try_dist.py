"""Installs the wheel and the sdist of a folder, each in a fresh environment, and tries them.

python tools/try_dist.py dist

Invariant: what is tried is what was built, never the checkout: it runs in another folder, with an
environment of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

_TRY = """
import casinductor, pathlib, sys
assert pathlib.Path(casinductor.__file__).is_relative_to(sys.prefix), casinductor.__file__
assert (pathlib.Path(casinductor.__file__).parent / "py.typed").exists()
from casinductor import Cache, Settings
root = pathlib.Path(sys.argv[1])
(root / "local/ab").mkdir(parents=True)
(root / "local/ab" / ("c" + "b" * 51 + ".py")).write_text("# a module")
settings = Settings(store=str(root / "store"), local_dir=root / "local", state_dir=root / "state")
report = Cache("try/v1", gpu="H100", settings=settings).sync()
assert report.files_added == 1, report
"""


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    built = [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]
    if len(built) != 2:
        raise SystemExit(f"{folder} holds {len(built)} files instead of a wheel and an sdist")
    for path in built:
        with tempfile.TemporaryDirectory(prefix="casinductor-dist-") as name:
            try_one(path, Path(name))
        print(f"{path.name}: installed in a fresh environment, syncs, and its command answers")


def try_one(path: Path, folder: Path) -> None:
    """Raises CalledProcessError where something fails."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    python, command = folder / "v/bin/python", folder / "v/bin/casinductor"

    def run(*arguments: object) -> None:
        subprocess.run([*map(str, arguments)], cwd=folder, env=environment, check=True)

    run(sys.executable, "-m", "venv", folder / "v")
    run(python, "-m", "pip", "install", "--quiet", path)
    run(python, "-c", _TRY, folder)
    run(command, "--store", folder / "store", "ls")


if __name__ == "__main__":
    main()
