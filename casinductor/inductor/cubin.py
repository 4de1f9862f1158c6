"""Registers and stack of a kernel, from the notes that ptxas leaves in a cubin.

Invariant: a cubin is data; what is not understood is unknown, never guessed, and nothing raises
for bad bytes. Format: ELF with a section ``.nv.info`` of attributes (format, attribute, size,
value); 0x2f is EIATTR_REGCOUNT and 0x11 EIATTR_FRAME_SIZE, each a pair of 32-bit integers
(symbol, value), as ``cuobjdump -elf`` prints them.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

_REGISTERS, _FRAME_BYTES = 0x2F, 0x11
_SMALLEST_HEADER, _MOST_SECTIONS = 40, 4096
_SIZED = 4  # the format whose third field is a size; in the others it is the value


@dataclass(frozen=True)
class Resources:
    """``registers`` per thread; ``stack_bytes`` per thread in local memory: spilled values and
    local arrays alike (Triton calls a fourth of it ``n_spills``). None where the cubin is silent.
    """

    registers: int | None = None
    stack_bytes: int | None = None


def resources(data: bytes) -> Resources:
    """What the cubin tells of its kernel; of several kernels, the most demanding."""
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(io.BytesIO(data))
        if elf["e_shentsize"] < _SMALLEST_HEADER or elf.num_sections() > _MOST_SECTIONS:
            return Resources()  # a header may announce more than anyone could walk through
        section = elf.get_section_by_name(".nv.info")
        notes = b"" if section is None else section.data()
    except Exception:  # elftools raises many kinds for bad bytes
        return Resources()
    found: dict[int, int] = {}
    position = 0
    while position + 4 <= len(notes):
        kind, attribute, size = struct.unpack_from("<BBH", notes, position)
        position += 4
        if kind != _SIZED:
            continue
        if attribute in (_REGISTERS, _FRAME_BYTES) and size == 8 and position + 8 <= len(notes):
            (value,) = struct.unpack_from("<I", notes, position + 4)
            found[attribute] = max(value, found.get(attribute, 0))
        position += size
    return Resources(found.get(_REGISTERS), found.get(_FRAME_BYTES))
