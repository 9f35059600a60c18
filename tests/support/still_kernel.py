"""A PVH kernel that does nothing: for tests on the real Xen in which memory and affinity matter, and no guest has to
boot.

An ELF file of 32 bits with Xen's note for where to start (XEN_ELFNOTE_PHYS32_ENTRY, xen/include/public/elfnote.h). It
halts with interrupts on: a vCPU that halts with them off ends its domain (`hvm_hlt`, xen/arch/x86/hvm/hvm.c, 4.17).
"""

from __future__ import annotations

import struct

__all__ = ["still_kernel"]

START = 1 << 20
PHYS32_ENTRY = 18
CODE = bytes.fromhex("fb f4 eb fd")  # sti; hlt; and again the hlt
EHDR, PHDR = 52, 32
PT_LOAD, PT_NOTE = 1, 4
EM_386 = 3


def still_kernel() -> bytes:
    """The file."""
    at_note = EHDR + 2 * PHDR
    note = struct.pack("<III4sI", 4, 4, PHYS32_ENTRY, b"Xen\0", START)
    at_code = at_note + len(note)
    ident = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    ehdr = ident + struct.pack("<HHIIIIIHHHHHH", 2, EM_386, 1, START, EHDR, 0, 0, EHDR, PHDR, 2, 0, 0, 0)
    load = struct.pack("<IIIIIIII", PT_LOAD, at_code, START, START, len(CODE), len(CODE), 5, 4)
    notes = struct.pack("<IIIIIIII", PT_NOTE, at_note, 0, 0, len(note), len(note), 4, 4)
    return ehdr + load + notes + note + CODE
