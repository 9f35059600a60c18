"""A machine's saved or live files, read only: one small interface over a folder and a tar.

Paths are relative to the tree's root, with `/` between parts. Symbolic links are resolved here, part by part, and an
absolute target starts at the tree's own root: no link can lead outside, whether the tree is this machine's `/sys`, a
copy that somebody sent, or an archive. What a link outside, a loop or a device would give is simply not there.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from enum import Enum, auto
from pathlib import Path

from domicile.errors import BadInput

__all__ = ["MAX_FILE_BYTES", "FileTree", "FolderTree", "Kind"]

MAX_FILE_BYTES = 65536
"""A sysfs attribute is at most a page (4 to 64 KiB)."""

MAX_LINKS = 40
MAX_NAMES = 500_000


class Kind(Enum):
    """What is at a path."""

    MISSING = auto()
    FILE = auto()
    FOLDER = auto()
    LINK = auto()


class FileTree(ABC):
    """Files by path. For errors: `source` is the tree as the user named it, `mount` what its paths begin with."""

    def __init__(self, source: str, mount: str = "") -> None:
        self.source = source
        self.mount = mount
        self._folders: dict[str, str | None] = {"": ""}

    def read(self, path: str) -> str | None:
        """The file's text, None if there is no such file; `BadInput` if it is larger than any attribute."""
        data = self._read_bytes(path, MAX_FILE_BYTES + 1)
        if data is None:
            return None
        if len(data) > MAX_FILE_BYTES:
            raise self.bad(path, f"larger than {MAX_FILE_BYTES} bytes")
        return data.decode("utf-8", "replace").rstrip("\0")

    def read_start(self, path: str, limit: int = 4096) -> str | None:
        """At most `limit` bytes from the file's beginning, None if there is no such file."""
        data = self._read_bytes(path, limit)
        return None if data is None else data.decode("utf-8", "replace")

    def bad(self, path: str, problem: str) -> BadInput:
        """The error for a file or folder of this tree."""
        return BadInput(self.source, problem, f"{self.mount}/{path}".strip("/"))

    def names(self, path: str) -> tuple[str, ...]:
        """What is in the folder, sorted; empty if there is no such folder."""
        real = self.resolve(path)
        if real is None or self._kind(real) is not Kind.FOLDER:
            return ()
        return tuple(sorted(self._names(real)))

    def is_folder(self, path: str) -> bool:
        """Whether the path leads to a folder."""
        real = self.resolve(path)
        return real is not None and self._kind(real) is Kind.FOLDER

    def resolve(self, path: str) -> str | None:
        """The path without links, None if it leads nowhere in this tree."""
        head, _, tail = path.strip("/").rpartition("/")
        if head not in self._folders:
            self._folders[head] = self._walk(head)
        folder = self._folders[head]
        return None if folder is None else self._walk(tail, folder)

    def _read_bytes(self, path: str, limit: int) -> bytes | None:
        real = self.resolve(path)
        if real is None or self._kind(real) is not Kind.FILE:
            return None
        return self._read(real, limit)

    def _walk(self, path: str, start: str = "") -> str | None:
        """Follow the path from a folder that has no links in it."""
        done = start.split("/") if start else []
        ahead = path.split("/")[::-1]
        links = 0
        while ahead:
            part = ahead.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not done:
                    return None
                done.pop()
                continue
            here = "/".join((*done, part))
            kind = self._kind(here)
            if kind is Kind.MISSING:
                return None
            if kind is not Kind.LINK:
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                return None
            target = self._link(here)
            if target.startswith("/"):
                done.clear()
            ahead.extend(target.split("/")[::-1])
        return "/".join(done)

    @abstractmethod
    def _kind(self, real: str) -> Kind:
        """What is at a path whose folders have no links; a link itself is not followed."""

    @abstractmethod
    def _link(self, real: str) -> str:
        """A link's target."""

    @abstractmethod
    def _read(self, real: str, limit: int) -> bytes | None:
        """At most `limit` bytes of a file, None if it cannot be read."""

    @abstractmethod
    def _names(self, real: str) -> list[str]:
        """What is in a folder, in any order."""


class FolderTree(FileTree):
    """A folder on this machine: a live `/sys`, or a copy of another machine's."""

    def __init__(self, root: Path, source: str, mount: str = "") -> None:
        super().__init__(source, mount)
        self._root = str(root)
        self._kinds: dict[str, Kind] = {}

    def _path(self, real: str) -> str:
        return f"{self._root}/{real}" if real else self._root

    def _kind(self, real: str) -> Kind:
        if not real:
            return Kind.FOLDER
        known = self._kinds.get(real)
        if known is None:
            known = self._kinds[real] = self._look(real)
        return known

    def _look(self, real: str) -> Kind:
        try:
            mode = os.lstat(self._path(real)).st_mode
        except OSError:
            return Kind.MISSING
        if stat.S_ISDIR(mode):
            return Kind.FOLDER
        if stat.S_ISLNK(mode):
            return Kind.LINK
        return Kind.FILE if stat.S_ISREG(mode) else Kind.MISSING

    def _link(self, real: str) -> str:
        try:
            # raw bytes of a name that is no UTF-8 survive as surrogates, and lead nowhere
            return os.readlink(self._path(real))  # noqa: PTH115 (Path drops what makes a link a loop: "." and "//")
        except OSError:
            return ".."

    def _read(self, real: str, limit: int) -> bytes | None:
        try:
            # a fifo or a device put in the file's place since the look must neither block nor be followed
            handle = os.open(self._path(real), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        with open(handle, "rb", buffering=0) as file:  # noqa: PTH123 (a descriptor, not a path)
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            return _read_up_to(file.fileno(), limit)

    def _names(self, real: str) -> list[str]:
        found: list[str] = []
        try:
            with os.scandir(self._path(real)) as entries:
                for entry in entries:
                    found.append(entry.name)
                    if len(found) > MAX_NAMES:
                        raise self.bad(real, f"more than {MAX_NAMES} files in one folder")
        except OSError:
            return []
        return found


def _read_up_to(handle: int, limit: int) -> bytes | None:
    """Sysfs may give an attribute in several pieces, and fail on one that the hardware does not have."""
    pieces: list[bytes] = []
    left = limit
    try:
        while left > 0:
            piece = os.read(handle, left)
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
    except OSError:
        return None
    return b"".join(pieces)
