"""Machines that come with domicile: measured ones, with their sources, and two made ones. Each is a machine file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from domicile.errors import BadInput
from domicile.topology.machine_file import MachineFile, read_machine_file

__all__ = ["load_preset", "preset_names"]

SUFFIX = ".toml"


@cache
def preset_names() -> tuple[str, ...]:
    """The names, `default` first."""
    names = [entry.name.removesuffix(SUFFIX) for entry in files(__name__).iterdir() if entry.name.endswith(SUFFIX)]
    return tuple(sorted(names, key=lambda name: (name != "default", name)))


@cache
def load_preset(name: str) -> MachineFile:
    """The preset of this name. Raises `BadInput` if there is none."""
    if name not in preset_names():
        raise BadInput(name, f"no such preset; there are {', '.join(preset_names())}")
    return read_machine_file((files(__name__) / f"{name}{SUFFIX}").read_bytes(), name)
