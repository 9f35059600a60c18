"""Inner loops as machine code: Numba, with what it compiles kept on disk between runs.

A function that Python calls is an `entrance`. One that only compiled functions call is a `part`: without a way in from
Python, and without counting references to arrays, it compiles in half the time. A part that makes arrays is a `maker`.

What is compiled lies in `numba/` in the user's cache folder (or in `NUMBA_CACHE_DIR`), in a folder named after the
sources of the entrance's package: Numba finds out by itself that an entrance's own file has changed, but not that a
part has which lies in another. So **an entrance uses parts and constants of its own folder only**. Where nothing can be
written, every process compiles anew.

A part is compiled once for each list of argument types, and for Numba the number 0, written where it is called, has a
type of its own: write no whole number as an argument of a big part, else it and all that it calls is compiled again.

Numba links all that a function calls into it, and of the whole makes machine code: of what lies ten calls deep ten
times. So parts are kept from that: what they are for LLVM is linked into the entrance, and optimised there, once.

Importing this module is cheap; Numba is imported where the first function is marked.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import platformdirs

__all__ = ["cache_folder", "entrance", "inlined", "maker", "part", "swift", "when_compiling"]

P = ParamSpec("P")
R = TypeVar("R")

_waiting: list[Callable[[], Callable[[], None] | None]] = []
"""Who wants to know that something is being compiled."""

_until_done: list[Callable[[], None]] = []
"""What is to be called when that is over."""

_parts: set[Any] = set()
"""Functions that are linked into others before they are optimised."""


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
    bare = _numba().njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)(function)
    _parts.add(bare)
    return cast("Callable[P, R]", bare)


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
def when_compiling(tell: Callable[[], Callable[[], None] | None]) -> Iterator[None]:
    """Have somebody told, once, when something has to be compiled meanwhile: whoever waits should know for what.
    `tell` may give what is to be called when it is done."""
    _waiting.append(tell)
    try:
        yield
    finally:
        if tell in _waiting:
            _waiting.remove(tell)
        _over()


def _tell() -> None:
    while _waiting:
        over = _waiting.pop()()
        if over is not None:
            _until_done.append(over)


def _over() -> None:
    while _until_done:
        _until_done.pop()()


@functools.cache
def _numba() -> Any:
    """Numba, which takes a second to import; it says when it compiles, and works parts out once."""
    import numba  # noqa: PLC0415
    from numba.core import codegen, event  # noqa: PLC0415

    config: Any = numba.config
    usual_level = config.OPT
    within: list[bool] = []

    def in_a_part() -> bool:
        return bool(within) and within[-1]

    class Compiles(event.Listener):
        """What is being compiled: for each function whether it is a part, the innermost last."""

        def on_start(self, what: Any) -> None:
            _tell()
            within.append(what.data["dispatcher"] in _parts)
            config.OPT = 0 if in_a_part() else usual_level

        def on_end(self, _: Any) -> None:
            within.pop()
            config.OPT = 0 if in_a_part() else usual_level
            if not within:
                _over()

    event.register("numba:compile", Compiles())  # type: ignore[no-untyped-call]
    _work_parts_out_once(codegen, in_a_part)
    return numba


def _work_parts_out_once(codegen: Any, in_a_part: Callable[[], bool]) -> None:
    """Have Numba (0.68, core/codegen.py) leave a part as it is: nothing is linked into it, it is not optimised, and no
    machine code is made of it. Whoever calls it links it, and all that it calls, instead."""
    library, generator = codegen.JITCodeLibrary, codegen.JITCPUCodegen
    finalize, link, set_env = library.finalize, library.add_linking_library, generator.set_env
    left_open: weakref.WeakSet[Any] = weakref.WeakSet()

    def finalize_unless_a_part(its: Any) -> None:
        if not in_a_part():
            finalize(its)
            return
        its._finalize_dynamic_globals()  # noqa: SLF001
        its._finalized = True  # noqa: SLF001
        left_open.add(its)

    def link_with_what_is_open(its: Any, other: Any) -> None:
        link(its, other)
        if other in left_open:
            its._linking_libraries += other._linking_libraries  # noqa: SLF001

    library.finalize, library.add_linking_library = finalize_unless_a_part, link_with_what_is_open
    # where a function's Python objects are: a part has none, and no address before it is linked
    generator.set_env = lambda its, name, env: None if in_a_part() else set_env(its, name, env)
