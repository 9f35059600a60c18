"""Functions compiled by Numba. Importing Numba takes a second or two: only modules that compile import this one, and
those are imported where they are first called."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import TypeVar, cast

import numba

__all__ = ["entrance", "part", "swift"]

Function = TypeVar("Function", bound=Callable[..., object])

SOURCES = ("arrays.py", "fair.py", "kernel.py", "loops_before.py", "loops_memory.py")


def entrance(build: Callable[[int], Function]) -> Function:
    """The function that `build` makes, to be called from Python: compiled, and kept on disk between runs.

    Numba looks only at an entrance's own file to see whether what it kept is out of date, not at the files of the parts
    that were compiled into it. But it keeps code apart by the values that a function closes over: so `build` is given
    a number that stands for all the sources, and must use it in the function that it returns.
    """
    return cast("Function", numba.njit(cache=True, error_model="numpy")(build(_stamp())))


def part(function: Function) -> Function:
    """A function to be called from compiled ones only: without an entrance from Python it compiles in half the time."""
    bare = numba.njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]
    return cast("Function", bare(function))


def swift(function: Function) -> Function:
    """A `part` whose sums may be taken in any order, so that several are added at once."""
    bare = numba.njit(  # type: ignore[call-overload]
        error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, fastmath={"reassoc", "nsz", "contract"}
    )
    return cast("Function", bare(function))


def _stamp() -> int:
    """A number that changes with the sources; never negative."""
    digest = hashlib.sha256(b"".join((files(__package__) / name).read_bytes() for name in SOURCES)).digest()
    return int.from_bytes(digest[:6], "big")
