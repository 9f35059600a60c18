"""Inner loops as machine code: Numba, with what it compiles kept on disk between runs.

A function that Python calls is an `entrance`. One that only compiled functions call is a `part`: without a way in from
Python, and without counting references to arrays, it compiles in half the time. A part that makes arrays is a `maker`.

What is compiled lies in `numba/` in the user's cache folder (or in `NUMBA_CACHE_DIR`), in a folder named after the
sources of the entrance's package: Numba finds out by itself that an entrance's own file has changed, but not that a
part has which lies in another. So **an entrance uses parts and constants of its own folder only**. Where nothing can be
written, every process compiles anew.

Importing this module is cheap; Numba is imported where the first function is marked.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import platformdirs

__all__ = ["cache_folder", "entrance", "inlined", "maker", "part", "swift", "when_compiling"]

P = ParamSpec("P")
R = TypeVar("R")

_waiting: list[Callable[[], None]] = []
"""Who wants to know that something is being compiled."""


def entrance(function: Callable[P, R]) -> Callable[P, R]:
    """The function as machine code, to be called from Python; compiled on its first call, and kept."""
    numba = _numba()
    folder = cache_folder(Path(function.__code__.co_filename).parent)
    if folder is None:
        return cast("Callable[P, R]", numba.njit(error_model="numpy")(function))
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)  # read while a function is marked; others in this process keep theirs
    try:
        return cast("Callable[P, R]", numba.njit(cache=True, error_model="numpy")(function))
    finally:
        numba.config.CACHE_DIR = before


def part(function: Callable[P, R]) -> Callable[P, R]:
    """A function to be called from compiled ones only. It makes no arrays (but views of those that it is given)."""
    return _part(function, _nrt=False)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A small part of an inner loop: it becomes a piece of whoever calls it, each time."""
    return _part(function, _nrt=False, forceinline=True)


def swift(function: Callable[P, R]) -> Callable[P, R]:
    """A part whose sums may be taken in any order, so that several are added at once."""
    return _part(function, _nrt=False, fastmath={"reassoc", "nsz", "contract"})


def maker(function: Callable[P, R]) -> Callable[P, R]:
    """A part that makes arrays of its own."""
    return _part(function)


def _part(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    bare = _numba().njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)
    return cast("Callable[P, R]", bare(function))


@functools.cache
def cache_folder(package: Path) -> Path | None:
    """Where what is compiled of a package's sources, as they are now, is kept; None where nothing can be written."""
    digest = hashlib.sha256()
    for path in (Path(__file__), *sorted(package.glob("*.py"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    above = os.environ.get("NUMBA_CACHE_DIR") or platformdirs.user_cache_path("domicile") / "numba"
    folder = Path(above) / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder


@contextmanager
def when_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Have somebody told, once, when something has to be compiled meanwhile: whoever waits should know for what."""
    _waiting.append(tell)
    try:
        yield
    finally:
        if tell in _waiting:
            _waiting.remove(tell)


def _tell() -> None:
    while _waiting:
        _waiting.pop()()


@functools.cache
def _numba() -> Any:
    """Numba, which takes a second to import; it says when it compiles."""
    import numba  # noqa: PLC0415
    from numba.core import event  # noqa: PLC0415

    class Compiles(event.Listener):
        def on_start(self, _: Any) -> None:
            _tell()

        def on_end(self, _: Any) -> None:
            pass

    event.register("numba:compile", Compiles())  # type: ignore[no-untyped-call]
    return numba
