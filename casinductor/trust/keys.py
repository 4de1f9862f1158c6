"""Public keys, with names and the caches that each may publish to.

Invariant: a key that is returned was parsed by ``cryptography``; a file that has none, or a line
that is no key, is an error that names it, as a list that is half read trusts the wrong people.
Formats: PEM (RFC 7468, explanatory text before a block gives ``Name:`` and ``Caches:``); OpenSSH's
public keys and ``allowed_signers`` (ssh-keygen(1), ``namespaces`` holds the caches).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from casinductor.errors import InvalidName
from casinductor.trust.library import sslib

_BLOCK = re.compile(
    r"-----BEGIN [A-Z ]*PUBLIC KEY-----.*?-----END [A-Z ]*PUBLIC KEY-----", re.DOTALL
)
_SSH = re.compile(r"(ssh-|ecdsa-sha2-|sk-)\S+")
_FIELD = re.compile(r"^(Name|Caches):\s*(.+)$", re.MULTILINE | re.IGNORECASE)
_NAMESPACES = re.compile(r'namespaces="([^"]*)"')
_KEY_ID = re.compile(r"[0-9a-f]{64}")
#: A file of keys larger than this is none.
_LARGEST = 1 << 20


@dataclass(frozen=True)
class TrustedKey:
    """A public key. ``keyid``: 64 hexadecimal digits (securesystemslib's default id); ``caches``:
    patterns (fnmatch) of ``GPU/key`` that it may publish to, none for all; ``key``: the library's.
    """

    name: str
    keyid: str
    caches: tuple[str, ...]
    key: Any

    def may_publish_to(self, cache: str) -> bool:
        return not self.caches or any(fnmatchcase(cache, pattern) for pattern in self.caches)


def load_keys(where: str) -> tuple[TrustedKey, ...]:
    """The keys of a file, of a directory's files, or of this text itself.

    Raises :class:`InvalidName` for what cannot be read, has no key or an unusable one.
    """
    path = os.path.expanduser(where)
    is_text = "-----BEGIN" in where or _SSH.search(where) is not None
    if is_text and not os.path.exists(path):  # a path may hold such words, as ~/ssh-keys/ci.pub
        return tuple(_parse(where.replace("\\n", "\n"), "trusted keys", "key"))
    if not os.path.isdir(path):
        return tuple(_of_file(path))
    files = sorted(name for name in os.listdir(path) if not name.startswith("."))
    # A mounted Kubernetes secret has its files as links beside a folder of dots.
    found = [os.path.join(path, name) for name in files if os.path.isfile(os.path.join(path, name))]
    if not found:
        raise InvalidName(f"the directory {path} holds no public key")
    return tuple(key for file in found for key in _of_file(file))


def load_revoked(where: str) -> frozenset[str]:
    """The ids of revoked keys: ids themselves, with commas between, or a file or directory of keys.

    Raises :class:`InvalidName`.
    """
    words = [word.strip().lower() for word in where.split(",")]
    if all(_KEY_ID.fullmatch(word) for word in words):
        return frozenset(words)
    return frozenset(key.keyid for key in load_keys(where))


def _of_file(path: str) -> list[TrustedKey]:
    try:
        with open(path, "rb") as file:
            text = file.read(_LARGEST + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidName(f"public keys cannot be read from {path}: {error}") from error
    if len(text) > _LARGEST:
        raise InvalidName(f"{path} is too large for a file of public keys")
    name = os.path.basename(path)
    return _parse(text, path, name.rpartition(".")[0] or name)


def _parse(text: str, where: str, default: str) -> list[TrustedKey]:
    if "PRIVATE KEY-----" in text:
        raise InvalidName(f"{where} holds a private key; only public ones are trusted")
    found = list(_pem(text, where, default) if "-----BEGIN" in text else _ssh(text, where))
    if not found:
        raise InvalidName(f"{where} holds no public key (PEM or OpenSSH)")
    return found


def _pem(text: str, where: str, default: str) -> Iterator[TrustedKey]:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    position = 0
    for number, block in enumerate(_BLOCK.finditer(text)):
        fields = {
            name.lower(): value for name, value in _FIELD.findall(text[position : block.start()])
        }
        position = block.end()
        name = fields.get("name", default if number == 0 else f"{default}-{number + 1}").strip()
        yield _key(load_pem_public_key, block[0].encode(), name, fields.get("caches", ""), where)


def _ssh(text: str, where: str) -> Iterator[TrustedKey]:
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _SSH.search(line)
        if match is None:
            raise InvalidName(f"{where} line {number} is no OpenSSH public key")
        before, after = line[: match.start()].split(), line[match.start() :].split()
        name = before[0] if before else " ".join(after[2:]) or f"key-{number}"
        options = _NAMESPACES.search(line[: match.start()])
        data = " ".join(after[:2]).encode()
        caches = options[1] if options else ""
        yield _key(load_ssh_public_key, data, name, caches, f"{where} line {number}")


def _key(load: Any, data: bytes, name: str, caches: str, where: str) -> TrustedKey:
    try:
        key = sslib().SSlibKey.from_crypto(load(data))
    except Exception as error:  # the library's own, by kind of key
        raise InvalidName(f"{where} holds a key that cannot be used: {error}") from error
    patterns = tuple(pattern.strip() for pattern in caches.split(",") if pattern.strip())
    return TrustedKey(name, key.keyid, patterns, key)
