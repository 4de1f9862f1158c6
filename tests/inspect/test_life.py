"""The life of a store through the command line: filled, looked at, kept, emptied."""

from __future__ import annotations

import pytest

from casinductor.errors import CacheNotFound
from tests.conftest import Fleet, content
from tests.inspect.conftest import Command


def test_every_command_of_upkeep(store: Fleet, run: Command) -> None:
    (row,) = run("ls")
    assert (row["gpu"], row["key"], row["manifests"]) == ("H100", "model/v1", 2)
    groups = run("ls", "model/v1")
    assert {group["kind"] for group in groups} >= {"fxgraph", "triton"}
    assert run("check", "--data", "all")["problems"] == []
    assert run("compact", "model/v1")["manifests_replaced"] == 2
    assert run("repair")["groups_rebuilt"] == 0
    target = store.folder / "pulled"
    pulled = run("pull", "model/v1", "--to", target, "--restore", "all")
    assert pulled["files_written"] == len(content(target)) > 0
    run("rm", "model/v1")
    assert run("ls") == []
    run("undelete", "model/v1")
    assert len(run("ls")) == 1
    run("rm", "model/v1")
    assert run("gc")["applied"] is False
    assert run("gc", "--apply", "--spare", "0s")["packs"]
    assert run("stats")["artifacts"] == 0
    with pytest.raises(CacheNotFound):
        run("pull", "model/v1", "--to", target)


def test_figures_are_shown_to_people_too(store: Fleet, run: Command) -> None:
    for command in (["ls"], ["ls", "model/v1"], ["gc"], ["check"], ["stats"]):
        assert run(*command, raw=True).stdout.strip()
