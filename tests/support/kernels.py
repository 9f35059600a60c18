"""Packed kernels, as much of them as anybody reads."""

from __future__ import annotations

import struct


def bzimage(payload: bytes, sectors: int = 3) -> bytes:
    """A bzImage with this payload."""
    head = bytearray((sectors + 1) * 512)
    head[0x1F1] = sectors
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", head, 0x248, 16, len(payload))
    return bytes(head) + bytes(16) + payload + b"after"
