"""``casinductor key``: make a key pair, show keys.

Invariant: a private key goes to its file and nowhere else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import click

from casinductor.cli.command import command_options
from casinductor.cli.options import Options
from casinductor.cli.table import Column

_COLUMNS = (
    Column("name"),
    Column("type", rank=2),
    Column("caches", lambda caches: ", ".join(caches) or "all", 1),
    Column("keyid"),
)


@dataclass(frozen=True)
class KeyLine:
    """A key and the patterns of caches that it may publish to; none: all."""

    name: str
    keyid: str
    type: str
    caches: list[str]


@click.group()
def command() -> None:
    """Make a key pair (new) or show keys (show)."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Who it stands for (default: the file's name).")
@click.option(
    "--cache", "caches", multiple=True, metavar="PATTERN", help="A cache it may publish to; again."
)
@click.option("--type", "kind", type=click.Choice(["ed25519", "ecdsa"]), default="ed25519")
@command_options
def new(options: Options, file: Path, name: str | None, caches: tuple[str, ...], kind: str) -> None:
    """Write a private key to FILE and its public key to FILE.pub."""
    from casinductor.trust.pair import new_pair

    pair = new_pair(str(file), kind, name or file.stem, caches)
    lines = [
        f"{pair.private}: the private key, for CASINDUCTOR_SIGNING_KEY; keep it secret",
        f"{pair.public}: the public key, for CASINDUCTOR_TRUSTED_KEYS",
        f"key {pair.keyid}",
    ]
    document = {"private": pair.private, "public": pair.public, "keyid": pair.keyid}
    options.emit(document, lines)


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@command_options
def show(options: Options, file: Path) -> None:
    """Show the keys of FILE: a public or private key, or a directory of public ones."""
    from casinductor.trust.pair import read_keys

    keys = read_keys(str(file))
    rows = [KeyLine(k.name, k.keyid, k.key.keytype, list(k.caches)) for k in keys]
    options.table([asdict(row) for row in rows], str(file), _COLUMNS, rows)
