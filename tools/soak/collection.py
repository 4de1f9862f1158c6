"""Time and memory of looking for garbage, and of removing it, in large stores.

Invariant: each size runs in a process of its own, whose peak resident memory is the kernel's
figure; the stores are made by the library's own writer, with packs that two caches share.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from casinductor.store.backends.filesystem import FilesystemBackend
from casinductor.store.format.frame import blake3_digest
from casinductor.store.format.manifest import Artifact, content_of
from casinductor.store.format.names import CacheId
from casinductor.store.format.pack import Blob
from casinductor.store.index.catalog import Catalog
from casinductor.store.index.places import Unusable
from casinductor.store.maintain.collect import collect
from casinductor.store.store import Store
from casinductor.store.write.draft import Draft, NewGroup
from casinductor.store.write.publish import Source, publish
from tools.soak.race import ROOT

BLOB_BYTES = 600


def fill(folder: Path, blobs: int, packs: int) -> None:
    """One manifest and one pack for each sync; every fourth pack is never named by a manifest."""
    backend = FilesystemBackend(folder)
    store = Store(backend, Catalog(None))
    store.prepare_to_write()
    each = blobs // packs
    for number in range(packs):
        cache = CacheId("H100", f"model{number % 20}")
        draft = Draft(store, None, Unusable())
        artifacts: list[Artifact] = []

        def content(
            number: int = number, draft: Draft = draft, artifacts: list[Artifact] = artifacts
        ) -> Iterator[Blob]:
            for index in range(each):
                seed = f"{number}-{index}".encode()
                data = (blake3_digest(seed) * (BLOB_BYTES // 32 + 1))[:BLOB_BYTES]
                indexes, fresh = draft.place([Blob(blake3_digest(data), data)])
                path = f"{number % 100:02d}/c{number:06d}{index:045d}.py"
                artifacts.append(Artifact(path, 0o644, len(data), b"", True, indexes))
                yield from fresh

        def groups(number: int = number, artifacts: list[Artifact] = artifacts) -> list[NewGroup]:
            digest = content_of([(a.path, a.mode, a.path.encode()) for a in artifacts])
            return [NewGroup(f"group{number}", "module", 3, digest, {}, list(artifacts))]

        publish(store, cache, draft, Source(content(), groups, "/tmp"))
    names = sorted(folder.glob("manifests/*/*/*"))
    for path in names[::4]:
        path.unlink()
    store.catalog.close()


def measure(folder: Path) -> dict[str, float]:
    """A dry run and a collection, in this process."""
    with tempfile.TemporaryDirectory() as temporary:
        store = Store(FilesystemBackend(folder), Catalog(Path(temporary) / "catalog.db"))
        start = time.perf_counter()
        said = collect(store, min_age_seconds=0.0)
        looked = time.perf_counter() - start
        start = time.perf_counter()
        done = collect(store, apply=True, min_age_seconds=0.0)
        applied = time.perf_counter() - start
        assert said.packs == done.packs > 0
        store.catalog.close()
    peak = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    return {
        "dry_run_s": round(looked, 2),
        "apply_s": round(applied, 2),
        "packs_removed": done.packs,
        "peak_mb": round(int(peak[1]) / 1024, 1) if peak else 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--blobs", type=int, default=100_000)
    parser.add_argument("--packs", type=int, default=2_000)
    parser.add_argument("--dir", type=Path, default=None)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return
    for share in (4, 2, 1):
        blobs, packs = given.blobs // share, given.packs // share
        with tempfile.TemporaryDirectory(prefix="casinductor-gc-", dir=given.dir) as folder:
            fill(Path(folder), blobs, packs)
            output = subprocess.run(
                [sys.executable, "-m", "tools.soak.collection", "--measure", folder],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        print(json.dumps({"blobs": blobs, "packs": packs, **json.loads(output)}), flush=True)


if __name__ == "__main__":
    main()
