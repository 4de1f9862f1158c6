"""Loads the signing library, where signatures are used at all.

Invariant: without settings about keys neither securesystemslib nor cryptography is imported.
"""

from __future__ import annotations

from typing import Any

from casinductor.errors import InvalidName


def sslib() -> Any:
    """``securesystemslib.signer``. Raises :class:`InvalidName` where it is not installed."""
    try:
        import cryptography  # noqa: F401 - securesystemslib says later, and less, that it is absent
        from securesystemslib import signer
    except ImportError as error:
        raise InvalidName(
            "keys are set, and signatures need packages that are not installed: "
            "pip install 'casinductor[signing]'"
        ) from error
    return signer
