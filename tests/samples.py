"""Makes a sample store of the current format: ``python -m tests.samples tests/data/format-1``.

Run once for each format and never again: what lies in ``tests/data/format-<n>`` is what every later
version must read.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

from casinductor.cache import Cache
from casinductor.inductor.fingerprint import Fingerprint
from casinductor.settings import Settings
from casinductor.store.maintain.compact import compact
from casinductor.store.opening import with_fresh_store
from tests.conftest import Tree, content

#: The worker that made the sample; only one with the same fingerprint may restore it.
WORKER = Fingerprint(
    torch="2.13.0+sample (0123456789ab)",
    triton="3.8.0",
    accelerator="cuda 13.0",
    python="cpython-311-x86_64-linux-gnu",
    platform="linux-x86_64",
    libc="glibc-2.36",
    device="NVIDIA H100 80GB HBM3",
    isa="avx512",
    flags=("avx2", "avx512f"),
)


def make(store: Path) -> dict[str, dict[str, str]]:
    """A cache in lz4 packs with a warm-up, and a compacted one; what each restores, by key."""
    expected: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as name, patch("casinductor.cache.worker_fingerprint") as it:
        it.return_value = WORKER
        folder = Path(name)
        for key, names in (("model/v1", ("ab", "cd")), ("model/v2", ("ef",))):
            local = folder / key.replace("/", "-")
            settings = Settings(
                store=str(store), local_dir=local, gpu_type="H100", state_dir=folder / "state"
            )
            cache = Cache(key, settings=settings)
            for seed, part in enumerate(names):
                cache.restore()
                Tree(local, seed).model(part).probe(part[::-1])
                cache.sync()
            cache.close()
            expected[key] = digests(local)
        with_fresh_store(settings, lambda opened: compact(opened, cache.id, grace=0.0))
    return expected


def digests(local: Path) -> dict[str, str]:
    """The SHA-256 of every file, but for group files, which hold the directory's own path."""
    return {
        path: hashlib.sha256(data).hexdigest()
        for path, data in content(local).items()
        if "__grp__" not in path
    }


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True)
    files = make(target / "store")
    (target / "expected.json").write_text(json.dumps(files, indent=1, sort_keys=True) + "\n")
