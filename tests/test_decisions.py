"""What torch 2.5 and 2.6 decided by timing is part of their keys, so workers share it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.inductor.fingerprint import worker_fingerprint
from tests.conftest import Fleet

NAME = "cache/" + "0a" * 32


def decide(root: Path, **padded: bool) -> None:
    path = root / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(".aside")
    aside.write_text(json.dumps({"system": {}, "cache": {"pad_mm": padded}}))
    aside.rename(path)


def decided(root: Path) -> dict[str, bool]:
    found: dict[str, bool] = json.loads((root / NAME).read_text())["cache"]["pad_mm"]
    return found


def worker(fleet: Fleet, name: str, torch: str) -> Cache:
    fingerprint = replace(worker_fingerprint(), torch=f"{torch} (0123456789ab)")
    return Cache("model/v1", settings=fleet.settings(name), worker=fingerprint)


@pytest.mark.parametrize("torch", ["2.5.0+cu124", "2.6.0+cu124"])
def test_the_next_worker_decides_as_the_first(fleet: Fleet, torch: str) -> None:
    first = worker(fleet, "one", torch)
    decide(fleet.folder / "local/one", small=True)
    assert first.sync().groups_added == 1
    second = worker(fleet, "two", torch)
    second.restore()
    root = fleet.folder / "local/two"
    assert decided(root) == {"small": True}
    time.sleep(0.02)  # file times step with the kernel's tick
    decide(root, small=True, large=False)
    assert second.sync().groups_added == 1
    worker(fleet, "three", torch).restore()
    assert decided(fleet.folder / "local/three") == {"small": True, "large": False}


def test_a_worker_that_has_decided_keeps_its_own(fleet: Fleet) -> None:
    decide(fleet.folder / "local/one", small=True)
    worker(fleet, "one", "2.6.0").sync()
    decide(fleet.folder / "local/two", small=False)
    second = worker(fleet, "two", "2.6.0")
    second.restore()
    assert decided(fleet.folder / "local/two") == {"small": False}
    assert second.sync().groups_added == 0


def test_later_versions_share_none(fleet: Fleet) -> None:
    decide(fleet.folder / "local/one", small=True)
    report = worker(fleet, "one", "2.7.0").sync()
    assert (report.groups_added, report.junk) == (0, 1)
