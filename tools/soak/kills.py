"""Processes killed with SIGKILL at random moments of sync, restore, compaction and collection.

Invariant: what was acknowledged before a kill is whole after it, whoever was killed; at the end a
collection returns the store to what is live. Ends with status 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from casinductor.cache import Cache
from casinductor.settings import Settings
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.compact import compact
from casinductor.store.maintain.protocol import require_all_manifests
from casinductor.store.opening import with_fresh_store
from casinductor.store.store import Store
from tools.soak.race import ROOT, hashes, make_tree

VERBS = ("sync", "restore", "compact", "collect")
CHILD = """
import sys
from pathlib import Path
from casinductor.cache import Cache
from casinductor.store.opening import with_fresh_store
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.compact import compact
from tools.soak.kills import settings_of
verb, folder, local = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
settings = settings_of(folder, local)
cache = Cache("model", settings=settings)
print("ready", flush=True)
sys.stdin.readline()
if verb == "sync":
    cache.sync()
elif verb == "restore":
    cache.restore("all")
elif verb == "compact":
    with_fresh_store(settings, lambda store: compact(store, cache.id))
else:
    with_fresh_store(settings, lambda store: collect(
        store, apply=True, min_age_seconds=0.0, max_unused=0.0))
print("done", flush=True)
"""


def settings_of(folder: Path, local: Path) -> Settings:
    return Settings(
        store=str(folder / "store"),
        local_dir=local,
        gpu_type="H100",
        state_dir=folder / "state" / local.name,
    )


class Killing:
    """One store, whose users die."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.wanted: dict[str, str] = {}
        self.killed: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self.lost = 0
        self._number = 0

    def publish(self) -> None:
        """A sync that ends, and is thereby promised."""
        local = self._tree()
        Cache("model", settings=settings_of(self.folder, local)).sync()
        self.wanted.update(hashes(local))
        shutil.rmtree(local)

    def strike(self, verb: str) -> None:
        """Start a process, let it begin, kill it somewhere, and look what is left."""
        local = self._tree() if verb == "sync" else self.folder / "local" / "victim"
        made = hashes(local) if verb == "sync" else {}
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, verb, str(self.folder), str(local)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.flush()
        time.sleep(self.random.uniform(0.0, 0.06))
        process.send_signal(signal.SIGKILL)
        output = process.communicate()[0]
        if "done" in output:
            self.finished[verb] += 1
            self.wanted.update(made)
        else:
            self.killed[verb] += 1
        if verb == "sync":
            shutil.rmtree(local)
        elif verb == "restore":
            self.lost += self._half_written(local)
            shutil.rmtree(local, ignore_errors=True)

    def verify(self) -> None:
        local = self.folder / "local" / "verify"
        shutil.rmtree(local, ignore_errors=True)
        Cache("model", settings=settings_of(self.folder, local)).restore("all")
        there = hashes(local) if local.is_dir() else {}
        self.lost += sum(there.get(path) != digest for path, digest in self.wanted.items())

    def settle(self) -> dict[str, Any]:
        """Compact and collect; nothing but the live bytes may be left."""
        settings = settings_of(self.folder, self.folder / "local" / "settle")
        cache = Cache("model", settings=settings)

        def work(store: Store) -> tuple[int, int, int]:
            compact(store, cache.id)
            collect(store, apply=True, min_age_seconds=0.0, max_unused=0.0)
            require_all_manifests(store)
            extra = set(store.packs()) - store.catalog.packs.referenced()
            return len(extra), len(store.marks.condemned()), len(store.catalog.manifests.known())

        extra, condemned, manifests = with_fresh_store(settings, work)
        self.verify()
        return {"unneeded_packs": extra, "tombstones": condemned, "manifests": manifests}

    def _half_written(self, local: Path) -> int:
        there = hashes(local) if local.is_dir() else {}
        return sum(self.wanted.get(path, digest) != digest for path, digest in there.items())

    def _tree(self) -> Path:
        self._number += 1
        local = self.folder / "local" / f"tree{self._number}"
        make_tree(local, self._number)
        return local


def run(kills: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Kill until ``kills`` processes died at work; returns the figures."""
    killing = Killing(folder, seed)
    start = time.perf_counter()
    killing.publish()
    strikes = 0
    while sum(killing.killed.values()) < kills:
        killing.strike(VERBS[strikes % len(VERBS)])
        strikes += 1
        if strikes % 8 == 0:
            killing.publish()
        if strikes % 4 == 0:
            killing.verify()
    left = killing.settle()
    return {
        "killed": dict(killing.killed),
        "finished_first": dict(killing.finished),
        "acknowledged_files": len(killing.wanted),
        "lost_files": killing.lost,
        **left,
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dir", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="casinductor-kills-", dir=given.dir) as folder:
        figures = run(given.kills, Path(folder), given.seed)
    print(json.dumps(figures, indent=2))
    sys.exit(1 if figures["lost_files"] or figures["unneeded_packs"] else 0)


if __name__ == "__main__":
    main()
