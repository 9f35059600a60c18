"""Write an archive that Linux takes as an initramfs: the "newc" form of cpio.

Sources: Linux 6.1, Documentation/driver-api/early-userspace/buffer-format.rst and init/initramfs.c; cpio(5). The
standard library has no cpio, and `cpio(1)` wants a tree on disk with every owner and time set before two builds agree:
the few lines that write an archive from memory are less.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Directory", "Entry", "File", "Link", "archive"]

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
ALIGNMENT = 4


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory, mode 755."""

    path: str


@dataclass(frozen=True, slots=True)
class File:
    """A regular file; mode 755 if `executable`, else 644."""

    path: str
    content: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link to `target`."""

    path: str
    target: str


Entry = Directory | File | Link


def archive(entries: Iterable[Entry]) -> bytes:
    """The entries, in their order, as an archive: the same entries give the same bytes.

    Paths are relative (no leading slash); a directory comes before what is in it. Everything belongs to root and dates
    from 1970. Raises ValueError for a path that is empty, absolute or there twice.
    """
    parts: list[bytes] = []
    seen: set[str] = set()
    for inode, entry in enumerate(entries, start=1):
        if not entry.path or entry.path.startswith("/") or "\0" in entry.path or entry.path == TRAILER:
            raise ValueError(f"{entry.path!r} cannot be a path in an initramfs")
        if entry.path in seen:
            raise ValueError(f"{entry.path!r} is there twice")
        seen.add(entry.path)
        parts.append(_member(inode, entry.path, *_mode_and_content(entry)))
    parts.append(_member(0, TRAILER, 0, b""))
    return b"".join(parts)


def _mode_and_content(entry: Entry) -> tuple[int, bytes]:
    if isinstance(entry, Directory):
        return stat.S_IFDIR | 0o755, b""
    if isinstance(entry, Link):
        return stat.S_IFLNK | 0o777, entry.target.encode()
    return stat.S_IFREG | (0o755 if entry.executable else 0o644), entry.content


def _member(inode: int, path: str, mode: int, content: bytes) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    # inode, mode, uid, gid, links, mtime, size, device (2), device node (2), name's size, checksum (unused in newc)
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
    header = MAGIC + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % ALIGNMENT)
