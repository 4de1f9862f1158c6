"""Durations, sizes and shares as people write them on a command line.

Invariant: a value that is not understood is a usage error that shows what would be.
"""

from __future__ import annotations

import re
from typing import Any

import click

from casinductor.util import units


class _Unit(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    @staticmethod
    def parse(text: str) -> Any:
        raise NotImplementedError

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(f"{value!r} is no {self.name}; {error}", param, ctx)


class Duration(_Unit):
    """A duration, in seconds."""

    name = "duration"
    parse = staticmethod(units.seconds)


class Size(_Unit):
    """A size, in bytes."""

    name = "size"
    parse = staticmethod(units.size)


class Share(_Unit):
    """``10%`` or ``all``, as a number from 0 to 1."""

    name = "share"

    @staticmethod
    def parse(text: str) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
        share = 1.0 if text == "all" else float(match[1]) / 100 if match else -1.0
        if not 0 <= share <= 1:
            raise ValueError("write a share from 0% to 100%, for instance 10%, or all")
        return share
