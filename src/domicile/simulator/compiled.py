"""What turns the simulator's inner loops into machine code: Numba, with its results kept between runs.

Numba finds out that a function's own file has changed, but not that one it calls from another file has. So what is kept
lies in a folder named after the contents of all files whose functions call each other.
`NUMBA_DISABLE_JIT=1` runs the same functions as Python: slow, for a debugger or a coverage report.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
import platformdirs

__all__ = ["compiled", "inlined"]

P = ParamSpec("P")
R = TypeVar("R")


def _cache_folder() -> Path:
    """Where what is compiled of these very sources is kept."""
    here = Path(__file__)
    digest = hashlib.sha256()
    for path in sorted([here, *here.parent.glob("scheduler/*.py")]):
        digest.update(path.read_bytes())
    return platformdirs.user_cache_path("domicile") / "numba" / digest.hexdigest()[:16]


def _kept(function: Callable[P, R], inline: bool) -> Callable[P, R]:
    """The function under Numba, what is compiled of it kept in the folder of these sources."""
    settings: Any = numba.config
    before = settings.CACHE_DIR
    if "NUMBA_CACHE_DIR" not in os.environ:
        # read when a function is decorated; others in this process keep theirs
        settings.CACHE_DIR = str(FOLDER)
    try:
        return cast("Callable[P, R]", numba.njit(cache=True, error_model="numpy", forceinline=inline)(function))
    finally:
        settings.CACHE_DIR = before


FOLDER = _cache_folder()


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function as machine code, compiled on its first call.

    Floating point stays exact: the same seed has to give the same figures.
    """
    return _kept(function, inline=False)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """The same for a small function of an inner loop: it becomes part of whoever calls it."""
    return _kept(function, inline=True)
