"""Group files of Triton travel without their directory."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from casinductor.families.group_files import (
    PLACEHOLDER,
    is_group_file,
    localize,
    missing_children,
    portable,
)

PATH = "triton/0/ABCD/__grp__k.json"


def group(root: str, *names: str) -> bytes:
    return json.dumps({"child_paths": {n: f"{root}/triton/0/ABCD/{n}" for n in names}}).encode()


def test_which_files_hold_paths() -> None:
    assert is_group_file(PATH)
    assert not is_group_file("triton/0/ABCD/k.json")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_there_and_back_is_byte_for_byte_the_same(folder: str) -> None:
    data = group("/" + folder, "k.cubin", "k.json")
    stored = portable(PATH, data)
    assert PLACEHOLDER.encode() in stored
    assert localize(PATH, stored, "/" + folder) == data
    moved = json.loads(localize(PATH, stored, "/elsewhere"))
    assert moved["child_paths"]["k.json"] == "/elsewhere/triton/0/ABCD/k.json"


def test_what_is_no_group_file_stays() -> None:
    for data in (b"", b"[1]", b"{", b'{"child_paths": 3}', b'{"child_paths": {"a": "/x/a"}}'):
        assert portable(PATH, data) == data
    mixed = {"child_paths": {"a": "/x/triton/0/ABCD/a", "b": "/y/triton/0/ABCD/b"}}
    data = json.dumps(mixed).encode()
    assert portable(PATH, data) == data


def test_children_that_are_not_there() -> None:
    data = group("/x", "k.cubin", "k.json")
    assert missing_children(data, {"k.json", "__grp__k.json"}) == ["k.cubin"]


def test_two_producers_store_the_same_bytes() -> None:
    assert portable(PATH, group("/one", "k")) == portable(PATH, group("/other/place", "k"))


def test_the_corpus(corpus: Path) -> None:
    for path in list(corpus.glob("*/triton/0/*/__grp__*.json"))[:50]:
        relative = "/".join(path.relative_to(corpus).parts[1:])
        data = path.read_bytes()
        stored = portable(relative, data)
        assert stored != data
        names = {child.name for child in path.parent.iterdir()}
        assert not missing_children(data, names)
        for child in json.loads(localize(relative, stored, "/new"))["child_paths"].values():
            assert child.startswith("/new/triton/0/")
