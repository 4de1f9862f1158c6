"""Real processes: many at once on one directory and one cache, and killed at random moments."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Fleet, Tree, content

ROOT = Path(__file__).resolve().parents[1]

SCRIPT = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from casinductor.cache import Cache
from casinductor.store.opening import with_store
from casinductor.settings import Settings
from casinductor.store.maintain.compact import compact
verb, store, local, state = sys.argv[1:5]
cache = Cache("m", settings=Settings(store=store, local_dir=Path(local), gpu_type="H100",
                                     state_dir=Path(state)))
if verb == "restore":
    report = cache.restore("all")
elif verb == "sync":
    report = cache.sync()
else:
    report = with_store(cache.settings, lambda s: compact(s, cache.id))
print(json.dumps(report.as_dict()))
"""


def start(fleet: Fleet, verb: str, local: str, state: str | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            SCRIPT,
            verb,
            fleet.address,
            str(fleet.folder / "local" / local),
            str(fleet.folder / "state" / (state or local)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return dict(json.loads(output))


def test_of_many_restores_into_one_directory_one_works(fleet: Fleet) -> None:
    made = Tree(fleet.folder / "local/w")
    for name in ("ab", "cd", "ef", "gh"):
        made.model(name)
    fleet.cache("w", "m").sync()
    reports = [result(p) for p in [start(fleet, "restore", "v") for _ in range(6)]]
    assert sorted(report["files_written"] for report in reports) == [0] * 5 + [32]
    assert set(content(fleet.folder / "local/v")) == set(made.content())


def test_many_writers_lose_nothing(any_fleet: Fleet) -> None:
    fleet = any_fleet
    names = ["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op"]
    for seed, name in enumerate(names):
        Tree(fleet.folder / "local" / name, seed).model(name).model("zz")
    running = [start(fleet, "sync", name) for name in names]
    added = [result(process)["groups_added"] for process in running]
    assert all(count >= 5 for count in added)
    fleet.cache("v", "m").restore("all")
    there = content(fleet.folder / "local/v")
    for name in names:
        for path, data in content(fleet.folder / "local" / name).items():
            assert path in there
            if name[0] * 3 in path.replace(name, name[0]) and "__grp__" not in path:
                assert there[path] == data


def test_concurrent_compactions_and_syncs(any_fleet: Fleet) -> None:
    fleet = any_fleet
    for seed, name in enumerate(("ab", "cd", "ef", "gh")):
        Tree(fleet.folder / "local" / name, seed).model(name)
    result(start(fleet, "sync", "ab"))
    running = [
        start(fleet, "compact", "c1"),
        start(fleet, "sync", "cd"),
        start(fleet, "compact", "c2"),
        start(fleet, "sync", "ef"),
        start(fleet, "sync", "gh"),
    ]
    for process in running:
        result(process)
    report = fleet.cache("v", "m").restore("all")
    assert report.lost == 0
    assert len(content(fleet.folder / "local/v")) == 32


@pytest.mark.parametrize("verb", ["sync", "restore", "compact"])
def test_killed_at_random_moments(any_fleet: Fleet, verb: str) -> None:
    """Whatever was acknowledged stays; whatever was half done is invisible."""
    fleet = any_fleet
    random_moments = random.Random(verb)
    made = Tree(fleet.folder / "local/w")
    for name in ("ab", "cd", "ef"):
        made.model(name)
    fleet.cache("w", "m").sync()
    fleet.cache("whole", "m").restore("all")
    whole = {
        p: len(d) for p, d in content(fleet.folder / "local/whole").items() if "__grp__" not in p
    }
    killed = 0
    for attempt in range(12):
        extra = Tree(fleet.folder / "local" / f"x{attempt}", seed=attempt)
        extra.model(f"{'uvwxyzklmnop'[attempt]}q")
        local = "v" if verb == "restore" else f"x{attempt}"
        process = start(fleet, verb, local, f"s{attempt % 2}")
        time.sleep(random_moments.uniform(0.02, 0.25))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.communicate()
        for path, data in content(fleet.folder / "local/v").items():
            assert path not in whole or len(data) == whole[path], "a half-written file"
        check = fleet.cache(f"c{attempt}", "m")
        assert check.restore("all").lost == 0
        there = content(fleet.folder / "local" / f"c{attempt}")
        assert whole.keys() <= there.keys()
    assert killed > 0
    assert fleet.cache("w", "m").sync().attempts == 1
    assert result(start(fleet, "compact", "last"))["groups_lost"] == 0
    assert fleet.cache("end", "m").restore("all").lost == 0


def test_a_forked_child_can_go_on(fleet: Fleet) -> None:
    """torch's compile workers and many servers fork after the library was used."""
    Tree(fleet.folder / "local/w").model("ab")
    cache = fleet.cache("w", "m")
    cache.sync()
    child = os.fork()
    if child == 0:
        try:
            Tree(fleet.folder / "local/w", seed=1).model("cd")
            cache.sync()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(fleet.files("*.manifest")) == 2
