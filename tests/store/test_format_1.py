"""A store that was written with format 1 and never changes: every later version must read it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from casinductor.cache import Cache
from casinductor.settings import Settings
from casinductor.store.format.names import CacheId
from casinductor.store.opening import with_fresh_store
from casinductor.store.verify.check import check
from casinductor.store.write.journal import records
from tests.samples import WORKER, digests

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "format-1"
EXPECTED: dict[str, dict[str, str]] = json.loads((SAMPLE / "expected.json").read_text())


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A copy of the sample, as restoring leaves marks of use."""
    shutil.copytree(SAMPLE / "store", tmp_path / "store")
    monkeypatch.setattr("casinductor.cache.worker_fingerprint", lambda: WORKER)
    return Settings(
        store=str(tmp_path / "store"),
        local_dir=tmp_path / "local",
        gpu_type="H100",
        state_dir=tmp_path / "state",
    )


@pytest.mark.parametrize("key", EXPECTED)
def test_everything_is_restored(settings: Settings, key: str) -> None:
    report = Cache(key, settings=settings).restore("all")
    assert (report.refused, report.lost, report.damage) == ({}, 0, [])
    assert digests(Path(settings.local_dir)) == EXPECTED[key]


def test_nothing_of_it_counts_as_damaged(settings: Settings) -> None:
    report = with_fresh_store(settings, lambda store: check(store, data=1.0))
    assert report.problems == []
    assert report.packs_read == report.packs > 0


def test_its_warmups_are_read(settings: Settings) -> None:
    noted = with_fresh_store(settings, lambda store: records(store, CacheId("H100", "model/v1")))
    assert noted
    assert all(record.fields["cache"] == "H100/model/v1" for record in noted)


def test_a_sync_adds_to_it(settings: Settings) -> None:
    local = Path(settings.local_dir) / "ab"
    local.mkdir(parents=True)
    (local / ("c" + "z" * 51 + ".py")).write_text("# of a later version")
    assert Cache("model/v1", settings=settings).sync().groups_added == 1
    restored = Cache("model/v1", settings=settings).restore("all")
    assert restored.lost == 0
