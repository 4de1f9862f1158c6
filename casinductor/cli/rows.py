"""Filtering, sorting and cutting the rows of a table, alike for every command that prints one.

Invariant: JSON and table show the same rows in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from casinductor.util.human import counted

if TYPE_CHECKING:
    from casinductor.cli.options import Options
    from casinductor.cli.table import Column

Function = Callable[..., Any]


class _Row(Protocol):
    def as_dict(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=_Row)


@dataclass(frozen=True)
class Arrangement:
    """What ``--filter``, ``--sort``, ``--reverse`` and ``--limit`` said."""

    filters: tuple[str, ...] = ()
    sort: str | None = None
    reverse: bool = False
    limit: int | None = None

    def of(self, rows: Sequence[R], row: type[R]) -> list[R]:
        """The rows (all of type ``row``) that pass every filter, in order; figures are sorted with
        the largest first.
        """
        columns = _columns_of(row)
        filters = [_Filter.of(text, columns) for text in self.filters]
        kept = [row for row in rows if all(one.passes(row) for one in filters)]
        if self.sort is not None:
            column = _known(self.sort, columns)
            values = [getattr(row, column) for row in kept]
            figures = any(isinstance(value, (int, float)) for value in values)
            kept.sort(key=lambda row: _key(getattr(row, column)), reverse=figures != self.reverse)
        elif self.reverse:
            kept.reverse()
        return kept[: self.limit]

    def show(
        self,
        options: Options,
        subject: str,
        noun: str,
        every: Sequence[R],
        row: type[R],
        columns: Sequence[Column],
    ) -> None:
        """Print what is left of the rows, under ``subject: 3 of 59 kernels``."""
        rows = self.of(every, row)
        count = counted(len(every), noun)
        shown = count if len(rows) == len(every) else f"{len(rows):,} of {count}"
        options.table([one.as_dict() for one in rows], f"{subject}: {shown}", columns, rows)


def _columns_of(row: type[Any]) -> dict[str, str]:
    """The fields of a row by the names that people may use for them."""
    names = [field.name for field in fields(row)]
    names += [name for name, value in vars(row).items() if isinstance(value, property)]
    return {alias: name for name in names for alias in (name, name.removesuffix("_ms"))}


def _known(name: str, columns: dict[str, str]) -> str:
    if name not in columns:
        there = ", ".join(sorted(set(columns.values())))
        raise click.UsageError(f"there is no column {name!r}; columns are {there}")
    return columns[name]


def _key(value: Any) -> tuple[bool, Any]:
    """Unknown values come after known ones where the largest is first."""
    if isinstance(value, (int, float)):
        return True, float(value)
    return value is not None, "" if value is None else str(value)


@dataclass(frozen=True)
class _Filter:
    """``COLUMN=PATTERN``, ``COLUMN>NUMBER``, ``COLUMN<NUMBER``, or a text that a column has."""

    text: str
    column: str = ""
    sign: str = ""
    limit: float = 0.0

    @classmethod
    def of(cls, text: str, columns: dict[str, str]) -> _Filter:
        match = re.match(r"(\w+)([=<>])(.*)", text, re.DOTALL)
        if match is None:
            return cls(text)
        column, sign, wanted = _known(match[1], columns), match[2], match[3]
        if sign == "=":
            return cls(wanted, column, sign)
        try:
            return cls(wanted, column, sign, float(wanted))
        except ValueError as error:
            raise click.UsageError(f"--filter {text!r} compares with no number") from error

    def passes(self, row: Any) -> bool:
        if not self.column:
            return any(self.text in str(value) for value in vars(row).values())
        value = getattr(row, self.column)
        if self.sign == "=":
            return fnmatchcase(str(value), self.text)
        if not isinstance(value, (int, float)):
            return False
        return value < self.limit if self.sign == "<" else value > self.limit


def row_options(function: Function) -> Function:
    """Add the options that arrange rows."""
    for option in (
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only N rows."),
        click.option("--reverse", is_flag=True, help="Reverse the order."),
        click.option("--sort", metavar="COLUMN", help="Sort by this column, named as in JSON."),
        click.option(
            "--filter",
            "filters",
            multiple=True,
            metavar="TEXT",
            help="COLUMN=PATTERN, COLUMN>NUMBER, COLUMN<NUMBER, or a text that some column has.",
        ),
    ):
        function = option(function)
    return function
