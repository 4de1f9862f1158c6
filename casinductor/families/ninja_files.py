"""The two files in which ninja remembers what it built, made portable and local again.

Invariant: in a portable form every time is zero, so that equal builds are equal bytes; a local form
holds one moment in every place, which its caller also gives to all files of the directory, because
ninja compares times and nothing else. Formats: ninja's ``build_log.cc`` (versions 5 to 7) and
``deps_log.cc`` (versions 3 and 4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from casinductor.util.pattern import Pattern

_LOG_HEAD = Pattern(rb"# ninja log v([567])\n")
_DEPS_HEAD = b"# ninjadeps\n"
_FLAG = 1 << 31
#: Of a record of dependencies: the output's number, its time, and the numbers of its inputs.
_TIME_AT, _TIME_BYTES = 4, {3: 4, 4: 8}

#: In the directory that was built.
NAMES = (".ninja_log", ".ninja_deps")


def log_at(data: bytes, moment: int) -> bytes:
    """A log whose every time is ``moment`` (nanoseconds since 1970) and that lists each output
    once; other bytes come back unchanged.
    """
    head = _LOG_HEAD.match(data)
    if head is None:
        return data
    lines = (
        b"\t".join((b"0", b"0", b"%d" % moment, output, command)) + b"\n"
        for output, command in sorted(_built(data).items())
    )
    return head[0] + b"".join(lines)


def outputs(data: bytes) -> list[str]:
    """What a log says was built, as paths that may be relative to its directory."""
    return sorted(output.decode("utf-8", "replace") for output in _built(data))


def _built(data: bytes) -> dict[bytes, bytes]:
    """What a log says was built, each with the hash of its last command."""
    head = _LOG_HEAD.match(data)
    lines = data[head.end() :].splitlines() if head else ()
    found = (line.split(b"\t") for line in lines)
    return {parts[3]: parts[4] for parts in found if len(parts) == 5}


def deps_at(data: bytes, moment: int) -> bytes:
    """Recorded dependencies whose every time is ``moment``; other bytes come back unchanged."""
    version = _deps_version(data)
    width = _TIME_BYTES.get(version, 0)
    if not width:
        return data
    result = bytearray(data)
    value = moment if width == 8 else moment // 10**9
    for start, size, is_record in _records(data):
        if is_record and size >= _TIME_AT + width:
            result[start + _TIME_AT : start + _TIME_AT + width] = value.to_bytes(width, "little")
    return bytes(result)


def inputs(data: bytes) -> list[str]:
    """Every path that recorded dependencies name: outputs, sources and headers."""
    if not _deps_version(data):
        return []
    paths = set()
    for start, size, is_record in _records(data):
        if not is_record and size > 4:
            path = data[start : start + size - 4].rstrip(b"\0")
            paths.add(path.decode("utf-8", "replace"))
    return sorted(paths)


def _deps_version(data: bytes) -> int:
    """The format's version; 0 for what is none."""
    at = len(_DEPS_HEAD)
    if not data.startswith(_DEPS_HEAD) or len(data) < at + 4:
        return 0
    version: int = struct.unpack_from("<I", data, at)[0]
    return version if version in _TIME_BYTES else 0


def _records(data: bytes) -> Iterator[tuple[int, int, bool]]:
    """Where each record begins, its bytes, and whether it is one of dependencies; a torn one at the
    end is left out.
    """
    at = len(_DEPS_HEAD) + 4
    while at + 4 <= len(data):
        size: int = struct.unpack_from("<I", data, at)[0]
        at += 4
        is_record, size = bool(size & _FLAG), size & ~_FLAG
        if at + size > len(data):
            return
        yield at, size, is_record
        at += size
