"""What the client of object stores raises, as errors of ours.

Invariant: a sentence names what was done where and why it failed, without the client's debugging
output and without secrets.
"""

from __future__ import annotations

import re

from casinductor.errors import ObjectMissing, StoreFull, StoreReadOnly, StoreUnavailable
from casinductor.store.backends.unreachable import why_unreachable

_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_STATUS = re.compile(r"status code: (\d{3}[^:\n]{0,40})")
_ASKED = re.compile(r"(?:GET|HEAD|PUT|POST|DELETE) (https?://[^\s/]{1,300})")
_FULL = ("507 ", "QuotaExceeded", "StorageFull", "InsufficientStorage", "EntityTooLarge")


def client_error(
    error: Exception, doing: str, where: str, *, writing: bool = False
) -> StoreUnavailable:
    """What the client raised, ``doing`` ("writing") something at ``where``, in one sentence."""
    import obstore

    text = str(error)
    sentence = f"{doing} {where} failed: {_unanswered(text) or _short(text)}"
    if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in text:
        return ObjectMissing(sentence)
    if any(sign in text for sign in _FULL):
        return StoreFull(sentence)
    refused = (
        obstore.exceptions.PermissionDeniedError,
        obstore.exceptions.UnauthenticatedError,
    )
    if writing and isinstance(error, refused):
        return StoreReadOnly(f"the store is read-only for these credentials: {sentence}")
    return StoreUnavailable(sentence)


def broken_off() -> tuple[type[Exception], ...]:
    """What a read raises that may go well the next time; refusals and absences do not."""
    import obstore

    return (obstore.exceptions.GenericError,)


def _unanswered(text: str) -> str:
    """Why a request got no answer at all, where the client does not say it."""
    asked = _ASKED.search(text)
    return why_unreachable(asked[1]) if asked and "error sending request" in text else ""


def _short(text: str) -> str:
    """The client's message without its debugging output: status, the server's code, the cause."""
    first = text.split("\n\nDebug source", 1)[0]
    signs = [
        found.group(1).strip() for found in (_STATUS.search(text), _CODE.search(text)) if found
    ]
    if signs:
        return ", ".join(signs)
    return " ".join(first.split())[:300]
