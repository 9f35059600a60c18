"""Compiled functions: kept between processes, compiled anew when a source changes, usable where nothing can be kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from domicile.local.compiled import cache_folder, entrance, when_compiling
from domicile.performance import kernel, waiting
from domicile.simulator.scheduler import stepper

ENTRANCES = [kernel.evaluate_all, stepper._advance_credit, stepper._advance_credit2, stepper._assign, waiting._carried]

INNER = """
from domicile.local.compiled import part

@part
def doubled(x: int) -> int:
    return 2 * x
"""
OUTER = """
import sys
from domicile.local.compiled import entrance, when_compiling
from swift_package.inner import doubled

@entrance
def twice_and_one(x: int) -> int:
    return doubled(x) + 1

with when_compiling(lambda: print("compiling")):
    print(twice_and_one(int(sys.argv[1])), twice_and_one(3))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    made = tmp_path / "swift_package"
    made.mkdir()
    for name, text in (("__init__", ""), ("inner", INNER), ("outer", OUTER)):
        (made / f"{name}.py").write_text(text, "utf-8")
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    cache_folder.cache_clear()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    cache_folder.cache_clear()


def in_a_process(package: Path, number: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "swift_package.outer", str(number)],
        env=os.environ | {"PYTHONPATH": f"{package.parent}{os.pathsep}{os.pathsep.join(sys.path)}"},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split("\n")[:-1]


def test_kept_until_a_source_changes(package: Path, cache: Path) -> None:
    assert in_a_process(package, 20) == ["compiling", "41 7"]
    assert in_a_process(package, 21) == ["43 7"]
    # Numba looks at the entrance's file alone
    (package / "inner.py").write_text(INNER.replace("2 * x", "5 * x"), "utf-8")
    assert in_a_process(package, 20) == ["compiling", "101 16"]


def test_every_source_of_the_package_counts(package: Path, cache: Path) -> None:
    before = cache_folder(package)
    assert before is not None
    assert before.parent == cache
    assert cache_folder(package) == before
    for path in package.glob("*.py"):
        path.write_text(path.read_text("utf-8") + "\n# changed\n", "utf-8")
        cache_folder.cache_clear()
        now = cache_folder(package)
        assert now not in {None, before}
        before = now


def test_works_where_nothing_can_be_kept(cache: Path) -> None:
    cache.write_text("no folder", "utf-8")

    @entrance
    def half(x: float) -> float:
        return x / 2.0

    told: list[str] = []
    with when_compiling(lambda: told.append("compiling")):
        assert (half(3.0), half(5.0)) == (1.5, 2.5)
    assert told == ["compiling"]
    assert cache.read_text("utf-8") == "no folder"


def test_nobody_is_told_of_what_is_over(cache: Path) -> None:
    told: list[str] = []
    with when_compiling(lambda: told.append("compiling")):
        pass

    @entrance
    def third(x: float) -> float:
        return x / 3.0

    assert third(3.0) == 1.0
    assert told == []


@pytest.mark.parametrize("function", ENTRANCES, ids=lambda function: str(function.__name__))
def test_entrances_keep_to_their_folder(function: Any) -> None:
    """What an entrance compiles in must be among the sources that its folder in the cache is named after."""
    folder = Path(function.py_func.__code__.co_filename).parent
    seen: set[FunctionType] = set()
    left: list[FunctionType] = [function.py_func]
    while left:
        one = left.pop()
        seen.add(one)
        assert Path(one.__code__.co_filename).parent == folder, one.__qualname__
        for name in one.__code__.co_names:
            for used in (one.__globals__.get(name), getattr(one.__globals__.get("credit"), name, None)):
                part = getattr(used, "py_func", None)
                if part is not None and part not in seen:
                    left.append(part)
    assert len(seen) > 2
