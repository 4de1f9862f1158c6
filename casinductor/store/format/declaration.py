"""FORMAT, the file by which a store declares its format.

Invariant: what it says is covered by a checksum; a file that is not whole is never half believed.
Format: ``docs/format.md``, "FORMAT".
"""

from __future__ import annotations

import json

from casinductor.store.format.frame import blake3_digest
from casinductor.store.format.ulid import new_ulid

FORMAT_VERSION = 1


def format_file(publish: str) -> bytes:
    """The bytes of a FORMAT file: two lines, JSON and the blake3 of that line in hex."""
    fields = {"format": FORMAT_VERSION, "publish": publish, "store": new_ulid()}
    line = json.dumps(fields, sort_keys=True).encode()
    return line + b"\n" + blake3_digest(line).hex().encode() + b"\n"


def parse_format(data: bytes) -> dict[str, object]:
    """The fields of a FORMAT file. Raises ValueError if it is not whole."""
    line, _, rest = data.partition(b"\n")
    if rest.strip() != blake3_digest(line).hex().encode():
        raise ValueError("it fails its checksum")
    fields = json.loads(line)
    if not isinstance(fields, dict) or not isinstance(fields.get("format"), int):
        raise ValueError("it names no format")
    return {"publish": None, **fields}
