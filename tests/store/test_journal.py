"""Warm-up records: published, read, passed over when bad, collected when old."""

from __future__ import annotations

from pathlib import Path

import pytest

from casinductor.errors import Damaged, InvalidName
from casinductor.store.format.names import CacheId, parse_warmup
from casinductor.store.maintain.collect import collect
from casinductor.store.opening import with_fresh_store
from casinductor.store.store import Store
from casinductor.store.write import journal
from tests.conftest import Fleet, Tree

CACHE = CacheId("H100", "model/v1")


@pytest.fixture
def store(fleet: Fleet) -> Store:
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    return with_fresh_store(fleet.settings("w"), lambda opened: opened)


def test_records_come_back_in_order(store: Store) -> None:
    names = [
        journal.note_warmup(store.backend, CACHE, {"version": 1, "number": n}) for n in range(3)
    ]
    found = journal.records(store, CACHE)
    assert [record.ulid for record in found] == names
    assert [record.fields["number"] for record in found] == [0, 1, 2]
    assert [record.ulid for record in journal.records(store, None, newest=1)] == names[2:]
    assert journal.records(store, CacheId("H100", "model")) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "swap", "empty"])
def test_bad_records_are_passed_over(store: Store, fleet: Fleet, damage: str) -> None:
    names = [journal.note_warmup(store.backend, CACHE, {"version": 1}) for _ in range(2)]
    first, second = (fleet.store / CACHE.warmup(name) for name in names)
    data = bytearray(first.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    bad = {"flip": bytes(data), "cut": bytes(data[:-4]), "swap": second.read_bytes(), "empty": b""}
    first.write_bytes(bad[damage])
    assert [record.ulid for record in journal.records(store, CACHE)] == names[1:]
    with pytest.raises(Damaged, match=names[0]):
        journal.read_record(store, CACHE, names[0])


def test_a_collection_leaves_the_newest(
    store: Store, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "KEPT", 3)
    names = [journal.note_warmup(store.backend, CACHE, {"version": 1}) for _ in range(5)]
    old = "0" * 10 + names[0][10:]
    Path(fleet.store / CACHE.warmup(old)).write_bytes(b"old")
    with_fresh_store(fleet.settings("gc"), lambda opened: collect(opened, apply=True, grace=0.0))
    assert journal.listed(store)[CACHE] == names[:1:-1]
    assert fleet.files("*.manifest"), "nothing else is collected"


def test_names() -> None:
    assert parse_warmup(CACHE.warmup("01" + "A" * 24)) == (CACHE, "01" + "A" * 24)
    for name in ("warmups/H100/x.warmup", "manifests/H100/k/" + "0" * 26 + ".warmup", ""):
        assert parse_warmup(name) is None
    for key in ("a.warmup", "x/y.warmup/z"):
        with pytest.raises(InvalidName, match=r"\.warmup"):
            CacheId("H100", key)
    with pytest.raises(InvalidName, match="folder"):
        CacheId("warmups", "k")
