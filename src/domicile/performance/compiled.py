"""Functions compiled by Numba. Importing Numba takes a second or two: only modules that compile import this one, and
those are imported where they are first called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

__all__ = ["compiled", "part"]

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """A function to be called from Python, compiled and kept on disk between runs. It must be plain loops over
    arrays."""
    return cast("Function", numba.njit(cache=True, error_model="numpy")(function))


def part(function: Function) -> Function:
    """A function to be called from compiled ones only: without an entrance from Python it compiles in half the time."""
    bare = numba.njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]
    return cast("Function", bare(function))
