"""Tables as they come out on a real terminal of some width, and in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from casinductor.cli.table import Column, _cut, _layout, number
from tests.conftest import Fleet

KERNEL = "triton_per_fused__to_copy__unsafe_view_add_embedding_mean_mul_pow_rsqrt_10"


def on_terminal(columns: int, fleet: Fleet, *words: str) -> list[str]:
    """The lines that a command prints on a terminal of this width, without colours."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ["CASINDUCTOR_STATE_DIR"] = str(fleet.folder / "state/cli")
        os.environ.pop("COLUMNS", None)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        command = ["--store", str(fleet.store), "--gpu", "H100", *words]
        os.execv(sys.executable, [sys.executable, "-m", "casinductor", *command])
    said = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # how Linux says that the other end is closed
            break
        said += part
    os.close(terminal)
    assert os.waitpid(child, 0)[1] == 0, said
    return re.sub(r"\x1b\[[0-9;]*m", "", said.decode()).splitlines()


@pytest.fixture
def store(fleet: Fleet, corpus: Path) -> Fleet:
    from casinductor.cache import Cache

    settings = fleet.settings("w")
    from dataclasses import replace

    for tree in ("llama8-v1", "llama8-v2"):
        chosen = replace(settings, local_dir=corpus / f"cuda-{tree}")
        Cache(f"a-rather-long-name/of-a-cache/{tree}", settings=chosen).sync()
    return fleet


LONG = "a-rather-long-name/of-a-cache/llama8-v1"


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize(
    "words",
    [
        ("ls",),
        ("ls", LONG),
        ("kernels", LONG),
        ("inspect", LONG),
        ("stats",),
        ("runs",),
        ("diff", LONG, LONG.replace("v1", "v2")),
        ("trust",),
    ],
    ids=lambda words: words[0] + str(len(words)),
)
def test_every_table_fits_the_terminal(store: Fleet, words: tuple[str, ...], columns: int) -> None:
    lines = on_terminal(columns, store, *words)
    for line in lines:
        widest = max(map(len, line.split()), default=0)
        assert len(line) <= max(columns, widest), line
    whole = on_terminal(columns, store, "--wide", *words)
    assert len(whole) <= len(lines) or words[0] == "stats"


def test_a_narrow_terminal_says_what_is_missing(store: Fleet) -> None:
    lines = on_terminal(80, store, "kernels", LONG, "--limit", "3")
    assert lines[0] == f"H100/{LONG}: 3 of 23 kernels"
    told = " ".join(lines[5:])
    assert told.startswith("(cut: name; left out: ")
    assert "graphs" in told
    assert told.endswith("--wide shows all)")
    assert KERNEL not in "\n".join(lines)
    whole = on_terminal(80, store, "-w", "kernels", LONG, "--limit", "3")
    assert KERNEL in whole[2]
    assert "left out" not in "".join(whole)


def test_where_nothing_fits_each_row_is_a_block(store: Fleet) -> None:
    lines = on_terminal(30, store, "ls")
    assert f"H100/{LONG}" in lines
    assert any(line.split() == ["groups", "49"] for line in lines)


def test_a_pipe_gets_tabs_and_whole_values(store: Fleet, capfd: pytest.CaptureFixture[str]) -> None:

    command = ["--store", str(store.store), "--gpu", "H100", "kernels", LONG]
    said = subprocess.run(
        [sys.executable, "-m", "casinductor", *command],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "CASINDUCTOR_STATE_DIR": str(store.folder / "state/cli")},
    ).stdout.splitlines()
    heading = said[0].split("\t")
    assert heading[:2] == ["name", "hash"]
    rows = [dict(zip(heading, line.split("\t"), strict=True)) for line in said[1:]]
    assert len(rows) == 23
    (row,) = [row for row in rows if row["name"] == KERNEL]
    assert len(row["hash"]) == 52
    assert int(row["bytes"]) > 1000


def test_the_important_columns_stay() -> None:
    columns = [Column("a"), Column("b", rank=2), number("c", 1), Column("d", rank=1, cut="end")]
    natural = [10, 10, 10, 100]
    assert _layout(columns, natural, 200) == {0: 10, 1: 10, 2: 10, 3: 100}
    assert _layout(columns, natural, 60) == {0: 10, 2: 10, 3: 36}
    assert _layout(columns, natural, 30) == {0: 10, 2: 10}
    assert _layout(columns, natural, 8) == {}


def test_long_texts_are_cut_where_it_hurts_least() -> None:
    assert _cut("abcdefghij", 10, "end") == "abcdefghij"
    assert _cut("abcdefghij", 6, "end") == "abcde…"
    assert _cut("abcdefghij", 6, "middle") == "ab…hij"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("casinductor k", {"kernels", "key"}), ("casinductor ls --b", {"--by-kind"})],
)
def test_shells_complete(words: str, wanted: set[str]) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "casinductor"],
        env={
            **os.environ,
            "_CASINDUCTOR_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert {line.partition(",")[2] for line in said.stdout.splitlines()} == wanted
