"""TOML files that people write: one that comes with domicile, found by its name, or one of their own, by its path.

A file of such a kind is a msgspec structure that forbids unknown keys; what does not fit is said with the key at fault
and what would be right there.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from domicile.errors import BadInput

__all__ = ["UNITS", "TomlKind", "decode_toml", "explained", "unit_of"]

MAX_FILE_BYTES = 1 << 20
UNITS = {
    "_mib_s": " MiB/s",
    "_per_s": " a second",
    "_s": " seconds",
    "_mib": " MiB",
    "_ms": " ms",
    "_gbs": " GB/s",
    "_h": " o'clock",
}
"""What the end of a key's name says of its figure; the first that fits."""

_Record = TypeVar("_Record", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class TomlKind:
    """A kind of file: what people call it, and the folder within a package where those that come along are."""

    what: str
    package: str
    folder: str

    def names(self) -> list[str]:
        """Those that come along."""
        entries = (files(self.package) / self.folder).iterdir()
        return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))

    def read(self, named: str) -> bytes:
        """The text of the one of this name, else of the file at this path. Raises `BadInput` if there is neither."""
        presets = self.names()
        if named in presets:
            return (files(self.package) / self.folder / f"{named}.toml").read_bytes()
        path = Path(named)
        try:
            if not path.is_file():
                raise BadInput(named, f"no such {self.what} file, and no preset; presets are {', '.join(presets)}")
            with path.open("rb") as file:
                text = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise BadInput(named, f"cannot be read: {error.strerror}") from error
        if len(text) > MAX_FILE_BYTES:
            raise BadInput(named, f"more than 1 MiB is no {self.what} file")
        return text

    def beside(self, named: str, other: str) -> str:
        """A file that the one called `named` names: the one beside it if there is such, else the name as it is."""
        path = Path(named).parent / other
        return str(path) if named not in self.names() and path.is_file() else other


def decode_toml(text: bytes, source: str, kind: type[_Record]) -> _Record:
    """The record that a TOML text stands for. Raises `BadInput` with `source` and the key at fault."""
    try:
        return msgspec.toml.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise explained(str(error), source, kind) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(source, f"not TOML: {error}") from error


def unit_of(place: str) -> str:
    """The unit that a key's name ends in, as words with a space before; empty if in none."""
    key = "_" + place.rpartition(".")[2]
    return next((unit for suffix, unit in UNITS.items() if key.endswith(suffix)), "")


def explained(message: str, source: str, kind: type[msgspec.Struct]) -> BadInput:
    """What msgspec found (its message), with what would be right; of JSON too."""
    problem, _, place = message.partition(" - at `$")
    place = place.strip("`").removeprefix(".")
    unknown = re.search(r"unknown field `(.*)`", problem)
    if unknown is None:
        unit = unit_of(place)
        return BadInput(source, f"{problem}{f' (a number of{unit})' if unit else ''}", place)
    keys = _struct_at(kind, place).__struct_encode_fields__
    near = difflib.get_close_matches(unknown[1], keys, 1, 0.5)
    right = f"did you mean {near[0]!r}? " if near else ""
    at = f"{place}.{unknown[1]}" if place else unknown[1]
    return BadInput(source, f"no such key; {right}there are {', '.join(keys)}", at)


def _struct_at(kind: type[msgspec.Struct], place: str) -> type[msgspec.Struct]:
    """The structure that a place like `domain[3].memory` is in."""
    for part in re.findall(r"[A-Za-z_]\w*", place):
        field = kind.__struct_fields__[kind.__struct_encode_fields__.index(part)]
        found: Any = get_type_hints(kind)[field]
        kind = next(each for each in (found, *get_args(found)) if isinstance(each, type(msgspec.Struct)))
    return kind
