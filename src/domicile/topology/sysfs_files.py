"""Where a Linux machine's `/sys` and `/proc` are in a folder or a tar, and their attributes as values.

Accepted: a live `/sys` (or `/`), a saved root that contains `sys/` (hwloc's gathered trees), a copy of `/sys` itself,
any of them one folder down, and a tar of any of these. Links stay inside the copy of `/sys` that they are in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from domicile.errors import BadInput
from domicile.topology.bitmaps import parse_kernel_list, parse_kernel_mask
from domicile.topology.tree import FileTree, FolderTree
from domicile.topology.tree_tar import TarTree, read_tar

__all__ = ["Attributes", "MachineFiles", "first_processor", "open_machine"]

SYSTEM = "devices/system"
MAX_DEPTH = 4
"""How far below an archive's top the tree may start."""

MAX_BELOW = 1000
"""In a folder of more entries than this, the tree is not looked for one folder down."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """A tree's files as values.

    A file that is not there, cannot be read or is empty gives None; one that is there and makes no sense is `BadInput`.
    """

    tree: FileTree

    def text(self, path: str) -> str | None:
        """The file's text without the spaces around it."""
        text = self.tree.read(path)
        return text.strip() or None if text is not None else None

    def integer(self, path: str) -> int | None:
        """A decimal integer."""
        text = self.text(path)
        if text is None:
            return None
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise self.tree.bad(path, f"{text[:24]!r} is no number")
        return int(text)

    def cpu_list(self, path: str) -> int | None:
        """A list such as `0-3,8`, as a bitmap. An empty file is no list."""
        text = self.text(path)
        try:
            return None if text is None else parse_kernel_list(text)
        except ValueError as error:
            raise self.tree.bad(path, str(error)) from None

    def cpu_mask(self, path: str) -> int | None:
        """A mask such as `00000000,000000ff`, as a bitmap."""
        text = self.text(path)
        try:
            return None if text is None else parse_kernel_mask(text)
        except ValueError as error:
            raise self.tree.bad(path, str(error)) from None


@dataclass(frozen=True, slots=True)
class MachineFiles:
    """A machine's `/sys`, and its `/proc` where the source has one."""

    sys: Attributes
    proc: Attributes | None


def open_machine(path: Path, source: str) -> MachineFiles:
    """The machine's files in a folder or a tar. `BadInput` if there is no `/sys` tree in it, or more than one."""
    if path.is_dir():
        return _in_folder(path, source)
    if path.is_file():
        return _in_tar(path, source)
    # neither pipes nor devices: a tar is read with the limits of a file
    raise BadInput(source, "is neither a folder nor a file" if path.exists() else "no such file or folder")


def first_processor(proc: Attributes) -> dict[str, str]:
    """What `cpuinfo` says of the first processor, by field; empty if there is none."""
    fields: dict[str, str] = {}
    for line in (proc.tree.read_start("cpuinfo") or "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _in_folder(path: Path, source: str) -> MachineFiles:
    # the user's own path may well be a link; what is in it is another matter
    path = path.resolve()
    whole = FolderTree(path, source)
    below = whole.names("")
    places = ["", "sys"]
    if len(below) <= MAX_BELOW:
        places += [place for name in below for place in (name, f"{name}/sys") if place != "sys"]
    base = path / _choose([place for place in places if _is_sys(whole, place)], source)
    # a copy of /sys under another name has no /proc beside it that would belong to it
    proc = base.parent / "proc"
    belongs = base.name == "sys" and proc.is_dir() and not proc.is_symlink()
    return MachineFiles(
        Attributes(FolderTree(base, source, "sys")),
        Attributes(FolderTree(proc, source, "proc")) if belongs else None,
    )


def _in_tar(path: Path, source: str) -> MachineFiles:
    files = read_tar(path, source)
    found = [folder[: -len(SYSTEM)].rstrip("/") for folder in files.names if f"/{folder}".endswith(f"/{SYSTEM}")]
    base = PurePosixPath(_choose([place for place in found if place.count("/") < MAX_DEPTH], source))
    proc = str(base.parent / "proc")
    return MachineFiles(
        Attributes(TarTree(files, str(base) if base.name else "", "sys")),
        Attributes(TarTree(files, proc, "proc")) if base.name == "sys" and proc in files.names else None,
    )


def _is_sys(tree: FileTree, place: str) -> bool:
    """Whether a folder of this tree is a copy of `/sys`: itself, not through a link."""
    wanted = f"{place}/{SYSTEM}".strip("/")
    return tree.resolve(wanted) == wanted and tree.is_folder(wanted)


def _choose(places: list[str], source: str) -> str:
    """The shallowest of the places where a `/sys` was found."""
    if not places:
        raise BadInput(source, "no Linux /sys tree in it: there is no sys/devices/system")
    least = min(len(PurePosixPath(place).parts) for place in places)
    nearest = sorted(place for place in places if len(PurePosixPath(place).parts) == least)
    # a machine's root has it as sys/, whatever lies beside it
    if len(nearest) > 1 and "sys" not in nearest:
        raise BadInput(source, f"{len(nearest)} /sys trees in it ({', '.join(nearest[:3])}): name one of them")
    return "sys" if "sys" in nearest else nearest[0]
