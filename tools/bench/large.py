"""A store of 10,000 caches and 5,000,000 artifacts: what each verb costs as the fleet grows.

Invariant: the store is written by the library's own ``publish``; its artifacts are tiny and all
different, which is the worst for an index, as nothing deduplicates. Each verb runs in a process of
its own, whose peak resident memory is the kernel's figure.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from casinductor.store.format.frame import blake3_digest
from casinductor.store.format.manifest import Artifact, content_of
from casinductor.store.format.names import CacheId
from casinductor.store.format.pack import Blob
from casinductor.store.index.places import Unusable
from casinductor.store.store import Store
from casinductor.store.write.draft import Draft, NewGroup
from casinductor.store.write.publish import Source, publish
from tools.bench.measure import megabytes

COLUMNS = ["verb", "seconds", "peak memory"]
_GROUPS, _FILES, _BLOB_BYTES = 25, 20, 48
_KEYS_OF_A_MODEL = 10

_VERB = """
import json, re, sys, time
from pathlib import Path
from casinductor.cache import Cache
from casinductor.store.opening import with_fresh_store, with_store
from casinductor.settings import Settings
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.retention import Policy
from casinductor.store.stats import figures
verb, store, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
settings = Settings(store=store, local_dir=folder / "local", gpu_type="H100",
                    state_dir=folder / "state", restore_deadline=3600, sync_deadline=3600)
cache = Cache("model-0500/v5", settings=settings)
start = time.perf_counter()
if verb == "restore":
    told = cache.restore("all").files_written
elif verb == "sync":
    path = folder / "local" / "ab" / ("c" + "z" * 51 + ".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# new")
    told = cache.sync().files_added
elif verb == "caches":
    told = with_fresh_store(settings, lambda s: len(s.caches()))
elif verb == "stats":
    told = with_store(settings, lambda s: figures(s, None)).artifacts
elif verb == "gc":
    told = with_fresh_store(settings, lambda s: collect(s, Policy())).packs
else:
    policy = Policy(keep=("H100/model-00??/*",), max_bytes=0)
    def sweep(store):
        return collect(store, policy, apply=True, min_age_seconds=0)
    told = with_fresh_store(settings, sweep).packs
seconds = time.perf_counter() - start
peak = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps({"seconds": seconds, "peak": peak, "told": told}))
"""

_FILL = """
import sys
from pathlib import Path
from tools.bench.large import fill
fill(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
"""


def fill(address: str, first: int, count: int) -> None:
    """Publish caches ``first`` to ``first + count`` of a store."""
    from casinductor.store.backends.address import open_backend
    from casinductor.store.index.catalog import Catalog

    store = Store(open_backend(address), Catalog(None))
    store.prepare_to_write()
    for number in range(first, first + count):
        model, version = divmod(number, _KEYS_OF_A_MODEL)
        _publish(store, CacheId("H100", f"model-{model:04d}/v{version}"), number)
        store.catalog.close()
        store.catalog = Catalog(None)


def _publish(store: Store, cache: CacheId, number: int) -> None:
    draft = Draft(store, None, Unusable())
    groups: list[NewGroup] = []
    blobs: list[Blob] = []
    for index in range(_GROUPS):
        artifacts, hashes = [], []
        key = hashlib.sha256(f"{number}.{index}".encode()).hexdigest().upper()
        key = key.translate(str.maketrans("0189", "GHIJ"))[:52]
        for part in range(_FILES):
            data = hashlib.blake2b(f"{number}.{index}.{part}".encode(), digest_size=_BLOB_BYTES)
            piece = Blob(blake3_digest(data.digest()), data.digest())
            indexes, fresh = draft.place([piece])
            blobs += fresh
            path = f"triton/0/{key}/kernel_{part}.cubin"
            artifacts.append(Artifact(path, 0o644, _BLOB_BYTES, b"", True, indexes))
            hashes.append((path, 0o644, piece.hash))
        group = f"triton/0/{key}"
        content = content_of(hashes)
        groups.append(NewGroup(group, "triton", 3, content, {}, artifacts, [], {}))
    publish(store, cache, draft, Source(iter(blobs), lambda: groups, "/tmp/inductor-cache"))


def rows(folder: Path, caches: int = 10_000) -> tuple[str, list[list[str]]]:
    """Write the store, then a row for each verb; also what the store is."""
    folder.mkdir(parents=True)
    store = folder / "store"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    share = (caches + 1) // 2
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _FILL, str(store), str(first), str(share)], env=environment
        )
        for first in (0, share)
    ]
    for writer in writers:
        if writer.wait():
            raise SystemExit("the store could not be written")
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    what = f"{caches:,} caches, {caches * _GROUPS * _FILES:,} artifacts, {megabytes(size)}"
    found = []
    for name, verb in (
        ("restore one cache", "restore"),
        ("sync one new file to it", "sync"),
        ("list the caches", "caches"),
        ("stats of the whole store, first", "stats"),
        ("stats of the whole store, again", "stats"),
        ("gc, dry run", "gc"),
        ("gc --apply, of all but 1,000 caches", "apply"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", _VERB, verb, str(store), str(folder / "work")],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{verb}: {done.stderr[-2000:]}")
        told = json.loads(done.stdout)
        found.append([name, f"{told['seconds']:.2f} s", f"{told['peak'] / 1e6:.0f} MB"])
        print(f"{name}: {told}", file=sys.stderr)
    return what, found
