"""Warm-ups as rows, their sums over windows of time, and what each cache brought and takes."""

from __future__ import annotations

import time

import pytest

from casinductor.inspect import runs
from casinductor.inspect.accounts import accounts
from casinductor.inspect.facts import Facts
from casinductor.inspect.runs import RunLine, run_lines, tallies
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import ulid_ms
from casinductor.store.opening import with_store
from tests.conftest import Fleet, Tree
from tests.inspect.conftest import Command, note, warmup

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
V1 = CacheId("H100", "model/v1")


def line(days_ago: float, **fields: object) -> RunLine:
    """A warm-up so many days ago."""
    moment = int((time.time() - days_ago * 86_400) * 1000)
    run = "".join(_DIGITS[moment >> shift & 31] for shift in range(45, -1, -5)) + "0" * 16
    assert ulid_ms(run) == moment
    known = {"hits": 3, "misses": 1, "bypasses": 0, "saved_seconds": 2.0, "spent_seconds": 1.0}
    known |= {"kernels_built": 0, "rebuilt": 0, "refused": 0, "lost": 0}
    given = {"run": run, "cache": "H100/m", "host": "w", "started_ms": moment, **known, **fields}
    return RunLine(**given)  # type: ignore[arg-type]


def test_windows_hold_what_is_young_enough() -> None:
    week, month, whole = tallies([line(1), line(6.9), line(8), line(29), line(31), line(80)])
    assert [tally.warmups for tally in (week, month, whole)] == [2, 4, 6]
    assert (week.hits, week.misses, week.hit_rate) == (6, 2, 0.75)
    assert whole.saved_seconds == 12
    assert tallies([])[0].hit_rate is None


def test_rows_are_the_records(store: Fleet, run: Command) -> None:
    first = note(store, V1, warmup("H100/model/v1"))
    second = note(store, V1, warmup("H100/model/v1", saved_seconds=7.5))
    rows = run("runs", "model/v1")
    assert [row["run"] for row in rows] == [second, first]
    assert (rows[0]["hits"], rows[0]["misses"], rows[0]["saved_seconds"]) == (1, 1, 7.5)
    assert rows[0]["host"] == "worker-1"
    (row,) = run("runs", "--filter", "saved_seconds>5")
    assert row["run"] == second
    assert run("explain", "model/v1", "--run", first)["record"] == first
    assert run("stats", "model/v1")["warmups"][0]["warmups"] == 2


def test_only_the_newest_are_read(store: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [note(store, V1, warmup("H100/model/v1")) for _ in range(5)]
    monkeypatch.setattr(runs, "MOST", 2)
    facts = Facts(None)
    found = with_store(store.settings("w"), lambda opened: run_lines(opened, facts))
    assert [one.run for one in found] == names[:2:-1]
    facts.close()


def test_records_are_read_once(store: Fleet) -> None:
    facts = Facts(None)

    def read(opened: object) -> int:
        return len(run_lines(opened, facts))  # type: ignore[arg-type]

    for _ in range(3):
        note(store, V1, warmup("H100/model/v1"))
    assert with_store(store.settings("w"), read) == 3
    for path in store.files("*.warmup"):
        path.write_bytes(b"rotten")
    assert with_store(store.settings("w"), read) == 3
    facts.close()


def test_shared_bytes_are_nobodys_own(fleet: Fleet) -> None:
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w", "one").sync()
    fleet.cache("w", "two").sync()
    found = with_store(
        fleet.settings("x"),
        lambda store: (store.refresh().log(), accounts(store, [], None))[1],
    )
    assert {account.cache for account in found} == {"H100/one", "H100/two"}
    (pack,) = fleet.files("*.pack")
    assert {account.shared_bytes for account in found} == {pack.stat().st_size}
    manifests = sum(path.stat().st_size for path in fleet.files("*.manifest"))
    assert sum(account.own_bytes for account in found) == manifests
