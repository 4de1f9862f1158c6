"""Envelopes: what signs one manifest, beside its bytes.

Invariant: an envelope speaks of one object by its name in the store and by the hash of its bytes;
for another name or other bytes it says nothing.
Formats: DSSE 1.0 (github.com/secure-systems-lab/dsse), in-toto Statement v1
(github.com/in-toto/attestation); ``docs/format.md``, "Signatures".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from casinductor.errors import Untrusted
from casinductor.trust.keys import TrustedKey
from casinductor.trust.library import sslib

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://github.com/casinductor/casinductor/manifest/v1"
#: No envelope is longer, and none has more signatures.
MAX_BYTES = 64 << 10
MAX_SIGNATURES = 16


class _Subject(msgspec.Struct):
    name: str
    digest: dict[str, str]


class _Statement(msgspec.Struct):
    type: str = msgspec.field(name="_type")
    predicateType: str  # noqa: N815 - in-toto's name
    subject: list[_Subject]


class _Signature(msgspec.Struct):
    sig: str
    keyid: str = ""


class _Envelope(msgspec.Struct):
    payload: str
    payloadType: str  # noqa: N815 - DSSE's name
    signatures: list[_Signature]


# Built at import, as two threads must not.
_STATEMENT = msgspec.json.Decoder(_Statement)
_ENVELOPE = msgspec.json.Decoder(_Envelope)


def statement(name: str, data: bytes) -> bytes:
    """What is signed: that the object ``name`` of a store is these bytes."""
    subject = {"name": name, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}
    told = {
        "_type": STATEMENT_TYPE,
        "subject": [subject],
        "predicateType": PREDICATE_TYPE,
        "predicate": {},
    }
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


def sign(name: str, data: bytes, signer: Any) -> bytes:
    """The envelope of an object, in JSON. Raises what the signer raises."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(statement(name, data), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return json.dumps(envelope.to_dict(), sort_keys=True, separators=(",", ":")).encode()


def verify(name: str, data: bytes, envelope: bytes, keys: Sequence[TrustedKey]) -> TrustedKey:
    """Whose of these keys signed the object; raises :class:`Untrusted` where none did."""
    if not envelope:
        raise Untrusted("not signed")
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import UnverifiedSignatureError

    payload, signatures = _open(envelope)
    signed = Envelope(payload, PAYLOAD_TYPE, {}).pae()
    for signature in signatures:
        for key in keys:
            if signature.keyid and signature.keyid != key.keyid:  # a hint, says DSSE
                continue
            try:
                key.key.verify_signature(signature, signed)
            except UnverifiedSignatureError:
                continue
            _compare(payload, name, data)
            return key
    raise Untrusted("not signed by a trusted key")


def key_ids(envelope: bytes) -> list[str]:
    """The ids of the keys that an envelope claims, verified or not; of an unreadable one none."""
    try:
        return [signature.keyid for signature in _open(envelope)[1]] if envelope else []
    except Untrusted:
        return []


def _open(envelope: bytes) -> tuple[bytes, list[Any]]:
    """The payload and the signatures, of which the library makes its own kind."""
    from base64 import b64decode

    signature = sslib().Signature
    if len(envelope) > MAX_BYTES:
        raise Untrusted("its envelope is too large")
    try:
        told = _ENVELOPE.decode(envelope)
        if told.payloadType != PAYLOAD_TYPE or len(told.signatures) > MAX_SIGNATURES:
            raise Untrusted("its envelope is of another kind")
        found = [signature(s.keyid, b64decode(s.sig, validate=True).hex()) for s in told.signatures]
        return b64decode(told.payload, validate=True), found
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Untrusted("its envelope cannot be read") from None


def _compare(payload: bytes, name: str, data: bytes) -> None:
    """Whether what was signed speaks of this object."""
    try:
        told = _STATEMENT.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Untrusted("what was signed is no statement") from None
    if told.type != STATEMENT_TYPE or told.predicateType != PREDICATE_TYPE:
        raise Untrusted("what was signed is no statement about a manifest")
    digest = hashlib.sha256(data).hexdigest()
    for subject in told.subject:
        if subject.name == name and subject.digest.get("sha256") == digest:
            return
    raise Untrusted("signed for another object")
