"""What turns the simulator's inner loops into machine code: Numba, with its results kept between runs.

`NUMBA_DISABLE_JIT=1` runs the same functions as Python: slow, for a debugger or a coverage report.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

__all__ = ["compiled", "inlined"]

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function as machine code, compiled on its first call and kept beside its module (or where Numba may write).

    Floating point stays exact: the same seed has to give the same figures.
    """
    return cast("Callable[P, R]", numba.njit(cache=True, error_model="numpy")(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """The same for a small function of an inner loop: it becomes part of whoever calls it."""
    return cast("Callable[P, R]", numba.njit(cache=True, error_model="numpy", forceinline=True)(function))
