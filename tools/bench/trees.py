"""The trees to measure on: real CUDA trees where they are at hand, CPU trees made on the spot.

Invariant: every tree was left by a real torch.compile; nothing is invented.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[2] / "tests" / "data" / "cuda-trees.tar.xz"

BERT = "cuda-bert4_train-cold1"
UNET = "cuda-sdturbo_unet-512"
GROWTH = (BERT, "cuda-bert4_train-cold2-samepath", "cuda-bert4_train-batch4")
VERSIONS = ("cuda-llama8-v1", "cuda-llama8-v2")

_COMPILE = """
import sys, torch
torch.manual_seed(0)
width, size = int(sys.argv[1]), int(sys.argv[2])
layers = []
for n in range(6):
    layers += [torch.nn.Linear(64 if n == 0 else width, width), torch.nn.GELU(),
               torch.nn.LayerNorm(width)]
model = torch.compile(torch.nn.Sequential(*layers))
model(torch.randn(size, 64)).softmax(-1).square().sum().backward()
"""


def corpus(folder: Path) -> Path:
    """The CUDA trees of ``tests/data``, and the larger one that CASINDUCTOR_CORPUS may name."""
    target = folder / "corpus"
    target.mkdir(exist_ok=True)
    with tarfile.open(CORPUS) as archive:
        archive.extractall(target)
    for path in folder.rglob("*"):
        os.utime(path)  # archived without times, and a zip takes none before 1980
    larger = os.environ.get("CASINDUCTOR_CORPUS")
    if larger and Path(larger, UNET).is_dir():
        (target / UNET).symlink_to(Path(larger, UNET).resolve())
    return target


def together(corpus: Path, target: Path) -> Path:
    """All trees of the corpus in one directory: the largest real cache at hand.

    Hashes keep them apart, and entries still bundle the kernels that lie beside them, which copies
    of one tree under other names would not.
    """
    for tree in sorted(corpus.iterdir()):
        shutil.copytree(tree, target, dirs_exist_ok=True)
    return target


def cpu_tree(folder: Path, width: int = 96, size: int = 8) -> Path:
    """A training step of a six-layer MLP, compiled here and now."""
    target = folder / f"cpu-mlp6_train-{width}x{size}"
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(target)}
    command = [sys.executable, "-c", _COMPILE, str(width), str(size)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return target
