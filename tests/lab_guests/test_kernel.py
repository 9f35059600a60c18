"""The kernel inside a packed one."""

from __future__ import annotations

import gzip
import lzma
import struct

import pytest
from kernels import bzimage

from domicile.errors import HostFailed
from domicile.lab.guests.kernel import unpacked_kernel


def test_kernels_are_unpacked() -> None:
    size = struct.pack("<I", 4)
    assert unpacked_kernel(bzimage(lzma.compress(b"\x7fELF") + size)) == b"\x7fELF"
    assert unpacked_kernel(bzimage(gzip.compress(b"\x7fELF") + size)) == b"\x7fELF"
    with pytest.raises(HostFailed, match="neither xz nor gzip"):
        unpacked_kernel(bzimage(b"\x04\x22"))
    for broken in (b"", bytes(2048), b"MZ"):
        with pytest.raises(HostFailed, match="no bzImage"):
            unpacked_kernel(broken)


def test_a_kernel_that_is_cut_is_told() -> None:
    whole = bzimage(lzma.compress(bytes(9999)) + bytes(4))
    for cut in (0x220, 2000, len(whole) - 40):
        with pytest.raises(HostFailed):
            unpacked_kernel(whole[:cut])
