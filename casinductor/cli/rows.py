"""Filtering, sorting and cutting the rows of a table, alike for every command that prints one.

Invariant: JSON and table show the same rows in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import click

Function = Callable[..., Any]
R = TypeVar("R")


@dataclass(frozen=True)
class Arrangement:
    """What ``--filter``, ``--sort``, ``--reverse`` and ``--limit`` said."""

    filters: tuple[str, ...] = ()
    sort: str | None = None
    reverse: bool = False
    limit: int | None = None

    def of(self, rows: Sequence[R]) -> list[R]:
        """The rows that pass every filter, in order; figures are sorted with the largest first."""
        kept = [row for row in rows if all(_passes(row, text) for text in self.filters)]
        if self.sort is not None:
            column = self.sort
            if rows and not hasattr(rows[0], column):
                columns = ", ".join(sorted(vars(rows[0])))
                raise click.UsageError(f"there is no column {column!r}; columns are {columns}")
            values = [getattr(row, column) for row in kept]
            figures = any(isinstance(value, (int, float)) for value in values)
            kept.sort(key=lambda row: _key(getattr(row, column)), reverse=figures != self.reverse)
        elif self.reverse:
            kept.reverse()
        return kept[: self.limit]


def _key(value: Any) -> tuple[bool, Any]:
    """Unknown values come after known ones where the largest is first."""
    if isinstance(value, (int, float)):
        return True, float(value)
    return value is not None, "" if value is None else str(value)


def _passes(row: Any, text: str) -> bool:
    """``COLUMN=PATTERN``, ``COLUMN>NUMBER``, ``COLUMN<NUMBER``, or a text that a column has."""
    for sign in "=<>":
        column, separator, wanted = text.partition(sign)
        if separator and hasattr(row, column):
            value = getattr(row, column)
            if sign == "=":
                return fnmatchcase(str(value), wanted)
            try:
                limit = float(wanted)
            except ValueError as error:
                raise click.UsageError(f"--filter {text!r} compares with no number") from error
            known = isinstance(value, (int, float))
            return known and (value < limit if sign == "<" else value > limit)
    return any(text in str(value) for value in vars(row).values())


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
