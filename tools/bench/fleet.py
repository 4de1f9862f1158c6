"""A thousand workers that start within ten seconds on one cache, against a real server.

Invariant: each simulated worker is a client of its own (its own connections, catalog and local
directory) that runs the library's own restore and, some of them, its own sync; what was
acknowledged is looked for at the end, byte by byte.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from casinductor.cache import Cache
from casinductor.settings import Settings
from tests import servers
from tests.proxy import proxied
from tools.bench.measure import megabytes

_PROCESSES = 8
COLUMNS = [
    "workers", "started within", "median", "slowest", "failed", "requests", "bytes moved",
    "bytes a worker", "manifests after", "lost",
]  # fmt: skip

_CLIENTS = """
import json, sys, threading, time, hashlib, os
from pathlib import Path
from casinductor.cache import Cache
from casinductor.settings import Settings
store, folder = sys.argv[1], Path(sys.argv[2])
first, count, within, begin = map(float, sys.argv[3:])
results, guard = [], threading.Lock()

def worker(number):
    at = begin + within * number / 1000.0
    time.sleep(max(0.0, at - time.time()))
    local = folder / "local" / str(number)
    settings = Settings(store=store, local_dir=local, gpu_type="H100", trace=False, warmups=False,
                        state_dir=folder / "state" / str(number), restore_deadline=300,
                        sync_deadline=300)
    cache = Cache("model/v1", settings=settings)
    start, told = time.perf_counter(), {"number": number}
    try:
        report = cache.restore("needed")
        told.update(seconds=time.perf_counter() - start, files=report.files_written,
                    lost=report.lost, read=report.bytes_read)
        if number % 20 == 0:
            name = "c" + format(number, "05d").translate(str.maketrans("0123456789", "abcdefghij"))
            path = local / name[1:3] / (name * 10)[:52]
            path = path.with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# made by worker {number}\\n")
            sync = cache.sync()
            told.update(synced=str(path.relative_to(local)), added=sync.groups_added)
    except Exception as error:
        told.update(error=f"{type(error).__name__}: {error}")
    with guard:
        results.append(told)

threads = [threading.Thread(target=worker, args=(int(first) + n,)) for n in range(int(count))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(results))
"""


def row(tree: Path, folder: Path, workers: int = 1000, within: float = 10.0) -> list[str]:
    """Start ``workers`` within ``within`` seconds; every twentieth also compiles and syncs."""
    os.environ.update(servers.KEYS)
    with (
        servers.seaweedfs(folder / "seaweedfs") as server,
        proxied(server.endpoint) as proxy,
    ):
        store = f"s3://{servers.BUCKET}/fleet?endpoint={proxy.endpoint}"
        settings = Settings(
            store=store, local_dir=tree, gpu_type="H100", state_dir=folder / "state"
        )
        Cache("model/v1", settings=settings).sync()
        proxy.reset()
        results = _run(store, folder, workers, within)
        traffic = proxy.reset()
        final = Settings(
            store=store,
            local_dir=folder / "final",
            gpu_type="H100",
            state_dir=folder / "final-state",
        )
        report = Cache("model/v1", settings=final).restore("all")
        synced = [r["synced"] for r in results if "synced" in r]
        missing = [path for path in synced if not (folder / "final" / path).exists()]
        manifests = len(_manifests(store))
    times = sorted(r["seconds"] for r in results if "seconds" in r)
    failed = [r["error"] for r in results if "error" in r]
    for sentence in sorted(set(failed))[:3]:
        print(f"failed: {sentence}", file=sys.stderr)
    moved = traffic.up + traffic.down
    shutil.rmtree(folder / "local", ignore_errors=True)
    return [
        f"{workers:,} ({len(synced)} of them sync)",
        f"{within:g} s",
        f"{times[len(times) // 2]:.2f} s",
        f"{times[-1]:.2f} s",
        str(len(failed)),
        f"{traffic.total:,}",
        megabytes(moved),
        megabytes(moved // workers),
        str(manifests),
        str(len(missing) + report.lost + sum(r.get("lost", 0) for r in results)),
    ]


def _run(store: str, folder: Path, workers: int, within: float) -> list[dict[str, Any]]:
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    begin, share = time.time() + 3.0, workers // _PROCESSES
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _CLIENTS, store, str(folder),
             *map(str, (n * share, share, within * 1000 / workers, begin))],
            env=environment, stdout=subprocess.PIPE, text=True,
        )
        for n in range(_PROCESSES)
    ]  # fmt: skip
    found: list[dict[str, object]] = []
    for process in processes:
        found += json.loads(process.communicate()[0])
    return found


def _manifests(store: str) -> list[str]:
    from casinductor.store.backends.address import open_backend

    return [item.name for item in open_backend(store).list("manifests/H100/model/v1/")]
