"""The program that is sent to a Dom0, made of the sources of `dom0` as they are installed here."""

from __future__ import annotations

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from domicile.hosts.xen.dom0 import program

__all__ = ["dom0_program", "dom0_sources"]


@cache
def dom0_program() -> bytes:
    """The program: the same bytes wherever the same version of domicile is."""
    return program.whole(dom0_sources()).encode("utf-8")


def dom0_sources() -> dict[str, str]:
    """The source of each module by its path.

    The packages around `dom0` are there too, but empty: in Dom0 its modules have the names that they have here, and
    nothing else of domicile is to be sent.
    """
    names = program.PACKAGE.split("/")
    around = {"/".join([*names[:depth], "__init__.py"]): "" for depth in range(1, len(names))}
    return around | _modules(resources.files(program.__name__.rpartition(".")[0]), program.PACKAGE)


def _modules(folder: Traversable, path: str) -> dict[str, str]:
    """The modules in a folder and those below it."""
    found: dict[str, str] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _modules(entry, f"{path}/{entry.name}")
        elif entry.name.endswith(".py"):
            found[f"{path}/{entry.name}"] = entry.read_text(encoding="utf-8")
    return found
