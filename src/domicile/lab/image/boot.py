"""What the machine boots from the outside: Xen and a kernel unpacked, and an initramfs.

Formats: Linux `Documentation/arch/x86/boot.rst` (bzImage header: `setup_sects` at 0x1f1, `payload_offset` at 0x248,
`payload_length` at 0x24c) and `Documentation/driver-api/early-userspace/buffer-format.rst` (newc cpio).
"""

from __future__ import annotations

import gzip
import lzma
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from domicile.errors import HostFailed
from domicile.lab.image.recipe import INITRAMFS_MODULES

__all__ = ["Entry", "cpio", "initramfs", "modules_in_order", "unpacked_kernel", "unpacked_xen"]

XZ_MAGIC = b"\xfd7zXZ\x00"
GZIP_MAGIC = b"\x1f\x8b"
TRAILER = "TRAILER!!!"


def unpacked_kernel(bzimage: bytes) -> bytes:
    """The ELF `vmlinux` in a bzImage: Xen takes it as it is, and unpacking it emulated would cost many seconds."""
    if bzimage[0x202:0x206] != b"HdrS":
        raise HostFailed("Debian's kernel package holds no bzImage; the lab knows no other kind of kernel")
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = bzimage[start : start + length]
    if payload.startswith(XZ_MAGIC):
        # four bytes with the unpacked size follow the stream
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(GZIP_MAGIC):
        return gzip.decompress(payload[:-4])
    raise HostFailed("Debian's kernel is packed in a way that the lab does not know (neither xz nor gzip)")


def unpacked_xen(gzipped: bytes) -> bytes:
    """The multiboot ELF in `xen-*.gz`: QEMU's `-kernel` takes no packed one."""
    return gzip.decompress(gzipped)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an initramfs: a directory where `data` is None, a symbolic link (to `data`) where `link`."""

    name: str
    data: bytes | None = None
    mode: int = 0o755
    link: bool = False


def cpio(entries: list[Entry]) -> bytes:
    """A newc archive, everything owned by root."""
    parts: list[bytes] = []
    for number, entry in enumerate([*entries, Entry(TRAILER, b"")], start=1):
        kind = 0o040000 if entry.data is None else 0o120000 if entry.link else 0o100000
        data = entry.data or b""
        name = entry.name.encode() + b"\0"
        fields = (number, kind | entry.mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        parts += [_padded(header + name), _padded(data)]
    return b"".join(parts)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def modules_in_order(modules_dep: str, wanted: tuple[str, ...]) -> list[str]:
    """Paths (below `/lib/modules/VERSION/`) of modules and all they depend on, each after its dependencies.

    `modules_dep` is depmod's `modules.dep`: `module: dependency...`, where a dependency further to the right is to be
    loaded earlier.
    """
    dependencies: dict[str, list[str]] = {}
    for line in modules_dep.splitlines():
        path, _, rest = line.partition(":")
        dependencies[path.strip()] = rest.split()
    by_name = {Path(path).name.split(".")[0].replace("-", "_"): path for path in dependencies}

    ordered: list[str] = []
    for name in wanted:
        if name not in by_name:
            raise HostFailed(f"Debian's kernel has no module {name}, which Dom0 boots with")
        for path in (*reversed(dependencies[by_name[name]]), by_name[name]):
            if path not in ordered:
                ordered.append(path)
    return ordered


def initramfs(tree: Path, modules: Path, init: bytes) -> bytes:
    """Dom0's initramfs out of the unpacked tree: busybox, the modules of its disk and `init`."""
    order = modules_in_order((modules / "modules.dep").read_text(), INITRAMFS_MODULES)
    names = [Path(path).name for path in order]
    entries = [Entry(name) for name in ("bin", "dev", "proc", "sys", "root", "modules")]
    entries += [
        Entry(f"modules/{name}", (modules / path).read_bytes()) for name, path in zip(names, order, strict=True)
    ]
    entries.append(Entry("modules/order", "".join(f"{name}\n" for name in names).encode(), 0o644))
    entries += _busybox(tree)
    entries.append(Entry("init", init))
    return cpio(entries)


def _busybox(tree: Path) -> Iterator[Entry]:
    """Busybox, and a link by name for each command that init uses."""
    yield Entry("bin/busybox", (tree / "usr/bin/busybox").read_bytes())
    for applet in ("sh", "mount", "insmod", "usleep", "reboot", "switch_root"):
        yield Entry(f"bin/{applet}", b"busybox", link=True)
