"""From what a user names to a topology: a preset, a file of any known form, a folder, standard input, or a host's URI.

The form is found by content, never by a name's ending. Text, XML and machine files may be compressed with gzip, bzip2
or xz.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from domicile.errors import BadInput
from domicile.topology.model import Topology

__all__ = ["ACCEPTED", "is_uri", "read_topology"]

ACCEPTED = (
    "a preset, a host's URI, a Linux /sys tree (folder or tar), hwloc XML, `virsh capabilities`, "
    "`xl info -n`, or a machine file"
)

MOST_BYTES = 64 << 20
"""Of a file that is not a tar, before and after decompression: the largest hwloc XML is a few MiB."""

MOST_TAR_BYTES = 512 << 20
"""Of a tar on standard input, which is put into a temporary file."""

XZ_MEMORY = 128 << 20
"""What the largest preset of xz (-9) takes to decompress, and some."""

NOT_READ = {b"PK\x03\x04": "a zip archive", b"\x28\xb5\x2f\xfd": "compressed with zstd", b"\x7fELF": "a program"}
LONGEST_PROLOGUE = 64 << 10
"""Of XML, before its first element."""

NO_FILE = "neither a file nor a folder; what comes through a pipe is read as `-`"
TAR_BLOCK = 512


def is_uri(source: str) -> bool:
    """Whether this is meant as a host's URI."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source) is not None


