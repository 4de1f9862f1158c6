"""Reads fxgraph and aotautograd entries as data: their opcodes are scanned, never executed.

Invariant: reading an entry has no effect beyond memory proportional to its size; what cannot be
understood is *opaque* (``guards`` unknown), never guessed. Formats: pickle protocol 4 and 5 as in
``Lib/pickletools.py``; field names as in torch 2.5 to 2.15 (``docs/torch.md``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

#: Payloads of this many bytes and more become blobs of their own.
CUT_BYTES = 1024

# One match runs over all opcodes of fixed width up to the next one that carries a payload, which
# takes Python's interpreter out of nine steps in ten.
_FIXED = re.compile(
    rb"(?:[\x94(\x85-\x87)\]}sbaeut0N12\x81\x88\x89\x8f-\x93R\x97\x98Qdlo]"
    rb"|[Khq\x80\x82].|[M\x83]..|[jJr\x84]....|[\x95G]........)*",
    re.DOTALL,
)
_WIDTH = {0x8C: 1, 0x43: 1, 0x55: 1, 0x8A: 1}
_WIDTH |= {0x58: 4, 0x42: 4, 0x54: 4, 0x8B: 4}
_WIDTH |= {0x8D: 8, 0x8E: 8, 0x96: 8}
TEXT = {0x8C, 0x58, 0x8D}
_BYTES = {0x43, 0x42, 0x8E, 0x96}
_RECALLS = {0x68, 0x6A}
_LONG1, _STOP, _MEMOIZE, _NONE, _FRAME = 0x8A, 0x2E, 0x94, 0x4E, 0x95
_STACK_GLOBAL = 0x93

#: Triton names a kernel's folder by its hash: base32, or base64url (Triton 3.2, with torch 2.6).
KERNEL_HASH = re.compile(rb"[A-Z2-7]{52}|[0-9A-Za-z_-]{43}")
_HASH_SIZES = {43, 51, 52, 53}
_FX_KEY = re.compile(rb"f[a-z2-7]{51,52}")
_DEVICE_LINE = re.compile(rb"\[\w+\] system_info\[device\]: \{'name': '([^']{1,100})'\}")
#: What generated source says when loading it runs or loads machine code for the CPU.
_COMPILES_CPP = (b"cpp_pybinding", b"async_compile.cpp", b"#include <")


#: One length-prefixed operand: its opcode, and where its bytes start and end in the entry.
Payload = tuple[int, int, int]


@dataclass
class Entry:
    """What one pickle says about itself.

    ``guards`` is the guard expression (``""`` for none), or None when the entry is opaque;
    ``reason`` then says why. ``cuts`` are byte offsets at which the entry is split into blobs.
    """

    kind: str
    key: str
    guards: str | None = None
    reason: str = ""
    compile_ns: int | None = None
    fx_keys: list[str] = field(default_factory=list)
    device: str | None = None
    compiles_cpp: bool = False
    bundled: set[str] = field(default_factory=set)
    cuts: list[int] = field(default_factory=list)


def scan(data: bytes) -> list[Payload]:
    """All payloads of a pickle in order. Raises ValueError for anything but one whole pickle."""
    payloads: list[Payload] = []
    position, size, fixed, widths, append = 0, len(data), _FIXED.match, _WIDTH, payloads.append
    if data[:1] != b"\x80" or size < 2 or data[1] not in (4, 5):
        raise ValueError("not a pickle of protocol 4 or 5")
    while True:
        match = fixed(data, position)
        position = match.end() if match else position
        if position >= size:
            raise ValueError("the pickle ends early")
        opcode = data[position]
        if opcode == _STOP:
            if position + 1 != size:
                raise ValueError("bytes follow the pickle's end")
            return payloads
        width = widths.get(opcode)
        if width is None:
            raise ValueError(f"opcode {opcode:#04x} at byte {position}")
        start = position + 1 + width
        if start > size:
            raise ValueError("the pickle ends early")
        if width == 1:  # by far the most frequent
            position = start + data[start - 1]
        else:
            position = start + int.from_bytes(data[position + 1 : start], "little")
        if position > size:
            raise ValueError("a payload runs past the pickle's end")
        append((opcode, start, position))


def read_entry(kind: str, key: str, data: bytes, payloads: list[Payload] | None = None) -> Entry:
    """Read one entry; ``kind`` is ``fxgraph`` or ``aotautograd``, ``key`` its directory's name.

    ``payloads``, from :func:`scan`, spare scanning again. Never raises for bad bytes: an entry that
    cannot be read is opaque, with a reason.
    """
    entry = Entry(kind, key)
    try:
        payloads = scan(data) if payloads is None else payloads
    except ValueError as error:
        entry.reason = str(error)
        return entry
    names = _names(data, payloads)
    entry.cuts = _cuts(payloads)
    entry.compile_ns = _compile_ns(data, payloads, names)
    entry.guards, entry.reason = _guards(data, payloads, names, kind)
    if kind == "aotautograd":
        entry.fx_keys = sorted(_matching(data, payloads, _FX_KEY))
    entry.device = _device(data, payloads)
    entry.compiles_cpp = _compiles_cpp(data, payloads, names)
    if bundle := names.get(b"_triton_bundle"):
        entry.bundled = _matching(data, payloads[bundle[0] :], KERNEL_HASH)
    return entry


def _names(data: bytes, payloads: list[Payload]) -> dict[bytes, list[int]]:
    """Where the attribute names that matter stand among the payloads."""
    found: dict[bytes, list[int]] = {}
    for index, (opcode, start, end) in enumerate(payloads):
        if opcode == 0x8C and end - start in _WANTED_SIZES:
            text = data[start:end]
            if text in _WANTED:
                found.setdefault(text, []).append(index)
    return found


_WANTED = (
    b"guards_expr",
    b"_time_taken_ns",
    b"forward_time_taken_ns",
    b"backward_time_taken_ns",
    b"_triton_bundle",
    b"source_code",
    b"CompiledFxGraph",
)
_WANTED_SIZES = {len(name) for name in _WANTED}


def _operand(data: bytes, payloads: list[Payload], index: int) -> tuple[int, Payload | None]:
    """The opcode that follows payload ``index``, past MEMOIZE and FRAME, and its payload if any."""
    position = payloads[index][2]
    while data[position] in (_MEMOIZE, _FRAME):
        position += 9 if data[position] == _FRAME else 1
    follower = payloads[index + 1] if index + 1 < len(payloads) else None
    opcode = data[position]
    if follower and follower[1] == position + 1 + _WIDTH.get(opcode, 0) and opcode in _WIDTH:
        return opcode, follower
    return opcode, None


def _guards(
    data: bytes, payloads: list[Payload], names: dict[bytes, list[int]], kind: str
) -> tuple[str | None, str]:
    """The guard expression (``""`` for none), or None and the reason why it is unknown."""
    if kind == "aotautograd" and b"CompiledFxGraph" in names:
        return None, "it bundles compiled graphs with guards of their own"
    places = names.get(b"guards_expr", [])
    if len(places) != 1:
        return None, "it does not name its guards once"
    opcode, payload = _operand(data, payloads, places[0])
    if opcode == _NONE:
        return "", ""
    if payload is not None and opcode in TEXT:
        if _names_a_global(data, payloads, places[0] + 1):
            return None, "its guards are an object"
        return data[payload[1] : payload[2]].decode("utf-8", "replace"), ""
    text = _recalled(data, payloads[places[0]][2]) if opcode in _RECALLS else None
    return text, "" if text is not None else "its guards are not a string"


def _names_a_global(data: bytes, payloads: list[Payload], index: int) -> bool:
    """Whether the string at ``index`` and the next one are the module and name of an object."""
    _, following = _operand(data, payloads, index)
    if following is None:
        return False
    position = following[2]
    while data[position] in (_MEMOIZE, _FRAME):
        position += 9 if data[position] == _FRAME else 1
    return data[position] == _STACK_GLOBAL


def _recalled(data: bytes, after: int) -> str | None:
    """The string that the memo reference behind byte ``after`` stands for, if it is one.

    Needs the number of every MEMOIZE before it, so it walks all opcodes; few entries need it.
    """
    import pickletools

    memo: list[object] = []
    last: object = None
    for opcode, argument, position in pickletools.genops(data):
        if opcode.name == "MEMOIZE":
            memo.append(last)
        elif position is not None and position >= after and opcode.name != "FRAME":
            found = memo[argument] if isinstance(argument, int) and argument < len(memo) else None
            return found if isinstance(found, str) else None
        elif opcode.name != "FRAME":
            last = argument if "UNICODE" in opcode.name else None
    return None


def _device(data: bytes, payloads: list[Payload]) -> str | None:
    """The accelerator's name that the entry's key was computed with (torch 2.8 and later)."""
    for opcode, start, end in payloads:
        if opcode not in TEXT or not 70 < end - start < 300 or data[start] != 0x5B:
            continue
        if match := _DEVICE_LINE.fullmatch(data, start, end):
            return match[1].decode("utf-8", "replace")
    return None


def _compiles_cpp(data: bytes, payloads: list[Payload], names: dict[bytes, list[int]]) -> bool:
    """Whether the generated source compiles C++; without a source, whether any byte says so."""
    for index in names.get(b"source_code", ()):
        _, payload = _operand(data, payloads, index)
        if payload is not None:
            return any(data.find(m, payload[1], payload[2]) >= 0 for m in _COMPILES_CPP)
    return any(marker in data for marker in _COMPILES_CPP)


def _compile_ns(data: bytes, payloads: list[Payload], names: dict[bytes, list[int]]) -> int | None:
    """Nanoseconds the compile took, merge_causes over forward and backward."""
    total, found = 0, False
    for name in (b"_time_taken_ns", b"forward_time_taken_ns", b"backward_time_taken_ns"):
        for index in names.get(name, ())[:1]:
            value = _integer(data, payloads, index)
            if value is not None:
                total, found = total + value, True
    return total if found else None


def _integer(data: bytes, payloads: list[Payload], index: int) -> int | None:
    opcode, payload = _operand(data, payloads, index)
    if opcode == _LONG1 and payload is not None:
        return int.from_bytes(data[payload[1] : payload[2]], "little", signed=True)
    position = payloads[index][2]
    while data[position] == _MEMOIZE:
        position += 1
    width = {0x4B: 1, 0x4D: 2, 0x4A: 4}.get(opcode)
    if width is None:
        return None
    return int.from_bytes(data[position + 1 : position + 1 + width], "little", signed=width == 4)


def _matching(data: bytes, payloads: list[Payload], pattern: re.Pattern[bytes]) -> set[str]:
    """Short strings among the payloads that are wholly of one shape, such as keys."""
    return {
        data[start:end].decode("ascii")
        for opcode, start, end in payloads
        if opcode == 0x8C and end - start in _HASH_SIZES and pattern.fullmatch(data, start, end)
    }


def _cuts(payloads: list[Payload]) -> list[int]:
    """Offsets around every string or bytes payload of at least :data:`CUT_BYTES`."""
    cuts: list[int] = []
    for opcode, start, end in payloads:
        if end - start >= CUT_BYTES and (opcode in _BYTES or opcode in TEXT):
            cuts += (start, end)
    return cuts


def text_of(data: bytes, payloads: list[Payload], name: str) -> str | None:
    """The string that follows the first attribute of this name, if one does."""
    wanted = name.encode()
    for index, (opcode, start, end) in enumerate(payloads):
        if opcode == 0x8C and end - start == len(wanted) and data[start:end] == wanted:
            follower, payload = _operand(data, payloads, index)
            if payload is not None and follower in TEXT:
                return data[payload[1] : payload[2]].decode("utf-8", "replace")
            return None
    return None
