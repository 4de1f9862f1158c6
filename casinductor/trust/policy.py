"""Whose manifests count, and what this worker signs with.

Invariant: where keys are set, a manifest that no trusted, unrevoked key signed for its cache is not
believed, and nothing is published that this worker would not believe itself; a key to sign with and
no trusted ones trusts that key alone, as a signature vouches for what was taken over. Settings that
cannot be used stop the store from being opened: they never mean that everybody is trusted. What
verifies is imported where keys are set only.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from casinductor.errors import InvalidName, Untrusted

if TYPE_CHECKING:
    from casinductor.trust.keys import TrustedKey


Carry = Literal["", "unsigned", "any"]


class Trust(msgspec.Struct, frozen=True):
    """``keys`` are trusted, ``revoked`` holds ids of those that are no longer; ``signer`` is the
    library's, or None for a worker that cannot publish where keys are set. ``carry``: what else is
    believed while it is carried over, ``unsigned`` manifests or ``any``.
    """

    keys: tuple[TrustedKey, ...] = ()
    revoked: frozenset[str] = frozenset()
    signer: Any = None
    carry: Carry = ""

    @property
    def active(self) -> bool:
        """Whether only signed manifests count."""
        return bool(self.keys)

    @property
    def digest(self) -> str:
        """Names what is believed, for whatever remembers verdicts; empty where all is."""
        if not self.active:
            return ""
        told = sorted((key.keyid, key.name, key.caches) for key in self.keys)
        return sha256(repr((told, sorted(self.revoked))).encode()).hexdigest()[:32]

    def admit(self, cache: str, name: str, data: bytes, envelope: bytes) -> str:
        """The name of the key that signed this object for this cache, empty where none is needed.

        Raises :class:`Untrusted` with the reason.
        """
        if not self.active:
            return ""
        from casinductor.trust.envelope import key_ids, verify

        living = [key for key in self.keys if key.keyid not in self.revoked]
        try:
            key = verify(name, data, envelope, living)
        except Untrusted:
            if self.carry == "any" or (self.carry and not envelope):
                return ""
            if self.revoked.intersection(key_ids(envelope)):
                raise Untrusted("signed by a revoked key") from None
            raise
        if not key.may_publish_to(cache):
            raise Untrusted(f"signed by key {key.name!r}, which is not trusted for this cache")
        return key.name

    @property
    def signs_as(self) -> str:
        """The name of the key that this worker signs with; empty where it does not."""
        mine = self.signer.public_key.keyid if self.signer is not None else ""
        return next((key.name for key in self.keys if key.keyid == mine), "")

    def require_signer(self, cache: str) -> None:
        """Raise :class:`Untrusted` where this worker may not publish to the cache."""
        if reason := self.refusal(cache):
            raise Untrusted(f"{cache}: {reason}")

    def refusal(self, cache: str) -> str:
        """Why this worker may not publish to the cache; empty where it may."""
        if not self.active:
            return ""
        nothing = "nothing is published, as"
        if self.signer is None:
            return f"{nothing} CASINDUCTOR_TRUSTED_KEYS is set and CASINDUCTOR_SIGNING_KEY is not"
        keyid = self.signer.public_key.keyid
        mine = [key for key in self.keys if key.keyid == keyid]
        if keyid in self.revoked:
            return f"{nothing} the signing key {keyid[:16]} is revoked"
        if not mine:
            return f"{nothing} the signing key {keyid[:16]} is not among the trusted ones"
        if not any(key.may_publish_to(cache) for key in mine):
            return f"{nothing} key {mine[0].name!r} may not publish to it"
        return ""

    def envelope(self, cache: str, name: str, data: bytes) -> bytes:
        """The envelope of an object that is to be published; empty where nobody signs.

        Raises :class:`Untrusted` where this worker may not publish, or the key cannot be used now.
        """
        self.require_signer(cache)
        if self.signer is None:
            return b""
        from casinductor.trust.envelope import sign

        try:
            return sign(name, data, self.signer)
        except Exception as error:  # a key service's own errors, each by its kind
            raise Untrusted(
                f"{cache}: the signing key cannot be used now ({type(error).__name__})"
            ) from None


#: Where no keys are set.
EVERYBODY = Trust()


def trust_of(signing_key: str | None, trusted_keys: str | None, revoked: str | None) -> Trust:
    """The trust that settings ask for. Raises :class:`InvalidName` where they cannot be used."""
    if not signing_key and not trusted_keys:
        if revoked:
            raise InvalidName(
                "keys are revoked, but none are trusted: set CASINDUCTOR_TRUSTED_KEYS"
            )
        return EVERYBODY
    from casinductor.trust.keys import TrustedKey, load_keys, load_revoked
    from casinductor.trust.signing import load_signer

    keys = load_keys(trusted_keys) if trusted_keys else ()
    signer = load_signer(signing_key, keys) if signing_key else None
    if signer is not None and not keys:
        public = signer.public_key
        keys = (TrustedKey("own", public.keyid, (), public),)
    return Trust(keys, load_revoked(revoked) if revoked else frozenset(), signer)
