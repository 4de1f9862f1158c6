"""``casinductor demo``: the main job on this machine, for real, in a temporary directory.

Invariant: every line it prints was measured in a fresh process; it leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from casinductor.cli.options import Options, command_options
from casinductor.util.human import size


@click.command()
@command_options
def command(options: Options) -> None:
    """Compile and sync in one process, restore and hit in another."""
    from casinductor.errors import Unsupported

    if find_spec("torch") is None:
        raise Unsupported("the demo compiles with torch, which is not installed")
    with tempfile.TemporaryDirectory(prefix="casinductor-demo-") as folder:
        lines = [_worker(Path(folder), name) for name in ("first worker", "second worker")]
    rows = [
        [
            line["worker"],
            f"{line['first_call_seconds']:.2f} s",
            f"{line['hits']}",
            f"{line['misses']}",
            f"{line['compiler_runs']}",
            size(line["restore"]["bytes_read"]),
            f"{line['restore']['files_written']}",
            size(line["sync"]["bytes_uploaded"]),
        ]
        for line in lines
    ]
    columns = [
        "fresh process",
        "first call",
        "graphs hit",
        "missed",
        "kernels compiled",
        "read",
        "files restored",
        "published",
    ]
    options.table(lines, "torch.compile of a small MLP with its backward pass", columns, rows)
    if not options.as_json and not options.quiet:
        ratio = lines[0]["first_call_seconds"] / lines[1]["first_call_seconds"]
        same = "equal" if lines[0]["checksum"] == lines[1]["checksum"] else "DIFFERENT"
        click.echo(f"The second worker's report: {lines[1]['warmup']}")
        click.echo(f"The second worker's first call was {ratio:.0f} times as fast; outputs {same}.")


def _worker(folder: Path, name: str) -> dict[str, Any]:
    """One worker as a fresh process with an empty local directory; the store stays."""
    local = folder / "local"
    if local.exists():
        import shutil

        shutil.rmtree(local)
    environment = {
        **os.environ,
        "CASINDUCTOR_STORE": str(folder / "store"),
        "CASINDUCTOR_LOCAL_DIR": str(local),
        "CASINDUCTOR_STATE_DIR": str(folder / "state"),
        # torch would build a 149 MB header and probe the processor on each new machine.
        "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",
        "TORCHINDUCTOR_VEC_ISA_OK": "1",
    }
    result = subprocess.run(
        [sys.executable, "-m", "casinductor.cli.demo_worker"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise click.ClickException(f"the {name} failed:\n{result.stderr[-4000:]}")
    return {"worker": name, **json.loads(result.stdout.splitlines()[-1])}
