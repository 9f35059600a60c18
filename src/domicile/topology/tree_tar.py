"""A tar, plain or compressed, as a `FileTree`: read once, in memory, nothing written to disk.

The walk from header to header is done here rather than by `tarfile`, which reads a header extension of any size at
once and has, in Pythons that domicile runs on, hung on crafted archives (CVE-2024-6232, CVE-2025-8194). Here every
step moves forward and every size has a limit. Formats read (POSIX.1-2001 pax, "ustar Interchange Format", and GNU
tar's manual, "Basic Tar Format"): v7, ustar, GNU with long names and links, pax with `path`, `linkpath` and `size`.
A hard link becomes a link from the archive's root.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from domicile.errors import BadInput
from domicile.topology.tree import MAX_FILE_BYTES, FileTree, Kind

__all__ = ["TarFiles", "TarTree", "read_tar"]

BLOCK = 512
MAX_MEMBERS = 250_000
MAX_MEMBER_BYTES = 16 << 20
MAX_TOTAL_BYTES = 512 << 20
MAX_KEPT_BYTES = 128 << 20
# GNU tar pads to a record, and a record has at most 2047 blocks
MAX_PADDING_BYTES = 2 << 20
MAX_EXTENSION_BYTES = 64 << 10
MAX_PARTS = 64
XZ_MEMORY = 128 << 20
CHUNK = 64 << 10


# name, (mode, uid, gid), size, (mtime), checksum, type, link's target, magic, (version, owner, device), prefix
HEADER = struct.Struct("100s24x12s12x8sc100s6s82x155s12x")
OCTAL = re.compile(rb"[0-7]*")
FILE_TYPES = (b"0", b"\0", b"7")
HARD_LINK, LINK, FOLDER = b"1", b"2", b"5"
# devices and pipes; like links and folders they have no content, whatever their size says
SPECIAL_TYPES = (b"3", b"4", b"6")
LONG_NAME, LONG_TARGET = b"L", b"K"
PAX, PAX_GLOBAL, PAX_SOLARIS = b"x", b"g", b"X"
EXTENSIONS = (LONG_NAME, LONG_TARGET, PAX, PAX_GLOBAL, PAX_SOLARIS)


@dataclass(slots=True)
class _Header:
    """What a member's header says; `size` is -1 where it makes no sense."""

    name: str
    size: int
    type: bytes
    target: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is at one path of the archive, with a file's first bytes or a link's target."""

    kind: Kind
    data: bytes = b""
    target: str = ""


_FOLDER = _Entry(Kind.FOLDER)


class _Decompressor(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _XzFile:
    """xz with a limit on the memory that its dictionary may take, which `lzma.LZMAFile` has no word for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._xz = lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; empty at the end."""
        while True:
            if self._xz.eof:
                rest = self._xz.unused_data.lstrip(b"\0") or self._file.read(CHUNK).lstrip(b"\0")
                if not rest:
                    return b""
                self._xz = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            else:
                rest = self._file.read(CHUNK) if self._xz.needs_input else b""
                if not rest and self._xz.needs_input:
                    raise EOFError("compressed data ended too soon")
            data = self._xz.decompress(rest, size)
            if data:
                return data


class _Stream:
    """The archive's bytes, decompressed, with a limit on how many there may be."""

    def __init__(self, file: BinaryIO, source: str) -> None:
        self._source = source
        start = file.read(6)
        file.seek(0)
        self._file: _Decompressor
        if start.startswith(b"\x1f\x8b"):
            self._file = gzip.GzipFile(fileobj=file)
        elif start.startswith(b"BZh"):
            self._file = bz2.BZ2File(file)
        elif start.startswith(b"\xfd7zXZ\x00"):
            self._file = _XzFile(file)
        else:
            self._file = file
        self.at = 0

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end of the archive."""
        pieces = []
        left = size
        while left:
            piece = self._file.read(min(left, CHUNK))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        self.at += size - left
        if self.at > MAX_TOTAL_BYTES:
            raise BadInput(self._source, f"more than {MAX_TOTAL_BYTES >> 20} MiB in the archive")
        return b"".join(pieces)

    def finish(self) -> None:
        """Read what is after the archive's end, so that the compressed data's own checksum is looked at."""
        if len(self.read(MAX_PADDING_BYTES + 1)) > MAX_PADDING_BYTES:
            raise BadInput(self._source, "more than padding after the archive's end", f"byte {self.at}")

    def content(self, size: int, keep: int) -> bytes:
        """A member's content: its first `keep` bytes, the rest and the padding passed over."""
        data = self.read(min(size, keep))
        padded = -(-size // BLOCK) * BLOCK
        rest = padded - len(data)
        while rest > 0:
            piece = self.read(min(rest, CHUNK))
            if not piece:
                raise BadInput(self._source, "the archive is cut short", f"byte {self.at}")
            rest -= len(piece)
        return data


class TarFiles:
    """All of an archive, by path from its root."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.entries: dict[str, _Entry] = {"": _FOLDER}
        self.names: dict[str, list[str]] = {"": []}

    def add(self, name: str, entry: _Entry) -> None:
        """Put a member in its place; folders on the way there come into being, and of two files the later stays."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts or len(parts) > MAX_PARTS:
            raise BadInput(self.source, "a member's name leads out of the archive, or too deep into it", _shown(name))
        if not parts:
            return
        folder = "/".join(parts[:-1])
        if folder not in self.names:
            folder = ""
            for part in parts[:-1]:
                folder = self._place(folder, part, _FOLDER)
        self._place(folder, parts[-1], entry)

    def _place(self, folder: str, name: str, entry: _Entry) -> str:
        path = f"{folder}/{name}" if folder else name
        there = self.entries.get(path)
        if there is None:
            self.names[folder].append(name)
            if entry.kind is Kind.FOLDER:
                self.names[path] = []
        elif (there.kind is Kind.FOLDER) != (entry.kind is Kind.FOLDER):
            raise BadInput(self.source, "is a folder and something else at once", _shown(path))
        self.entries[path] = entry
        return path


class TarTree(FileTree):
    """The part of an archive under one folder, which is the tree's root."""

    def __init__(self, files: TarFiles, root: str, mount: str = "") -> None:
        super().__init__(files.source, mount)
        self._files = files
        self._root = root

    def _path(self, real: str) -> str:
        return f"{self._root}/{real}".strip("/")

    def _kind(self, real: str) -> Kind:
        entry = self._files.entries.get(self._path(real))
        return entry.kind if entry else Kind.MISSING

    def _link(self, real: str) -> str:
        return self._files.entries[self._path(real)].target

    def _read(self, real: str, limit: int) -> bytes | None:
        return self._files.entries[self._path(real)].data[:limit]

    def _names(self, real: str) -> list[str]:
        return self._files.names[self._path(real)]


def read_tar(path: Path, source: str) -> TarFiles:
    """Everything in a tar, plain or compressed with gzip, bzip2 or xz.

    Raises `BadInput` when it is no tar, is damaged or cut short, or holds more than any machine's `/sys` could.
    """
    try:
        with path.open("rb") as file:
            return _Reader(_Stream(file, source), source).files()
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise BadInput(source, f"the archive is damaged or cut short ({_reason(error)})") from None
    except OSError as error:
        raise BadInput(source, f"cannot be read ({_reason(error)})") from None


class _Reader:
    """The walk from header to header."""

    def __init__(self, stream: _Stream, source: str) -> None:
        self._stream = stream
        self._source = source
        self._kept = 0
        # what an extension says of the member after it
        self._next: dict[str, str] = {}

    def files(self) -> TarFiles:
        """Read to the end of the archive, which an empty block marks."""
        found = TarFiles(self._source)
        for header in self._headers():
            if len(found.entries) > MAX_MEMBERS:
                raise BadInput(self._source, f"more than {MAX_MEMBERS} files in the archive")
            if header.type in EXTENSIONS:
                self._read_extension(header)
                continue
            name = self._next.pop("path", header.name)
            target = self._next.pop("linkpath", header.target)
            self._next.clear()
            entry = self._entry(header, name, target)
            if entry is not None:
                found.add(name, entry)
        return found

    def _headers(self) -> Iterator[_Header]:
        while True:
            at = self._stream.at
            block = self._stream.read(BLOCK)
            if not block:
                raise BadInput(
                    self._source, "the archive is cut short" if at else "is empty", f"byte {at}" if at else ""
                )
            if not block.strip(b"\0"):
                self._stream.finish()
                return
            header = _parse_header(block)
            if header is None:
                problem = "the archive is damaged or cut short" if at else "no tar (plain, gzip, bzip2 or xz)"
                raise BadInput(self._source, problem, f"byte {at}")
            if header.type not in EXTENSIONS and "size" in self._next:
                told = self._next.pop("size")
                header.size = int(told) if told.isascii() and told.isdigit() and len(told) < 16 else -1
            if not 0 <= header.size <= MAX_MEMBER_BYTES:
                raise BadInput(self._source, f"{header.size} bytes: no file of a /sys is", _shown(header.name))
            yield header

    def _entry(self, header: _Header, name: str, target: str) -> _Entry | None:
        """What the member is; None for devices and the like, which a tree has no use for."""
        if header.type == FOLDER or (header.type == b"\0" and name.endswith("/")):
            return _FOLDER
        if header.type == LINK:
            return _Entry(Kind.LINK, target=target)
        if header.type == HARD_LINK:
            return _Entry(Kind.LINK, target="/" + target.lstrip("/"))
        if header.type in SPECIAL_TYPES:
            return None
        data = self._stream.content(header.size, MAX_FILE_BYTES + 1)
        if header.type not in FILE_TYPES:
            return None
        self._kept += len(data)
        if self._kept > MAX_KEPT_BYTES:
            raise BadInput(self._source, f"more than {MAX_KEPT_BYTES >> 20} MiB of files in the archive")
        return _Entry(Kind.FILE, data)

    def _read_extension(self, header: _Header) -> None:
        if header.size > MAX_EXTENSION_BYTES:
            raise BadInput(self._source, f"a header extension of {header.size} bytes", f"byte {self._stream.at}")
        data = self._stream.content(header.size, header.size)
        if header.type == LONG_NAME:
            self._next["path"] = _text(data.split(b"\0", 1)[0])
        elif header.type == LONG_TARGET:
            self._next["linkpath"] = _text(data.split(b"\0", 1)[0])
        elif header.type == PAX:
            self._read_pax(data)

    def _read_pax(self, data: bytes) -> None:
        """Records `LENGTH KEY=VALUE newline`, the length being that of the whole record (POSIX.1-2001, pax)."""
        while data.strip(b"\0"):
            digits, space, _ = data[:20].partition(b" ")
            length = int(digits) if space and digits.isdigit() else 0
            record = data[len(digits) + 1 : length - 1]
            key, equals, value = record.partition(b"=")
            if not equals or length > len(data):
                raise BadInput(self._source, "a damaged header extension", f"byte {self._stream.at}")
            if key in (b"path", b"linkpath", b"size"):
                self._next[key.decode()] = _text(value)
            data = data[length:]


def _parse_header(block: bytes) -> _Header | None:
    """A header block's fields; None if it is none, by its checksum."""
    if len(block) < BLOCK:
        return None
    name, size, checksum, kind, target, magic, prefix = HEADER.unpack(block)
    told = _number(checksum)
    # the field itself counts as spaces
    if told != sum(block) - sum(checksum) + len(checksum) * ord(" "):
        return None
    path = _text(name.split(b"\0", 1)[0])
    # GNU's old format has other things where ustar has the prefix, and ends its magic with spaces
    if magic == b"ustar\0" and prefix[0]:
        path = f"{_text(prefix.split(bytes(1), 1)[0])}/{path}"
    return _Header(path, _number(size), kind, _text(target.split(b"\0", 1)[0]))


def _number(data: bytes) -> int:
    """A header's number: octal digits, or GNU's base 256 where the first bit is set; -1 if it is neither."""
    if data[0] & 0x80:
        return int.from_bytes(data[1:], "big") if data[0] == 0x80 else -1
    digits = data.strip(b" \0")
    return int(digits or b"0", 8) if OCTAL.fullmatch(digits) else -1


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _shown(name: str) -> str:
    """A member's name in an error's line: short, and nothing in it that a terminal would obey."""
    return ascii(name[:80])[1:-1]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
