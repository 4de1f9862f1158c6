"""``casinductor demo``: the main job on this machine, for real, in a temporary directory.

Invariant: every line it prints was measured in a fresh process; it leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.cli.table import Column, byte_count, number, seconds

_COLUMNS = (
    Column("fresh_process"),
    number("first_call_seconds", 0, seconds),
    number("graphs_hit"),
    number("graphs_missed"),
    number("kernels_compiled"),
    number("read_bytes", 2, byte_count),
    number("files_restored", 1),
    number("published_bytes", 2, byte_count),
)


@dataclass(frozen=True)
class DemoLine:
    """What one worker of the demo did."""

    fresh_process: str
    first_call_seconds: float
    graphs_hit: int
    graphs_missed: int
    kernels_compiled: int
    read_bytes: int
    files_restored: int
    published_bytes: int

    @classmethod
    def of(cls, told: dict[str, Any]) -> DemoLine:
        return cls(
            told["worker"],
            told["first_call_seconds"],
            told["hits"],
            told["misses"],
            told["compiler_runs"],
            told["restore"]["bytes_read"],
            told["restore"]["files_written"],
            told["sync"]["bytes_uploaded"],
        )


@click.command(cls=Command)
@command_options
def command(options: Options) -> None:
    """Compile and sync in one process, restore and hit in another."""
    from casinductor.errors import Unsupported

    if find_spec("torch") is None:
        raise Unsupported("the demo compiles with torch, which is not installed")
    with tempfile.TemporaryDirectory(prefix="casinductor-demo-") as folder:
        lines = [_worker(Path(folder), name) for name in ("first worker", "second worker")]
    rows = [DemoLine.of(line) for line in lines]
    options.table(lines, "torch.compile of a small MLP with its backward pass", _COLUMNS, rows)
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
