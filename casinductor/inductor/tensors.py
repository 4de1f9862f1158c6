"""A graph's inputs as torch describes them in a key: ``TensorMetadata(...)``.

Invariant: anything else has no fields.
"""

from __future__ import annotations

import re

_TENSOR = re.compile(r"TensorMetadata\((.*)\)\Z", re.DOTALL)


def tensor_fields(value: str) -> dict[str, str]:
    """The fields of a TensorMetadata's repr; empty for anything else."""
    match = _TENSOR.match(value.strip())
    if not match:
        return {}
    parts, depth, start = [], 0, 0
    text = match[1]
    for position, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    pairs = (part.strip().partition("=") for part in parts)
    return {name: value for name, separator, value in pairs if separator}


def shape_text(value: str) -> str:
    match = re.fullmatch(r"torch\.Size\(\[(.*)\]\)", value)
    return f"[{match[1].replace(' ', '')}]" if match else value


def device_text(value: str) -> str:
    match = re.fullmatch(r"device\(type='(\w+)'(?:, index=(\d+))?\)", value)
    if not match:
        return value
    return match[1] if match[2] is None else f"{match[1]}:{match[2]}"
