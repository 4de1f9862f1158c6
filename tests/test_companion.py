"""What is shared beside a process: before it, while it runs, and what is told of it."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.companion import companion as module
from casinductor.companion.companion import Companion
from casinductor.companion.live import Live
from casinductor.inductor.fingerprint import worker_fingerprint
from casinductor.reports.transfer import SyncReport
from tests.conftest import Fleet, Tree, until


@dataclass
class Told:
    """The events, in order."""

    events: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, event: str, sentence: str, fields: dict[str, Any]) -> None:
        self.events.append((event, sentence))

    def count(self, event: str) -> int:
        return sum(name == event for name, _ in self.events)


@pytest.fixture(autouse=True)
def at_rest_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REST_SECONDS", 0.1)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(module, "_SHARE", 1.0)


def cache(fleet: Fleet, name: str, torch: str = "2.13.0 (0123456789ab)", **more: Any) -> Cache:
    settings = replace(fleet.settings(name), **more)
    return Cache("model/v1", settings=settings, worker=replace(worker_fingerprint(), torch=torch))


def test_what_comes_is_published_before_the_end(fleet: Fleet) -> None:
    told = Told()
    companion = Companion(cache(fleet, "one"), 30.0, told)
    assert companion.prepare()
    tree = Tree(fleet.folder / "local/one")
    tree.model("ab")  # between the restore and the start of the process
    companion.start()
    until(lambda: told.count("published") == 1)
    tree.model("cd")
    until(lambda: told.count("published") == 2)
    warmup = companion.finish()
    assert warmup is not None
    assert warmup.new_entries == 2, "the whole run, not what came since the last publication"
    assert warmup.compiled
    assert [event for event, _ in told.events][-2:] == ["published", "finished"]
    second = Companion(cache(fleet, "two"), 30.0, Told())
    assert second.prepare()
    assert second.state
    assert not (second.finish() or warmup).new_entries


def test_what_keeps_coming_is_published_every_so_often(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REST_SECONDS", 1e6)  # it never rests
    told = Told()
    companion = Companion(cache(fleet, "one"), 0.2, told)
    assert companion.prepare()
    companion.start()
    Tree(fleet.folder / "local/one").model("ab")
    until(lambda: told.count("published") == 1)
    companion.stop()


def test_faults_are_told_and_end_nothing(fleet: Fleet) -> None:
    told = Told()
    companion = Companion(cache(fleet, "one", store="/no/such/place/store"), 30.0, told)
    assert companion.prepare()
    companion.start()
    Tree(fleet.folder / "local/one").model("ab")
    until(lambda: told.count("failed") >= 1)
    companion.finish()
    assert told.count("failed") >= 2
    assert not any(event == "published" for event, _ in told.events)


def test_a_directory_or_python_that_cannot_share_is_named(fleet: Fleet) -> None:
    told = Told()
    assert not Companion(cache(fleet, "one", torch="none"), 30.0, told).prepare()
    os.makedirs(fleet.folder / "local", exist_ok=True)
    (fleet.folder / "local/two").write_text("")
    assert not Companion(cache(fleet, "two"), 30.0, told).prepare()
    assert "there is no torch" in told.events[0][1]
    assert "cannot share" in told.events[1][1]


def test_one_cache_at_a_time_is_shared_live(fleet: Fleet) -> None:
    def threads() -> int:
        return sum(thread.name == "casinductor-live" for thread in threading.enumerate())

    live = Live()
    off, first, second = (cache(fleet, name, live=s) for name, s in (("a", 0), ("b", 9), ("c", 9)))
    for one in (off, first, second):
        one.restore()
    live.begin(off, 0.0)
    assert threads() == 0
    live.begin(first, 9.0)
    live.begin(second, 9.0)
    assert threads() == 1
    Tree(fleet.folder / "local/c").model("ab")
    until(lambda: bool(fleet.files("manifests/**/*")))
    live.end()
    assert threads() == 0


def test_publishing_keeps_to_its_share(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one that took long, the next one waits twenty times as long, or the interval."""
    companion = Companion(cache(fleet, "one"), 30.0, Told())
    published: list[float] = []
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def publish() -> Any:
        published.append(clock[0])
        clock[0] += 0.5  # what it takes
        return SyncReport("H100/model/v1")

    monkeypatch.setattr(companion.cache, "publish", publish)
    for number in range(300):
        companion._publish_if_due(module.Look(number, 0, number, 0))
        clock[0] += 0.1
    gaps = [b - a for a, b in pairwise(published)]
    assert len(published) > 2
    assert min(gaps) >= 0.5 / 0.05
    assert max(gaps) < 11