def read_topology(source: str, from_host: Callable[[str], Topology] | None = None) -> Topology:
    """The machine that `source` names.

    A preset's name goes before a file of that name (give `./NAME` for the file); `-` is standard input; `from_host`
    opens URIs. Raises `BadInput` with what is accepted where it is none of these, and what the readers raise.
    """
    from domicile.topology.presets import load_preset, preset_names  # noqa: PLC0415 - msgspec only where needed

    if not source:
        raise BadInput("''", f"nothing given; give {ACCEPTED}")
    if is_uri(source):
        if from_host is None:
            raise BadInput(source, "a host's URI where a file is needed")
        return from_host(source)
    if source in preset_names():
        return load_preset(source).topology
    if source == "-":
        return _read_stream(sys.stdin.buffer)
    path = Path(source)
    try:
        return _read_path(path, source)
    except OSError as error:
        raise BadInput(source, f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise BadInput(source, f"no name of a file: {error}") from error


def _read_path(path: Path, source: str) -> Topology:
    """A file or folder."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise BadInput(source, f"no such file or preset; give {ACCEPTED}") from error
    if stat.S_ISDIR(mode):
        return _read_tree(path, source)
    if not stat.S_ISREG(mode):
        raise BadInput(source, NO_FILE)
    # what is opened may not be what was looked at any more: never wait for a FIFO's writer
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise BadInput(source, NO_FILE)
        if _holds_tar(file, source):
            return _read_tree(path, source)
        return _read_content(_content(file, source), source)


def _read_tree(path: Path, source: str) -> Topology:
    """A Linux /sys tree, as folder or tar."""
    from domicile.topology.sysfs import read_sysfs  # noqa: PLC0415

    return read_sysfs(path, source)


def _read_stream(stream: BinaryIO) -> Topology:
    """Standard input; a tar goes through a temporary file, since its members are not read in order."""
    source = "standard input"
    data = stream.read(MOST_TAR_BYTES + 1)
    if len(data) > MOST_TAR_BYTES:
        raise BadInput(source, f"larger than {MOST_TAR_BYTES >> 20} MiB")
    if not _holds_tar(io.BytesIO(data), source):
        return _read_content(_content(io.BytesIO(data), source), source)
    with tempfile.NamedTemporaryFile(prefix="domicile-", suffix=".tar") as file:
        file.write(data)
        file.flush()
        return _read_tree(Path(file.name), source)


def _beginning(file: BinaryIO, size: int, source: str) -> bytes:
    """Up to `size` bytes from the beginning, decompressed. Raises `BadInput` for what is empty or cannot be."""
    file.seek(0)
    head = file.read(TAR_BLOCK)
    file.seek(0)
    if not head:
        raise BadInput(source, f"empty; give {ACCEPTED}")
    for magic, what in NOT_READ.items():
        if head.startswith(magic):
            raise BadInput(source, f"is {what}; give {ACCEPTED}")
    try:
        if head.startswith(b"\x1f\x8b"):
            return gzip.GzipFile(fileobj=file).read(size)
        if head.startswith(b"BZh"):
            return bz2.BZ2File(file).read(size)
        if head.startswith(b"\xfd7zXZ\x00"):
            return _from_xz(file, size)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise BadInput(source, f"cannot be decompressed: {error}") from error
    return file.read(size)


def _from_xz(file: BinaryIO, size: int) -> bytes:
    """The same for xz: `lzma.LZMAFile` has no limit on the memory that a hostile file can ask for."""
    xz = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
    data = bytearray()
    while len(data) < size and not xz.eof:
        piece = file.read(1 << 16) if xz.needs_input else b""
        if not piece and xz.needs_input:
            raise EOFError("the end is missing")
        data += xz.decompress(piece, size - len(data))
    return bytes(data)


def _holds_tar(file: BinaryIO, source: str) -> bool:
    """Whether a tar is in it, compressed or not."""
    try:
        tarfile.TarInfo.frombuf(_beginning(file, TAR_BLOCK, source), "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def _content(file: BinaryIO, source: str) -> bytes:
    """All of it, decompressed."""
    data = _beginning(file, MOST_BYTES + 1, source)
    if len(data) > MOST_BYTES:
        raise BadInput(source, f"larger than {MOST_BYTES >> 20} MiB, as no description of a machine is")
    return data


def _read_content(data: bytes, source: str) -> Topology:
    """A file's content, whatever form it has."""
    start = data[: 1 << 16].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        raise BadInput(source, f"nothing in it; give {ACCEPTED}")
    if start.startswith(b"<"):
        return _read_xml(data, source)
    if b"\x00" in start:
        raise BadInput(source, f"neither text nor an archive; give {ACCEPTED}")
    if start.startswith(b"{"):
        return _read_machine(data, source)
    from domicile.topology.xl_info import looks_like_xl_info, read_xl_info  # noqa: PLC0415

    text = data.decode("utf-8", errors="replace")
    if looks_like_xl_info(text):
        return read_xl_info(text, source)
    if re.search(r"^[ \t]*[\w\"'.-]+[ \t]*=", text, re.MULTILINE):
        return _read_machine(data, source)
    raise BadInput(source, f"no form that is known; give {ACCEPTED}")


def _read_machine(data: bytes, source: str) -> Topology:
    """A machine file."""
    from domicile.topology.machine_file import read_machine_file  # noqa: PLC0415

    return read_machine_file(data, source).topology


def _read_xml(data: bytes, source: str) -> Topology:
    """hwloc's XML or libvirt's, by the root element."""
    root = _root_element(data)
    if root == "topology":
        from domicile.topology.hwloc_xml import read_hwloc_xml  # noqa: PLC0415

        return read_hwloc_xml(data, source)
    if root == "topologydiff":
        raise BadInput(source, "the difference of two hwloc topologies; give a whole one (`lstopo FILE.xml`)")
    from domicile.topology.libvirt_xml import read_libvirt_capabilities  # noqa: PLC0415

    return read_libvirt_capabilities(data, source)


def _root_element(data: bytes) -> str:
    """The name of the first element, past declarations, comments and a DOCTYPE; "" if there is none."""
    data, at = data[:LONGEST_PROLOGUE], 0
    while (at := data.find(b"<", at)) >= 0:
        if data.startswith(b"<!--", at):
            end = data.find(b"-->", at)
            at = end if end >= 0 else len(data)
        elif data[at + 1 : at + 2] in (b"!", b"?"):
            at += 1
        else:
            name = re.match(rb"[A-Za-z_][\w.:-]{0,99}", data[at + 1 : at + 101])
            return name[0].decode("ascii", errors="replace") if name else ""
    return ""
