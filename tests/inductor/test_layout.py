"""Every path of a cache directory has one kind, one group and one fate."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casinductor.families.inductor import classify, complete, folder_place, is_private_top
from casinductor.families.place import Fate, Kind, is_junk
from casinductor.inductor.directory import walk
from tests.conftest import Tree

KEY = "f" + "a" * 51
STEM = "c" + "b" * 51


@pytest.mark.parametrize(
    ("path", "kind", "group", "needed"),
    [
        (f"fxgraph/aa/{KEY}/{'d' * 51}", Kind.FXGRAPH, None, True),
        (f"aotautograd/a{'b' * 51}/{'d' * 51}", Kind.AOTAUTOGRAD, None, True),
        (f"bb/{STEM}.main.so", Kind.CPP, f"bb/{STEM}.main", True),
        (f"bb/{STEM}.main.cpp", Kind.CPP, f"bb/{STEM}.main", False),
        (f"bb/{STEM}.so", Kind.CPP, f"bb/{STEM}", True),
        (f"bb/{STEM}.so.load_ok", Kind.CPP, f"bb/{STEM}", True),
        (f"cache/{'0a' * 32}", Kind.DECISIONS, None, True),
        (f"bb/{STEM}.py", Kind.MODULE, None, False),
        (f"bb/{'0' * 64}.best_config", Kind.TUNING, None, True),
        (f"triton/0/{'A' * 52}/k.cubin", Kind.TRITON, f"triton/0/{'A' * 52}", False),
        (f"triton/0/{'A' * 52}/__grp__k.json", Kind.TRITON, f"triton/0/{'A' * 52}", False),
    ],
)
def test_shared_kinds(path: str, kind: Kind, group: str | None, needed: bool) -> None:
    place = classify(path)
    assert (place.fate, place.kind, place.needed) == (Fate.SHARE, kind, needed)
    assert place.group == (group or path)


@pytest.mark.parametrize(
    "path",
    [
        "locks/x.lock",
        "cache/0123",
        "dynamo/code_state_job.pkl",
        f"bb/{STEM}.main.so.lock",
        ".1234.5678.tmp",
        f"fxgraph/aa/{KEY}/.12.34.tmp",
        f"bb/{STEM}_CxxBuild/x.o",
        "tmpabc/fxgraph/aa/x/y",
        "tmpdebug.py",
        f"triton/0/tmp.pid_1/{'A' * 52}/k.cubin",
        "bb/x.error",
        "run/tensor_0.pt",
        "gcc/bin/gcc",
    ],
)
def test_junk_is_never_shared(path: str) -> None:
    assert classify(path).fate is Fate.JUNK


@pytest.mark.parametrize("path", ["README", "newkind/aa/bb", "bb/x.cu", "memoizer_cache.json"])
def test_unknown_paths_are_not_shared(path: str) -> None:
    assert classify(path).fate is Fate.UNKNOWN


def test_what_aotinductor_compiles_is_no_cache() -> None:
    folder = "c" + "a2" * 25 + "b"
    assert classify(f"{folder}/{folder}.wrapper.cpp").fate is Fate.PRODUCT
    assert classify(f"{folder}/data.pt").fate is Fate.JUNK


def test_a_header_alone_is_complete() -> None:
    assert complete(Kind.CPP, {"2r/c2.h": 0o644})
    assert not complete(Kind.CPP, {"2r/c2.h": 0o644, "2r/c2.cpp": 0o644})


def test_a_library_still_being_linked_is_not_complete() -> None:
    assert not complete(Kind.CPP, {"c.main.so": 0o644, "c.main.cpp": 0o644})
    assert not complete(Kind.CPP, {"c.main.cpp": 0o644})
    assert complete(Kind.CPP, {"c.main.so": 0o755, "c.main.cpp": 0o644})
    assert complete(Kind.TRITON, {"k.cubin": 0o644})


parts = st.text("abcf0_.-AZ2~", min_size=1, max_size=8)


@given(st.lists(parts | st.sampled_from(["fxgraph", "triton", "0", "locks", "tmp"]), min_size=1))
def test_classification_is_total_and_groups_are_prefixes(names: list[str]) -> None:
    path = "/".join(names)
    place = classify(path)
    if place.fate is Fate.SHARE:
        assert place.kind is not None
        assert path.startswith(place.group)
        assert not any(map(is_junk, names))
        assert not is_private_top(names[0])
        inherited = folder_place(path.rpartition("/")[0] + "/")
        assert inherited in (None, place)


def test_a_walk_reports_what_it_passed_over(tmp_path: Path) -> None:
    tree = Tree(tmp_path).model("ab")
    tree.write("locks/x.lock", b"")
    tree.write("newkind/thing", b"x")
    tree.write(f"bb/{STEM}.py", b"")
    (tmp_path / "bb" / f"{STEM}2.py").symlink_to("/etc/passwd")
    tree.write("newkind/mark", b"")
    tree.write("bb/x.so.load_ok", b"")
    found = walk(str(tmp_path))
    assert found.unknown == ["newkind/mark", "newkind/thing"], "empty or not"
    assert found.junk == 2, "an empty file and a link"
    assert set(found.files) == {
        path for path in tree.content() if classify(path).fate is Fate.SHARE
    } - {f"bb/{STEM}.py", f"bb/{STEM}2.py"}
