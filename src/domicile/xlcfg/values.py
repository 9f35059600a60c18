"""The values of an `xl.cfg`: single values (xl keeps numbers as text too) and lists, nested as one likes.

Source: Xen 4.17, tools/libs/util/libxlu_cfg.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domicile.errors import BadInput
from domicile.xlcfg.lexer import quoted

__all__ = ["Atom", "Items", "Plain", "Value", "rendered"]

Plain = str | int | Sequence["Plain"]
"""What can be written into a config."""


@dataclass(frozen=True, slots=True)
class Atom:
    """A single value. `xl` makes no difference between a number and a string that looks like one."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    values: tuple[Value, ...]
    line: int

    def texts(self, source: str, key: str) -> tuple[Atom, ...]:
        """The list's items, all of which must be single values. Raises `BadInput` where one is a list.

        (`xl` takes a list in such a place for the end of the outer list, and drops what follows.)
        """
        found: list[Atom] = []
        for value in self.values:
            if isinstance(value, Items):
                raise BadInput(source, f"{key}: a list where a string should be", f"line {value.line}")
            found.append(value)
        return tuple(found)


Value = Atom | Items


def rendered(value: Plain) -> str:
    """A value as it is written in a config, on one line. ValueError for what `xl` could not read back."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, int):
        # xl knows no sign, so a negative number has to be a string
        return str(int(value)) if value >= 0 else quoted(str(value))
    return "[" + ", ".join(rendered(item) for item in value) + "]"
