"""Hostile entries and records: shown as opaque with a reason, and never executed."""

from __future__ import annotations

import json
import os
import pickle
import zlib
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casinductor.errors import InvalidName
from casinductor.inductor.components import components, pack, unpack
from casinductor.inductor.description import describe
from casinductor.reports.warmup import Happened, WarmupReport, from_record
from casinductor.store.format.names import CacheId
from tests.conftest import Fleet, Tree, entry_bytes
from tests.inspect.conftest import Command, note, warmup

KEY = "f" + "k" * 51


class Mark:
    """Unpickling this leaves a mark."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def nested(depth: int) -> bytes:
    return b"\x80\x04" + b"(" * depth + b"t" * depth + b"."


def hostile(mark: Path) -> dict[str, bytes]:
    whole = entry_bytes(KEY, guards="s0 < 4", payload=b"x" * 3000)
    return {
        "executes": pickle.dumps(Mark(mark), protocol=4),
        "executes inside": pickle.dumps({"guards_expr": Mark(mark), "x": whole}, protocol=5),
        "truncated": whole[: len(whole) // 2],
        "nested": nested(200_000),
        "huge count": b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b"abc.",
        "huge frame": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
        "old protocol": pickle.dumps({"a": 1}, protocol=0),
        "not a pickle": b"\x7fELF" + bytes(500),
        "two guards": entry_bytes(KEY)[:-1] + entry_bytes(KEY)[2:],
    }


@pytest.mark.parametrize("name", sorted(hostile(Path("/x"))))
def test_no_command_executes_an_entry(
    fleet: Fleet, run: Command, tmp_path: Path, name: str
) -> None:
    mark = tmp_path / "mark"
    tree = Tree(fleet.folder / "local/w")
    tree.write(f"fxgraph/kk/{KEY}/{'e' * 51}", hostile(mark)[name])
    tree.write(f"aotautograd/a{'k' * 51}/{'e' * 51}", hostile(mark)[name])
    tree.kernel("ab")
    fleet.cache("w").sync()
    rows = run("inspect", "model/v1")
    assert len(rows) == 2
    assert all(row["opaque"] and row["guards"] is None for row in rows), rows
    run("inspect", "model/v1", raw=True)
    run("kernels", "model/v1")
    run("diff", "model/v1", "model/v1")
    run("explain", fleet.folder / "local/w", "model/v1")
    report = warmup("H100/model/v1", happened=[Happened("fxgraph", "miss", KEY)])
    note(fleet, CacheId("H100", "model/v1"), report)
    assert run("explain", "model/v1")["causes"]
    run("catalog", "-o", tmp_path / "c.db")
    run("report", "model/v1", "-o", tmp_path / "r.html")
    with suppress(InvalidName):  # most have nothing to show
        run("show", KEY, raw=True)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Mark(mark), protocol=4))
    assert mark.exists(), "the payload would have left its mark"


def test_names_cannot_steer_a_terminal_or_a_page(
    fleet: Fleet, run: Command, tmp_path: Path
) -> None:
    tree = Tree(fleet.folder / "local/w")
    evil = "\x1b]0;owned\x07<script>alert(1)</script>"
    tree.graph("ab", guards=evil, components={"gm": evil, "x": "</script><img src=x>"})
    told = {"name": evil, "target": {"backend": evil}, "num_warps": 4}
    folder = f"triton/0/{'AB' * 26}"
    tree.write(f"{folder}/k.json", json.dumps(told).encode())
    fleet.cache("w").sync()
    report = warmup("H100/model/v1", worker={"host": evil, "fingerprint": {}})
    note(fleet, CacheId("H100", "model/v1"), report)
    for command in ("inspect", "kernels", "explain"):
        assert "\x1b" not in run(command, "model/v1", raw=True).stdout
    run("report", "model/v1", "-o", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "<script>alert" not in text
    assert "<img src=x" not in text


def test_a_packed_bomb_does_not_open() -> None:
    bomb = zlib.compress(bytes(200 << 20), 9)
    assert unpack(bomb) == []
    assert unpack(zlib.compress(msgspec.msgpack.encode([["a", 5, "c"]]))) == []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 400))
def test_any_bytes_are_described(data: bytes, at: int) -> None:
    whole = entry_bytes(KEY, guards="s0 < 4", components={"gm": "x"}, bundled=("A" * 52,))
    for mangled in (data, whole[:at] + data + whole[at:], whole[:at] + data):
        found = describe("fxgraph", KEY, mangled)
        assert found.entry.guards is not None or found.entry.reason
        pack(found.components)


@given(
    st.dictionaries(
        st.sampled_from([*WarmupReport.__struct_fields__, "version", "more"]),
        st.none()
        | st.integers()
        | st.text(max_size=5)
        | st.binary(max_size=9)
        | st.lists(st.none()),
    )
)
def test_any_record_is_read_or_refused(fields: dict[str, object]) -> None:
    found = from_record({"version": 1, "cache": "c", **fields})
    assert found is None or isinstance(found.summary(), str)


def test_components_of_hostile_entries_do_not_raise() -> None:
    whole = entry_bytes(KEY, components={f"name {n}": "v" * n for n in range(300)})
    assert len(components(whole)) == 300
    with pytest.raises(ValueError, match="ends early"):
        components(whole[:-5])
