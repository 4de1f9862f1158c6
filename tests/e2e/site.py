"""A place where short programs use casinductor and the real torch, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HEAD = """
import logging, os, subprocess, sys, time
from casinductor import *
logging.getLogger("torch").setLevel(logging.ERROR)
def model(n):
    import torch
    torch.set_grad_enabled(False)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: torch.relu(x * n + 1).sum(-1) * torch.sigmoid(x).mean(-1))
    compiled(torch.ones(4, 64))
"""
BLOCK = 'with synchronized_inductor_cache("m/v1"): '


@dataclass
class Site:
    """A store, a local directory, and a program's whole output."""

    folder: Path

    @property
    def local(self) -> Path:
        return self.folder / "local"

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_CACHE")}
        kept.pop("TORCHINDUCTOR_CACHE_DIR", None)
        return {
            **kept,
            "CASINDUCTOR_STORE": str(self.folder / "store"),
            "CASINDUCTOR_LOCAL_DIR": str(self.local),
            "CASINDUCTOR_STATE_DIR": str(self.folder / "state"),
            "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",
            "TORCHINDUCTOR_VEC_ISA_OK": "1",
            "OMP_NUM_THREADS": "2",
            **more,
        }

    def run(self, code: str, /, *, cwd: Path | None = None, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", HEAD + code],
            env=self.environment(**more),
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    def forget(self) -> None:
        """As a fresh worker begins."""
        shutil.rmtree(self.local, ignore_errors=True)
