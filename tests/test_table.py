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
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from casinductor.cli import bar
from casinductor.cli.table import Column, _cut, _layout, byte_count, moment, number, print_table
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
    from msgspec.structs import replace

    for tree in ("llama8-v1", "llama8-v2"):
        chosen = replace(settings, local_dir=corpus / f"cuda-{tree}")
        Cache(f"a-rather-long-name/of-a-cache/{tree}", settings=chosen).sync()
    return fleet


LONG = "a-rather-long-name/of-a-cache/llama8-v1"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (80, ("ls",)),
        (80, ("ls", LONG)),
        (60, ("kernels", LONG)),
        (80, ("kernels", LONG)),
        (100, ("kernels", LONG)),
        (100, ("inspect", LONG)),
        (80, ("inspect", LONG)),
        (80, ("stats",)),
        (80, ("runs",)),
        (80, ("diff", LONG, LONG.replace("v1", "v2"))),
        (60, ("trust",)),
    ],
    ids=lambda given: str(given) if isinstance(given, int) else f"{given[0]}{len(given)}",
)
def test_every_table_fits_the_terminal(store: Fleet, words: tuple[str, ...], columns: int) -> None:
    lines = on_terminal(columns, store, *words)
    for line in lines:
        widest = max(map(len, line.split()), default=0)
        assert len(line) <= max(columns, widest), line


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


@dataclass
class Row:
    """A row of a table."""

    name: str
    bytes: int | None
    made_ms: int


def test_a_table_on_a_terminal_of_this_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "50")
    columns = (
        Column("name", cut="middle"),
        number("bytes", 1, byte_count),
        Column("made_ms", moment, 2),
    )
    rows = [Row("a" * 60, 1234, 0), Row("short\x1b[2J", None, 1_800_000_000_000)]
    print_table("two rows", columns, rows, wide=False)
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    title, heading, first, second, told = text.splitlines()
    assert title == "two rows"
    assert heading.split() == ["name", "bytes"]
    assert "…" in first
    assert first.endswith("1.23 kB")
    assert second.split() == ["short\ufffd[2J", "?"]
    assert told == "(cut: name; left out: made; --wide shows all)"
    print_table("two rows", columns, rows, wide=True)
    assert "a" * 60 in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "12")
    print_table("two rows", columns, rows, wide=False)
    assert "  bytes" in capsys.readouterr().out


def test_a_bar_shows_each_phase(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bar, "PATIENCE", -1.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with bar.Bar() as shown:
        shown.watch("reading manifests", 1, 4, "manifests")
        shown.watch("moving files", 1 << 20, 4 << 20, "B")
        text = shown._progress.get_renderable()
        Console(file=sys.stderr, width=100).print(text)
    assert "moving files" in capsys.readouterr().err


def test_no_bar_for_what_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    with bar.Bar() as shown:
        shown.watch("reading manifests", 1, 4, "manifests")
    assert capsys.readouterr().err == ""
