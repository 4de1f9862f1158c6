"""Entries are read as data: what they say, how they are cut, and that nothing is executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casinductor.inductor.components import components
from casinductor.inductor.entries import CUT_BYTES, read_entry, scan
from tests.conftest import FxEntry, entry_bytes

KEY = "f" + "k" * 51


def test_an_fxgraph_entry() -> None:
    hashes = ("A" * 52, "B" * 52)
    data = entry_bytes(KEY, guards="s0 < 64", payload=b"x" * 5000, bundled=hashes)
    entry = read_entry("fxgraph", KEY, data)
    assert entry.guards == "s0 < 64"
    assert entry.reason == ""
    assert entry.compile_ns == 5_000_000_000
    assert entry.bundled == set(hashes)
    assert not entry.compiles_cpp
    first, last = entry.cuts[0], entry.cuts[1]
    assert data[first:last] == b"x" * 5000


def test_triton_3_2_names_kernels_in_base64url() -> None:
    hashes = ("Ee07hc-19uwefArpjccdXf3h4Acu_1mBlu3slqRSEJ4", "A" * 52)
    data = entry_bytes(KEY, bundled=hashes)
    assert read_entry("fxgraph", KEY, data).bundled == set(hashes)


def test_no_guards_differ_from_unknown_guards() -> None:
    assert read_entry("fxgraph", KEY, entry_bytes(KEY)).guards == ""
    opaque = read_entry("fxgraph", KEY, pickle.dumps({"a": 1}, protocol=4))
    assert opaque.guards is None
    assert opaque.reason


@pytest.mark.parametrize("value", [0, 1, 255, 256, 65536, 2**31, 2**40, 2**70])
def test_compile_times_of_every_width(value: int) -> None:
    assert read_entry("fxgraph", KEY, entry_bytes(KEY, time_ns=value)).compile_ns == value


def test_source_that_compiles_cpp_is_noticed() -> None:
    data = entry_bytes(KEY, source="kernel = async_compile.cpp_pybinding(['float*'], '''")
    assert read_entry("fxgraph", KEY, data).compiles_cpp


def test_guards_recalled_from_the_memo() -> None:
    text = "s0 <= 4096 and s1 > 2"
    data = pickle.dumps(FxEntry(fx_graph_guard_expr=text, other=["x"], guards_expr=text), 4)
    assert read_entry("aotautograd", "a", data).guards == text


def test_an_aotautograd_entry_names_its_graphs() -> None:
    keys = ["f" + "a" * 51, "f" + "b" * 51]
    data = pickle.dumps(FxEntry(fx_graph_cache_info=(keys[0], ["x"]), bw=keys[1], guards_expr=None))
    assert read_entry("aotautograd", "a", data).fx_keys == keys


def test_a_bundle_of_graphs_is_opaque() -> None:
    data = pickle.dumps(FxEntry(kind="CompiledFxGraph", guards_expr=None), 4)
    assert read_entry("aotautograd", "a", data).guards is None


def test_components_of_the_key() -> None:
    lines = [f"[{'a' * 51}] gm: GraphModule()", f"[{'b' * 51}] inductor_config[freezing]: False"]
    data = pickle.dumps(FxEntry(_fx_graph_cache_debug_lines=lines, note="[not] one: x"), 4)
    assert [(c.name, c.value) for c in components(data)] == [
        ("gm", "GraphModule()"),
        ("inductor_config[freezing]", "False"),
    ]


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    data = pickle.dumps([Hostile(mark), FxEntry(guards_expr="x")], 4)
    assert read_entry("fxgraph", KEY, data).guards == "x"
    assert not mark.exists()
    pickle.loads(data)
    assert mark.exists(), "the payload would have left a mark"


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=9), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(json_like, st.sampled_from([4, 5]))
def test_scan_agrees_with_pickletools(value: object, protocol: int) -> None:
    import pickletools

    data = pickle.dumps(value, protocol=protocol)
    wanted = [
        (argument.encode("utf-8", "surrogatepass") if isinstance(argument, str) else argument)
        for opcode, argument, _ in pickletools.genops(data)
        if opcode.name in ("SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES")
    ]
    found = [data[start:end] for opcode, start, end in scan(data) if opcode not in (0x8A, 0x8B)]
    assert found == wanted


@given(st.binary(max_size=300))
def test_any_bytes_are_an_entry_or_opaque(data: bytes) -> None:
    for candidate in (data, b"\x80\x04" + data, entry_bytes(KEY)[:-20] + data):
        entry = read_entry("fxgraph", KEY, candidate)
        assert entry.guards is not None or entry.reason


@given(st.integers(0, 2000), st.integers(0, 255))
@settings(max_examples=200)
def test_a_changed_byte_never_breaks_the_reader(position: int, value: int) -> None:
    data = bytearray(entry_bytes(KEY, guards="s0 < 64", payload=b"p" * (CUT_BYTES + 1)))
    data[position % len(data)] = value
    entry = read_entry("fxgraph", KEY, bytes(data))
    assert all(0 <= cut <= len(data) for cut in entry.cuts)


def test_truncations_are_opaque() -> None:
    data = entry_bytes(KEY, payload=b"p" * 2000)
    for length in range(0, len(data), 37):
        assert read_entry("fxgraph", KEY, data[:length]).guards is None


def test_a_length_that_announces_the_world_costs_nothing() -> None:
    data = b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b"x"
    assert read_entry("fxgraph", KEY, data).guards is None


def test_the_corpus_is_read_whole(corpus: Path) -> None:
    paths = [*corpus.glob("*/fxgraph/*/*/*"), *corpus.glob("*/aotautograd/*/*")]
    assert len(paths) == 15
    for path in paths:
        kind = path.relative_to(corpus).parts[1]
        entry = read_entry(kind, path.parent.name, path.read_bytes())
        assert entry.guards == "", path
        assert entry.device == "NVIDIA H100 80GB HBM3"
        assert entry.compile_ns
        assert entry.compile_ns > 1e9
        if kind == "fxgraph":
            tree = corpus / path.relative_to(corpus).parts[0]
            there = {folder.name for folder in (tree / "triton" / "0").iterdir()}
            assert entry.bundled
            assert entry.bundled <= there
            names = {c.name: c.value for c in components(path.read_bytes())}
            assert len(names) > 500
            assert "torch_version" in names
        else:
            assert entry.fx_keys
