"""Many processes sync into one or many caches while others compact, collect and restore.

Invariant: what this prints was counted; it ends with status 1 if anything that a sync acknowledged
was not there, byte for byte, at any later restore.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from casinductor.cache import Cache
from casinductor.errors import CasinductorError
from casinductor.settings import Settings
from casinductor.store.backends.filesystem import FilesystemBackend
from casinductor.store.format.frame import blake3_digest
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.compact import compact
from casinductor.store.opening import with_fresh_store

ROOT = Path(__file__).resolve().parents[2]
COMMON = b"// the same kernel on every worker\n" * 400


@dataclass
class Plan:
    """What a child process is told."""

    folder: str
    role: str
    number: int
    syncs: int
    processes: int
    caches: int
    slow: float = 0.0

    def settings(self, local: Path) -> Settings:
        return Settings(
            store=f"{self.folder}/store",
            local_dir=local,
            gpu_type="H100",
            state_dir=Path(self.folder) / "state" / f"{self.role}{self.number}",
            sync_deadline=600.0,
            restore_deadline=600.0,
        )

    def key(self, index: int) -> str:
        return f"model/v{index % self.caches}"

    @property
    def log(self) -> Path:
        return Path(self.folder) / "log" / f"{self.role}{self.number}"

    @property
    def over(self) -> bool:
        return (Path(self.folder) / "over").exists()


def make_tree(local: Path, index: int) -> None:
    """A few artifacts of its own, and some that every worker makes alike."""
    noise = random.Random(index).randbytes(3000)
    for name, data in ((f"c{index:051d}", noise), ("c" + "b" * 51, COMMON)):
        folder = local / name[1:3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.main.cpp").write_bytes(b"// source\n")
        (folder / f"{name}.main.so").write_bytes(data)
        (folder / f"{name}.main.so").chmod(0o755)
        (folder / f"{name}.py").write_bytes(f"# {name}\n".encode())


def hashes(local: Path) -> dict[str, str]:
    return {
        str(path.relative_to(local)): blake3_digest(path.read_bytes()).hex()
        for path in sorted(local.rglob("*"))
        if path.is_file() and ".casinductor" not in path.parts
    }


def note(plan: Plan, record: dict[str, Any]) -> None:
    """Append one line at once, after the fact."""
    with plan.log.open("a") as file:
        file.write(json.dumps(record) + "\n")


def slow_down(seconds: float) -> None:
    """Let this process wait up to so long before each object it publishes.

    That leaves collectors the time to condemn a pack before any manifest names it, again and again.
    """
    real, choose = FilesystemBackend.put, random.Random()

    def put(self: FilesystemBackend, *arguments: Any, **options: Any) -> int:
        time.sleep(choose.uniform(0, seconds))
        return real(self, *arguments, **options)

    FilesystemBackend.put = put  # type: ignore[method-assign]


def syncer(plan: Plan) -> None:
    if plan.slow:
        slow_down(plan.slow)
    for index in range(plan.number, plan.syncs, plan.processes):
        local = Path(plan.folder) / "local" / f"sync{index}"
        make_tree(local, index)
        start = time.perf_counter()
        try:
            report = Cache(plan.key(index), settings=plan.settings(local)).sync()
        except CasinductorError as error:
            note(plan, {"failed": str(error)})
            continue
        note(
            plan,
            {
                "key": plan.key(index),
                "files": hashes(local),
                "seconds": time.perf_counter() - start,
                "attempts": report.attempts,
                "uploaded": report.bytes_uploaded,
            },
        )
        shutil.rmtree(local)


def acknowledged(plan: Plan, key: str | None = None) -> dict[str, dict[str, str]]:
    """By cache, what the logs say so far."""
    found: dict[str, dict[str, str]] = {}
    for log in sorted((Path(plan.folder) / "log").glob("syncer*")):
        for line in log.read_text().splitlines():
            record = json.loads(line)
            if record.get("key") is not None and key in (None, record["key"]):
                found.setdefault(record["key"], {}).update(record["files"])
    return found


def verify(plan: Plan, key: str, wanted: dict[str, str]) -> int:
    """Restore a cache and return how many acknowledged files are missing or wrong."""
    local = Path(plan.folder) / "local" / f"restore-{plan.role}{plan.number}"
    shutil.rmtree(local, ignore_errors=True)
    report = Cache(key, settings=plan.settings(local)).restore("all")
    there = hashes(local) if local.is_dir() else {}
    bad = sum(there.get(path) != digest for path, digest in wanted.items())
    if bad:
        print(f"{key}: {bad} of {len(wanted)} files missing or wrong; {report}", file=sys.stderr)
    return bad


def restorer(plan: Plan) -> None:
    choose = random.Random(plan.number)
    while not plan.over:
        key = plan.key(choose.randrange(plan.caches))
        wanted = acknowledged(plan, key).get(key, {})
        note(plan, {"restored": len(wanted), "bad": verify(plan, key, wanted)})


def compactor(plan: Plan) -> None:
    choose = random.Random(plan.number)
    while not plan.over:
        cache = Cache(
            plan.key(choose.randrange(plan.caches)), settings=plan.settings(Path("/none"))
        )
        try:
            report = with_fresh_store(cache.settings, partial(compact, cache=cache.id))
            note(plan, {"replaced": report.manifests_replaced, "lost": report.groups_lost})
        except CasinductorError as error:
            note(plan, {"failed": str(error)})
        time.sleep(0.2)


def collector(plan: Plan) -> None:
    while not plan.over:
        try:
            report = with_fresh_store(
                plan.settings(Path("/none")),
                lambda store: collect(store, apply=True, min_age_seconds=0.0, max_unused=0.3),
            )
            note(plan, {"packs": report.packs, "problems": report.problems})
        except CasinductorError as error:
            note(plan, {"failed": str(error)})
        time.sleep(0.2)


ROLES = {
    "syncer": syncer,
    "restorer": restorer,
    "compactor": compactor,
    "collector": collector,
}


def run(syncs: int, processes: int, caches: int, folder: Path, slow: float = 0.0) -> dict[str, Any]:
    """The whole race in ``folder``; returns the figures."""
    (folder / "log").mkdir(parents=True)
    roles = [("syncer", n) for n in range(processes)]
    helpers = [("compactor", 0), ("collector", 0), ("collector", 1), ("restorer", 0)]
    start = time.perf_counter()
    children = {
        (role, number): _spawn(Plan(str(folder), role, number, syncs, processes, caches, slow))
        for role, number in [*helpers, *roles]
    }
    codes = {who: children[who].wait() for who in roles}
    seconds = time.perf_counter() - start
    (folder / "over").touch()
    codes.update({who: children[who].wait() for who in helpers})
    plan = Plan(str(folder), "final", 0, syncs, processes, caches)
    figures = _figures(plan)
    figures["crashed_processes"] = sum(code != 0 for code in codes.values())
    figures["seconds"] = round(seconds, 1)
    figures["peak_child_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    return figures


def _spawn(plan: Plan) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "tools.soak.race", "--child", json.dumps(asdict(plan))]
    return subprocess.Popen(arguments, env=environment)


def _figures(plan: Plan) -> dict[str, Any]:
    records = {
        role: [
            json.loads(line)
            for log in sorted((Path(plan.folder) / "log").glob(f"{role}*"))
            for line in log.read_text().splitlines()
        ]
        for role in ROLES
    }
    synced = [record for record in records["syncer"] if "key" in record]
    wanted = acknowledged(plan)
    lost = sum(verify(plan, key, files) for key, files in wanted.items())
    before = _stored(plan)
    settings = plan.settings(Path("/none"))
    for key in sorted(wanted):
        cache = Cache(key, settings=settings)
        with_fresh_store(settings, partial(compact, cache=cache.id))
    with_fresh_store(
        settings, lambda store: collect(store, apply=True, min_age_seconds=0.0, max_unused=0.0)
    )
    times = sorted(record["seconds"] for record in synced)
    return {
        "acknowledged_syncs": len(synced),
        "failed_syncs": len(records["syncer"]) - len(synced),
        "lost_files": lost,
        "lost_files_after_gc": sum(verify(plan, key, files) for key, files in wanted.items()),
        "bad_restores": sum(record["bad"] > 0 for record in records["restorer"]),
        "restores": len(records["restorer"]),
        "compactions": sum("replaced" in record for record in records["compactor"]),
        "collections": sum("packs" in record for record in records["collector"]),
        "packs_collected": sum(record.get("packs", 0) for record in records["collector"]),
        "helper_errors": sorted(
            {
                str(record.get("failed") or record["problems"])[:160]
                for role in ("compactor", "collector")
                for record in records[role]
                if record.get("failed") or record.get("problems")
            }
        )[:5],
        "sync_median_s": round(times[len(times) // 2], 3) if times else None,
        "sync_slowest_s": round(times[-1], 3) if times else None,
        "syncs_that_republished": sum(record["attempts"] > 1 for record in synced),
        "uploaded_bytes": sum(record["uploaded"] for record in synced),
        "stored_bytes_at_the_end": before,
        "stored_bytes_compacted": _stored(plan),
    }


def _stored(plan: Plan) -> int:
    store = Path(plan.folder) / "store"
    return sum(
        path.stat().st_size for pattern in ("*.pack", "*.manifest") for path in store.rglob(pattern)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--syncs", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--caches", type=int, default=1)
    parser.add_argument("--slow", type=float, default=0.0, help="seconds a sync waits at most")
    parser.add_argument("--dir", type=Path, default=None)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        plan = Plan(**json.loads(given.child))
        ROLES[plan.role](plan)
        return
    with tempfile.TemporaryDirectory(prefix="casinductor-race-", dir=given.dir) as folder:
        figures = run(given.syncs, given.processes, given.caches, Path(folder) / "race", given.slow)
    print(json.dumps(figures, indent=2))
    bad = figures["lost_files"] + figures["lost_files_after_gc"] + figures["bad_restores"]
    sys.exit(1 if bad or figures["crashed_processes"] else 0)


if __name__ == "__main__":
    main()
