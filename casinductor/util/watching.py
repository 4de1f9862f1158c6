"""How long work tells how far it is, to whoever watches.

Invariant: watching changes nothing that is done; a watcher is called by the thread that does the
work, often, and must be quick.
"""

from __future__ import annotations

from collections.abc import Callable

#: Given what is being done, how much of it is done, of how much, and the unit: ``B`` for bytes, or
#: a noun in the plural.
Watch = Callable[[str, int, int, str], None]


def nobody(what: str, done: int, total: int, unit: str) -> None:
    """Watches nothing."""
