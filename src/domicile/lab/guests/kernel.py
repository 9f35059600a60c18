"""The kernel inside a packed one.

Format: Linux `Documentation/arch/x86/boot.rst` (bzImage header: `setup_sects` at 0x1f1, `payload_offset` at 0x248,
`payload_length` at 0x24c).
"""

from __future__ import annotations

import gzip
import lzma
import struct
import zlib

from domicile.errors import HostFailed

__all__ = ["unpacked_kernel"]

XZ_MAGIC = b"\xfd7zXZ\x00"
GZIP_MAGIC = b"\x1f\x8b"


def unpacked_kernel(bzimage: bytes) -> bytes:
    """The ELF `vmlinux` in a bzImage: Xen takes it as it is, and unpacking it emulated would cost many seconds.

    Raises `HostFailed` for what is no bzImage, or is packed otherwise than Debian does it.
    """
    if bzimage[0x202:0x206] != b"HdrS":
        raise HostFailed("Debian's kernel package holds no bzImage; the lab knows no other kind of kernel")
    try:
        setup_sectors = bzimage[0x1F1] or 4
        offset, length = struct.unpack_from("<II", bzimage, 0x248)
        start = (setup_sectors + 1) * 512 + offset
        return _unpacked(bzimage[start : start + length])
    except (struct.error, lzma.LZMAError, OSError, EOFError, zlib.error) as error:
        raise HostFailed(f"Debian's kernel cannot be unpacked: {error}") from error


def _unpacked(payload: bytes) -> bytes:
    if payload.startswith(XZ_MAGIC):
        # four bytes with the unpacked size follow the stream
        stream = lzma.LZMADecompressor()
        data = stream.decompress(payload)
        if not stream.eof:
            raise EOFError("its end is missing")
        return data
    if payload.startswith(GZIP_MAGIC):
        return gzip.decompress(payload[:-4])
    raise HostFailed("Debian's kernel is packed in a way that the lab does not know (neither xz nor gzip)")
