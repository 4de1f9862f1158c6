"""ninja's memory made portable and local: real builds, and bytes of any kind."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casinductor.families import forms, ninja_files
from tests.needs import need

BUILD = """\
cxx = {cxx}
rule compile
  command = $cxx -MMD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule link
  command = $cxx -shared $in -o $out
build a.o: compile {source}
build a.so: link a.o
default a.so
"""


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A directory that ninja built from a source and a header outside it."""
    need("ninja", "g++")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.h").write_text("#define N 1\n")
    (tmp_path / "src/a.cpp").write_text('#include "a.h"\nint f() { return N; }\n')
    folder = tmp_path / "out"
    folder.mkdir()
    text = BUILD.format(cxx=shutil.which("g++"), source=tmp_path / "src/a.cpp")
    (folder / "build.ninja").write_text(text)
    assert ninja(folder) == 2
    return folder


def ninja(folder: Path) -> int:
    """Build; how many commands ran."""
    done = subprocess.run(
        ["ninja", "-C", str(folder), "-v"], capture_output=True, text=True, check=True
    )
    return sum(line.startswith("[") for line in done.stdout.splitlines())


def carry(folder: Path, moment: int) -> None:
    """Replace the directory by what a restore makes of its portable forms, at one moment."""
    stored = {}
    for path in folder.iterdir():
        name = f"torch_extensions!x/{path.name.replace('.ninja', '%2Eninja')}"
        stored[path.name] = (forms.portable(name, path.read_bytes()), path.stat().st_mode, name)
    shutil.rmtree(folder)
    folder.mkdir()
    for name, (data, mode, artifact) in stored.items():
        path = folder / name
        path.write_bytes(forms.localize(artifact, data, "/any", moment))
        path.chmod(mode & 0o777)
        os.utime(path, ns=(moment, moment))


def test_a_carried_directory_is_up_to_date(built: Path) -> None:
    carry(built, time.time_ns())
    assert ninja(built) == 0


def test_a_plain_copy_is_built_again(built: Path) -> None:
    copy = built.with_name("copy")
    shutil.copytree(built, copy, copy_function=shutil.copyfile)
    shutil.rmtree(built)
    copy.rename(built)
    assert ninja(built) > 0, "else there would be nothing to do for us"


def test_a_header_that_changes_afterwards_is_noticed(built: Path) -> None:
    carry(built, time.time_ns() - 10**9)
    (built.parent / "src/a.h").write_text("#define N 2\n")
    assert ninja(built) == 2


def test_equal_builds_have_equal_portable_forms(built: Path) -> None:
    name = "torch_extensions!x/%2Eninja_log"
    one = forms.portable(name, (built / ".ninja_log").read_bytes())
    (built / "a.o").unlink()
    assert ninja(built) == 2
    log = (built / ".ninja_log").read_bytes()
    assert len(log) > len(one), "ninja appends"
    assert forms.portable(name, log) == one
    assert ninja_files.outputs(log) == ["a.o", "a.so"]


def test_inputs_are_read_from_what_ninja_recorded(built: Path) -> None:
    found = ninja_files.inputs((built / ".ninja_deps").read_bytes())
    assert str(built.parent / "src/a.h") in found
    assert str(built.parent / "src/a.cpp") in found


HEADS = st.sampled_from(
    [b"", b"# ninja log v5\n", b"# ninja log v7\n", b"# ninjadeps\n\x04\0\0\0", b"# ninjadeps\n"]
)


@given(HEADS, st.binary(max_size=200), st.integers(0, 2**62))
def test_any_bytes_come_back(head: bytes, data: bytes, moment: int) -> None:
    for name in ("x!d/%2Eninja_log", "x!d/%2Eninja_deps"):
        stored = forms.portable(name, head + data)
        local = forms.localize(name, stored, "/r", moment)
        assert forms.portable(name, local) == stored
        ninja_files.outputs(local)
        ninja_files.inputs(local)
