"""Durations, sizes and shares as people write them on a command line.

Invariant: a value that is not understood is a usage error that shows what would be.
"""

from __future__ import annotations

import re
from typing import Any

import click

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class _Unit(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    pattern: re.Pattern[str]
    example: str

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        match = self.pattern.fullmatch(value.strip().lower())
        if match is None:
            self.fail(f"{value!r} is no {self.name}; write {self.example}", param, ctx)
        return self.value(float(match[1]), match[2])

    def value(self, number: float, unit: str) -> Any:
        raise NotImplementedError


class Duration(_Unit):
    """``90s``, ``15m``, ``12h``, ``30d`` or ``2w``, in seconds."""

    name = "duration"
    pattern = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
    example = "for instance 60s, 12h or 30d"

    def value(self, number: float, unit: str) -> float:
        return number * _SECONDS[unit]


class Size(_Unit):
    """``500000``, ``1.5GB`` or ``200 GB``, in bytes; powers of 1,000 as disks are sold."""

    name = "size"
    pattern = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?")
    example = "for instance 500MB or 1.5GB"

    def value(self, number: float, unit: str) -> int:
        return int(number * _BYTES[unit])


class Share(_Unit):
    """``10%`` or ``all``, as a number from 0 to 1."""

    name = "share"
    pattern = re.compile(r"(\d+(?:\.\d+)?)\s*(%)")
    example = "for instance 10% or all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        share = super().convert("100%" if value == "all" else value, param, ctx)
        if share is not None and not 0 <= share <= 1:
            self.fail(f"{value!r} is not between 0% and 100%", param, ctx)
        return share

    def value(self, number: float, unit: str) -> float:
        return number / 100
