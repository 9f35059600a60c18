"""What is put into Dom0 beside Debian's packages: how it comes up, its keys, and the guests."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

__all__ = ["Dom0File", "extra_files", "place", "recipe_digest"]

EXECUTABLE = 0o755
READABLE = 0o644
SECRET = 0o600


class Dom0File:
    """One file to be placed: its bytes (or where to copy them from) and its mode."""

    __slots__ = ("content", "mode")

    def __init__(self, content: bytes | Path, mode: int = READABLE) -> None:
        self.content = content
        self.mode = mode


def shipped(name: str) -> bytes:
    """A file of the `dom0` folder beside this module."""
    return (files("domicile.lab.image") / "dom0" / name).read_bytes()


def extra_files(keys: Path) -> Mapping[str, Dom0File]:
    """Path in Dom0 to what goes there. `keys` is the folder with the lab's host key and user key."""
    return {
        "/etc/domicile/boot": Dom0File(shipped("boot"), EXECUTABLE),
        "/etc/domicile/shutdown": Dom0File(shipped("shutdown"), EXECUTABLE),
        "/etc/domicile/modules": Dom0File(shipped("modules")),
        "/etc/inittab": Dom0File(shipped("inittab")),
        "/etc/hostname": Dom0File(b"lab\n"),
        "/etc/hosts": Dom0File(b"127.0.0.1 localhost\n127.0.1.1 lab\n"),
        "/etc/xen/xl.conf": Dom0File(shipped("xl.conf")),
        "/etc/ssh/sshd_config": Dom0File(shipped("sshd_config")),
        "/etc/ssh/ssh_host_ed25519_key": Dom0File(keys / "host_key", SECRET),
        "/etc/ssh/ssh_host_ed25519_key.pub": Dom0File(keys / "host_key.pub"),
        "/etc/ssh/authorized_keys": Dom0File(keys / "user_key.pub"),
    }


def place(tree: Path, wanted: Mapping[str, Dom0File]) -> None:
    """Put the files into an unpacked tree. A link that is in the way is replaced, never followed out of the tree."""
    for path, file in wanted.items():
        target = tree / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if isinstance(file.content, Path):
            shutil.copyfile(file.content, target)
        else:
            target.write_bytes(file.content)
        target.chmod(file.mode)


def recipe_digest() -> str:
    """The image's key: a hash of everything in this package (and in the guests') that decides what is built.

    It covers the building code too: a comment costs a rebuild, and a forgotten version number cannot give an old image.
    """
    digest = hashlib.sha256()
    for path in sorted(_sources()):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _sources() -> Iterator[Path]:
    here = Path(__file__).parent
    for folder in (here, here.parent / "guests"):
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
