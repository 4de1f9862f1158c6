"""The private key that a worker signs with.

Invariant: neither the key nor any part of it stands in a message, a representation or a log; an
error names the variable and, where it is a path of a file that exists, that path.
Formats: PKCS 8 in PEM (RFC 5958, RFC 7468) and OpenSSH's; other signers by securesystemslib's
addresses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from casinductor.errors import InvalidName
from casinductor.trust.keys import TrustedKey
from casinductor.trust.library import sslib

_VARIABLE = "CASINDUCTOR_SIGNING_KEY"
_ADDRESS = re.compile(r"(?P<uri>[a-z0-9]+:.*)#(?P<name>[^#]+)", re.DOTALL)


def load_signer(secret: str, trusted: Sequence[TrustedKey]) -> Any:
    """A signer from a file, from the key's own text, or from ``ADDRESS#NAME``: a key in a KMS, a
    vault or a device, whose public key is the trusted one of that name.

    Raises :class:`InvalidName` where it cannot be used.
    """
    library = sslib()
    if "-----BEGIN" in secret:
        return _from_text(secret.replace("\\n", "\n").encode(), _VARIABLE)
    path = os.path.expanduser(secret)
    if "\n" not in secret and os.path.isfile(path):
        try:
            with open(path, "rb") as file:
                return _from_text(file.read(), f"{_VARIABLE}: {path}")
        except OSError as error:
            raise InvalidName(f"{_VARIABLE}: {path} cannot be read: {error.strerror}") from None
    match = _ADDRESS.fullmatch(secret)
    if match is None or match["uri"].partition(":")[0] not in library.SIGNER_FOR_URI_SCHEME:
        raise InvalidName(
            f"{_VARIABLE} is no file, no private key in PEM or OpenSSH form, and no address of a "
            "key service such as awskms:ID#NAME"
        )
    return _from_service(library, match["uri"], match["name"], trusted)


def _from_text(data: bytes, where: str) -> Any:
    from cryptography.hazmat.primitives import serialization

    ssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    load = serialization.load_ssh_private_key if ssh else serialization.load_pem_private_key
    try:
        private: Any = load(data, None)
        return sslib().CryptoSigner(private)
    except TypeError:
        raise InvalidName(
            f"{where} is encrypted; give the worker a key without a password"
        ) from None
    except Exception:  # its text may hold what was read
        raise InvalidName(
            f"{where} holds no private key that signs (Ed25519, ECDSA, ML-DSA or RSA)"
        ) from None


def _from_service(library: Any, uri: str, name: str, trusted: Sequence[TrustedKey]) -> Any:
    found = [key for key in trusted if key.name == name]
    if not found:
        raise InvalidName(f"{_VARIABLE}: no trusted key is called {name!r}")
    scheme = uri.partition(":")[0]
    try:
        return library.Signer.from_priv_key_uri(uri, found[0].key)
    except Exception as error:  # the services' own errors, each by its kind
        raise InvalidName(
            f"{_VARIABLE}: the key at {scheme}: cannot be used ({type(error).__name__})"
        ) from None
