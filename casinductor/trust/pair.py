"""Makes key pairs, and describes keys to people.

Invariant: a private key is written to a file of its own that only this user can read and that was
not there before; nothing else ever holds it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from casinductor.errors import InvalidName, LocalDirectory
from casinductor.trust.keys import TrustedKey, load_keys
from casinductor.trust.library import sslib
from casinductor.trust.signing import load_signer


@dataclass(frozen=True)
class Pair:
    """The paths of a key pair, and the public key's id."""

    private: str
    public: str
    keyid: str


def new_pair(path: str, kind: str, name: str, caches: tuple[str, ...]) -> Pair:
    """Write ``path`` (PKCS 8) and ``path.pub``, which names the key and its caches.

    Raises :class:`LocalDirectory` where a file is there already or cannot be written.
    """
    if any("\n" in text or "," in text for text in caches) or "\n" in name:
        raise InvalidName("names and patterns have neither lines nor commas")
    library = sslib()
    signer = (
        library.CryptoSigner.generate_ed25519()
        if kind == "ed25519"
        else library.CryptoSigner.generate_ecdsa()
    )
    head = f"Name: {name}\n" + (f"Caches: {', '.join(caches)}\n" if caches else "")
    public = f"{path}.pub"
    _write(path, signer.private_bytes, 0o600)
    _write(public, (head + _pem(signer.public_key)).encode(), 0o644)
    return Pair(path, public, signer.public_key.keyid)


def read_keys(path: str) -> tuple[TrustedKey, ...]:
    """The public keys of a file or directory, or the public half of a private key."""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if b"PRIVATE KEY-----" in file.read(1 << 16):
                public = load_signer(path, ()).public_key
                return (TrustedKey(os.path.basename(path), public.keyid, (), public),)
    return load_keys(path)


def _pem(key: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    data: bytes = key._crypto_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data.decode()


def _write(path: str, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise LocalDirectory(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
