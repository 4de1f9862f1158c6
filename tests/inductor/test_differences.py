"""Differences of keys in words: kinds, order, and nothing that does not differ."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from casinductor.inductor.components import Component, graphs, pack, unpack
from casinductor.inductor.differences import ADVICE, by_name, differences, distance, likeness
from casinductor.inductor.guards import failed_guards

CODE = "def forward(self, x):\n    mm = torch.ops.aten.mm.default(x, x)\n    return (mm,)"


def tensor(shape: str = "3, 16", dtype: str = "float32", device: str = "type='cpu'") -> str:
    stride = shape.rpartition(", ")[2]
    return (
        f"TensorMetadata(dtype=torch.{dtype}, shape=torch.Size([{shape}]), stride=({stride}, 1), "
        f"device=device({device}), layout=torch.strided, storage_bytes={len(shape)})"
    )


BASE = {
    "gm": CODE,
    "example_inputs[0]": tensor(),
    "example_inputs[1]": tensor("16, 8"),
    "inductor_config[epilogue_fusion]": "True",
    "fx_kwargs[get_decomp_fn]": "<function at 0x7f01>",
    "system_info[device]": "{'name': 'NVIDIA H100'}",
    "torch_version": "build one",
    "cpp_runtime_thread_count": "1",
    "cache_key_tag": "",
}


def key() -> list[Component]:
    return _with({})


def _with(changes: dict[str, str | None]) -> list[Component]:
    values = {**BASE, **changes}
    return [Component(n, str(hash(v)), v) for n, v in values.items() if v is not None]


def test_equal_keys_have_no_differences() -> None:
    assert differences(key(), key()) == []
    assert distance(by_name(key()), by_name(key())) == 0


def test_digests_decide_and_not_texts() -> None:
    moved = [
        part._replace(value="<function at 0x9999>") if "decomp" in part.name else part
        for part in key()
    ]
    assert differences(key(), moved) == []


def test_each_kind_is_said_in_words() -> None:
    def only(name: str, value: str | None) -> tuple[str, str]:
        (found,) = differences(key(), _with({name: value}))
        assert found.advice == ADVICE[found.kind]
        return found.kind, found.text

    assert only("inductor_config[epilogue_fusion]", "False") == (
        "config",
        "inductor_config[epilogue_fusion]: True -> False",
    )
    assert only("example_inputs[0]", tensor("5, 16")) == (
        "shape",
        "example_inputs[0]: shape [3,16] -> [5,16]",
    )
    assert only("example_inputs[0]", tensor(dtype="bfloat16")) == (
        "dtype",
        "example_inputs[0]: dtype float32 -> bfloat16",
    )
    assert only("example_inputs[0]", tensor(device="type='cuda', index=1")) == (
        "device",
        "example_inputs[0]: device cpu -> cuda:1",
    )
    assert only("example_inputs[0]", tensor().replace("stride=(16", "stride=(32"))[0] == "layout"
    assert only("system_info[device]", "{'name': 'NVIDIA A100'}") == (
        "device",
        "system_info[device]: NVIDIA H100 -> NVIDIA A100",
    )
    assert only("torch_version", "build two")[0] == "torch"
    assert only("cpp_runtime_thread_count", "2") == ("threads", "cpp_runtime_thread_count: 1 -> 2")
    assert only("cache_key_tag", "canary") == ("key tag", "cache_key_tag: absent -> canary")
    assert only("inductor_config[epilogue_fusion]", None)[1].endswith("True -> absent")
    assert only("something_new[7]", "x")[0] == "other"


def test_a_device_index_is_another_cause_than_a_device() -> None:
    one = _with({"example_inputs[0]": tensor(device="type='cuda', index=0")})
    two = _with({"example_inputs[0]": tensor(device="type='cuda', index=1")})
    (found,) = differences(one, two)
    assert (found.kind, found.text) == (
        "device index",
        "example_inputs[0]: device cuda:0 -> cuda:1",
    )


def test_changed_code_comes_before_the_inputs_it_brings() -> None:
    code = CODE.replace("    return", "    relu = torch.ops.aten.relu.default(mm)\n    return")
    found = differences(key(), _with({"gm": code, "example_inputs[2]": tensor("8, 8")}))
    assert found[0].kind == "graph"
    assert "relu = torch.ops.aten.relu.default(mm)" in found[0].text


def test_shapes_come_before_the_code_they_change() -> None:
    before = _with({"gm": CODE + "\n    view = torch.ops.aten.view.default(mm, [3, 16])"})
    after = _with(
        {
            "gm": CODE + "\n    view = torch.ops.aten.view.default(mm, [5, 16])",
            "example_inputs[0]": tensor("5, 16"),
        }
    )
    assert [d.kind for d in differences(before, after)] == ["shape", "graph"]


def test_another_build_comes_before_all_it_changes() -> None:
    changes: dict[str, str | None] = {
        "torch_version": "two",
        "inductor_config[new]": "1",
        "gm": CODE + "\n  x = 1",
    }
    assert differences(key(), _with(changes))[0].kind == "torch"


def test_likeness_is_the_share_of_operators() -> None:
    other = _with({"gm": "torch.ops.aten.mm.default(a, b)\ntorch.ops.aten.sin.default(c)"})
    assert likeness(by_name(key()), by_name(other)) == 0.5
    assert distance(by_name(key()), by_name(other)) > 20


def test_guards_that_follow_from_others_did_not_fail() -> None:
    assert failed_guards("2 <= s0 and s0 <= 4096", "4097 <= s0") == ["s0 <= 4096"]
    assert failed_guards("s0 < 64", "64 <= s0") == ["s0 < 64"]
    assert failed_guards("s0 > 3", "4 <= s0") == []
    assert failed_guards("s0 >= 3 and Eq(s1, 2)", "5 <= s0 and Eq(s1, 2)") == []
    assert failed_guards("", "s0 < 3") == []


BOUND = st.tuples(st.sampled_from(["<", "<=", ">", ">="]), st.integers(-9, 9))


@given(BOUND, BOUND, st.integers(-12, 12))
def test_no_guard_is_passed_over_that_could_be_false(
    stored: tuple[str, int], wanted: tuple[str, int], value: int
) -> None:
    first, second = (f"s0 {sign} {number}" for sign, number in (stored, wanted))
    if eval(second, {"s0": value}) and not eval(first, {"s0": value}):
        assert failed_guards(first, second) == [first]


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_can_be_compared(one: str, two: str) -> None:
    names = ("gm", "example_inputs[0]", "system_info[version]", "x")
    left = [Component(name, "a", one) for name in names]
    right = [Component(name, "b", two) for name in names]
    assert differences(left, right)


def test_components_are_packed_and_split_by_graph() -> None:
    parts = key()
    assert unpack(pack(parts)) == parts
    assert unpack(b"rubbish") == unpack(None) == []
    assert graphs(parts + parts) == [parts, parts]
