"""``casinductor trust``: who published what, and what is not believed.

Invariant: says what a worker with these keys would see; changes nothing.
"""

from __future__ import annotations

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.cli.table import Column, number

_COLUMNS = (
    Column("cache"),
    Column("signer", rank=1),
    Column("verdict", cut="end"),
    number("manifests", 2),
)


@click.command(cls=Command)
@click.argument("cache", required=False)
@click.option("--revoked", metavar="FILE|ID", help="As if these keys were revoked too.")
@command_options
def command(options: Options, cache: str | None, revoked: str | None) -> None:
    """Show who signed what, and what is not believed.

    \b
    Examples:
      casinductor trust
      casinductor trust H100/bert/v1 --revoked old.pub
    """
    from msgspec.structs import replace

    from casinductor.store.signers import signer_lines

    settings = options.settings()
    if revoked:
        settings = replace(settings, revoked_keys=_joined(settings.revoked_keys, revoked))
    scope = options.found(cache).id if cache else None
    lines = options.on_store(settings, lambda store: signer_lines(store, scope), fresh=True)
    options.table([line.as_dict() for line in lines], settings.store, _COLUMNS, lines)
    if not (settings.trusted_keys or settings.signing_key):
        options.warn(["no keys are set: everything is believed (CASINDUCTOR_TRUSTED_KEYS)"])


def _joined(set_already: str | None, more: str) -> str:
    """The ids of both, as one setting."""
    from casinductor.trust.keys import load_revoked

    ids = load_revoked(more) | (load_revoked(set_already) if set_already else frozenset())
    return ",".join(sorted(ids))
