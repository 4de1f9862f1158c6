"""``casinductor trust``: who published what, and what is not believed.

Invariant: says what a worker with these keys would see; changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

import click

from casinductor.cli.options import Options, command_options


@click.command()
@click.argument("cache", required=False)
@click.option("--revoked", metavar="FILE|ID", help="As if these keys were revoked too.")
@command_options
def command(options: Options, cache: str | None, revoked: str | None) -> None:
    """Show whose manifests count in the store, or of CACHE, and which are not believed."""
    from casinductor.store.opening import with_fresh_store
    from casinductor.store.signers import signer_lines

    settings = options.settings()
    if revoked:
        settings = replace(settings, revoked_keys=_joined(settings.revoked_keys, revoked))
    scope = options.cache(cache).id if cache else None
    lines = with_fresh_store(settings, lambda store: signer_lines(store, scope))
    rows = [[line.cache, line.signer, line.verdict, f"{line.manifests:,}"] for line in lines]
    columns = ["cache", "signer", "verdict", "manifests"]
    options.table([line.as_dict() for line in lines], settings.store, columns, rows)
    if not (settings.trusted_keys or settings.signing_key):
        options.warn(["no keys are set: everything is believed (CASINDUCTOR_TRUSTED_KEYS)"])


def _joined(set_already: str | None, more: str) -> str:
    """The ids of both, as one setting."""
    from casinductor.trust.keys import load_revoked

    ids = load_revoked(more) | (load_revoked(set_already) if set_already else frozenset())
    return ",".join(sorted(ids))
