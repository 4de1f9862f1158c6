"""Remembers, per local directory, which cache brought which file and what it held.

Invariant: a record speaks of a file only while its stamp is unchanged; a lost record costs a
re-read, never a wrong answer. One file per cache under ``.casinductor/owners``, replaced whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from casinductor.worker import PRIVATE
from casinductor.worker.lock import private_folder

#: (size, mtime ns, ctime ns, inode): see ``inductor.directory.Stamp``.
StampTuple = tuple[int, int, int, int]


class Ownership(msgspec.Struct, gc=False):
    """The files one cache put into this directory: stamp and blake3 by path."""

    cache: str
    files: dict[str, tuple[StampTuple, bytes]]


_DECODER = msgspec.msgpack.Decoder(Ownership)  # built at import, as two threads must not


def write_record(root: str, name: str, record: Ownership) -> None:
    """Keep the record as ``name`` (hex); a directory that cannot be written keeps none."""
    folder = os.path.join(private_folder(root), "owners")
    temporary = os.path.join(folder, f".{name}.{os.getpid()}")
    with suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(msgspec.msgpack.encode(record))
        os.replace(temporary, os.path.join(folder, name))


def read_records(root: str) -> dict[str, Ownership]:
    """All records of a directory by name; damaged ones are passed over."""
    folder = os.path.join(root, PRIVATE, "owners")
    records: dict[str, Ownership] = {}
    try:
        found = sorted(os.listdir(folder))
    except OSError:
        return records
    for name in found:
        with suppress(OSError, msgspec.MsgspecError):
            if not name.startswith("."):
                with open(os.path.join(folder, name), "rb") as file:
                    records[name] = _DECODER.decode(file.read())
    return records


def is_owned_by(records: Iterable[Ownership], path: str, stamp: StampTuple) -> bool:
    """Whether a restore of one of these caches put this very file there.

    Size and change time are left out, as setting access times moves the latter.
    """
    for record in records:
        known = record.files.get(path)
        if known is not None and known[0][1] == stamp[1]:
            return known[0][3] == stamp[3]
    return False
