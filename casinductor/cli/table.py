"""Tables: columns that fit the terminal, whole values everywhere else.

Invariant: a value is never folded letter by letter, and a column has one name, which is that of its
field in JSON, in ``--filter`` and in ``--sort`` (``_ms``, a Unix time, may be left out). A narrow
terminal gets fewer columns, and says which; where even those do not fit, a block for each row.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from shutil import get_terminal_size
from typing import Any

import click

from casinductor.util.human import duration, size, strip_control, wrapped

_UNKNOWN = "?"
#: Between two columns of a terminal's table, and what a cut one keeps at least, in characters.
_GAP, _LEAST = 2, 28
_WIDEST = 1 << 15


def figure(value: Any) -> str:
    """A number with separators; ``?`` where nobody knows."""
    return _UNKNOWN if value is None else f"{value:,}"


def byte_count(value: Any) -> str:
    return _UNKNOWN if value is None else size(value)


def seconds(value: Any) -> str:
    return _UNKNOWN if value is None else duration(value)


def moment(value: Any) -> str:
    """A Unix time in milliseconds, in this machine's zone; ``-`` for never."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(value / 1000)) if value else "-"


def word(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "-"
    return _UNKNOWN if value is None else str(value)


def short(length: int) -> Callable[[Any], str]:
    """The beginning of a hash, which commands accept as its name."""

    def shown(value: Any) -> str:
        parts = value if isinstance(value, (list, tuple)) else [value]
        return ", ".join(str(part)[:length] for part in parts) or "-"

    return shown


@dataclass(frozen=True)
class Column:
    """``name`` is the row's field; ``shown`` makes the text for a terminal; on a narrow one those
    with the highest ``rank`` are left out first, and those of rank 0 never. A long text may be
    ``cut`` there, at its "end" or, where the end tells it apart, in the "middle".
    """

    name: str
    shown: Callable[[Any], str] = word
    rank: int = 0
    figures: bool = False
    cut: str = ""

    @property
    def heading(self) -> str:
        return self.name.removesuffix("_ms")


def number(name: str, rank: int = 0, shown: Callable[[Any], str] = figure) -> Column:
    """A column of figures, set to the right."""
    return Column(name, shown, rank, figures=True)


def print_table(title: str, columns: Sequence[Column], rows: Sequence[Any], wide: bool) -> None:
    """Print rows (objects with a field for each column) for a person or a pipe."""
    if not sys.stdout.isatty() and not wide:
        _print_plain(columns, rows)
        return
    cells = [[strip_control(c.shown(getattr(row, c.name))) for c in columns] for row in rows]
    room = _WIDEST if wide else get_terminal_size().columns
    natural = [
        max([len(column.heading), *(len(row[i]) for row in cells)])
        for i, column in enumerate(columns)
    ]
    widths = _layout(columns, natural, room)
    click.secho(wrapped(title, room), bold=True)
    if not widths:
        _print_blocks(columns, cells, room)
        return
    _print_grid(columns, cells, widths)
    left = [column.heading for i, column in enumerate(columns) if i not in widths]
    cut = [columns[i].heading for i, width in widths.items() if width < natural[i]]
    told = [
        f"{what}: {', '.join(some)}" for what, some in (("cut", cut), ("left out", left)) if some
    ]
    if told:
        click.secho(wrapped(f"({'; '.join(told)}; --wide shows all)", room), dim=True)


def _layout(columns: Sequence[Column], natural: list[int], room: int) -> dict[int, int]:
    """The width of each column that is shown; nothing if those of rank 0 do not fit.

    The important ones come first, each with what it needs at least; what is then left of the
    ``room`` goes to those that were cut.
    """
    least = [
        min(width, _LEAST) if column.cut else width
        for column, width in zip(columns, natural, strict=True)
    ]
    widths: dict[int, int] = {}
    for i in sorted(range(len(columns)), key=lambda i: (columns[i].rank, i)):
        taken = sum(widths.values()) + len(widths) * _GAP
        if taken + least[i] <= room:
            widths[i] = least[i]
        elif columns[i].rank == 0:
            return {}
    spare = room - sum(widths.values()) - (len(widths) - 1) * _GAP
    for i in sorted(widths, key=lambda i: natural[i] - widths[i]):
        more = min(natural[i] - widths[i], max(spare, 0))
        widths[i] += more
        spare -= more
    return dict(sorted(widths.items()))


def _print_grid(columns: Sequence[Column], cells: list[list[str]], widths: dict[int, int]) -> None:
    def line(texts: list[str]) -> str:
        parts = []
        for i, width in widths.items():
            text = _cut(texts[i], width, columns[i].cut)
            parts.append(text.rjust(width) if columns[i].figures else text.ljust(width))
        return (" " * _GAP).join(parts).rstrip()

    click.secho(line([column.heading for column in columns]), dim=True)
    for row in cells:
        click.echo(line(row))


def _cut(text: str, width: int, where: str) -> str:
    if len(text) <= width:
        return text
    head = width - 1 if where == "end" else (width - 1) // 2
    tail = width - 1 - head
    return f"{text[:head]}…{text[len(text) - tail :]}"


def _print_blocks(columns: Sequence[Column], cells: list[list[str]], room: int) -> None:
    margin = max(len(column.heading) for column in columns) + 4
    for row in cells:
        click.secho(f"\n{row[0]}", bold=True)
        for column, text in zip(columns[1:], row[1:], strict=True):
            head = f"  {column.heading}".ljust(margin)
            click.echo(wrapped(head + text, room, " " * margin))


def _print_plain(columns: Sequence[Column], rows: Sequence[Any]) -> None:
    """Tabs between whole values, headings as in JSON: for ``cut``, ``awk`` and spreadsheets."""
    click.echo("\t".join(column.name for column in columns))
    for row in rows:
        click.echo("\t".join(_plain(getattr(row, column.name)) for column in columns))


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(map(_plain, value))
    if isinstance(value, dict):
        return json.dumps(value)
    return strip_control(str(value)).replace("\n", " ").replace("\t", " ")
