"""What is sent to a Dom0 has to run on the Python 3.6 of XCP-ng 8, from the standard library alone."""

from __future__ import annotations

import ast
import re
import sys

import pytest

from domicile.hosts.xen.dom0.program import PACKAGE
from domicile.hosts.xen.dom0_program import dom0_sources

SOURCES = {path[len(PACKAGE) + 1 :]: source for path, source in dom0_sources().items() if path.startswith(PACKAGE)}
EACH = pytest.mark.parametrize("source", list(SOURCES.values()), ids=list(SOURCES))
OWN = PACKAGE.replace("/", ".")


def tree(source: str) -> ast.Module:
    return ast.parse(source, feature_version=(3, 6))


LATER_KEYWORDS = {"capture_output", "text"}  # of subprocess, 3.7
LATER = {
    "CLOCK_BOOTTIME",  # time, 3.7
    "time_ns",  # 3.7
    "monotonic_ns",  # 3.7
    "get_running_loop",  # 3.7
    "dataclass",  # 3.7
    "nullcontext",  # 3.7
    "Protocol",  # typing, 3.8
    "Literal",  # typing, 3.8
    "Final",  # typing, 3.8
    "TypedDict",  # typing, 3.8
    "posix_spawn",  # os, 3.8
    "memfd_create",  # os, 3.8
    "cached_property",  # 3.8
    "shlex.join",  # 3.8
    "prod",  # math, 3.8
    "unparse",  # ast, 3.9
    "removeprefix",  # 3.9
    "removesuffix",  # 3.9
    "pidfd_open",  # os, 3.9
    "waitstatus_to_exitcode",  # os, 3.9
    "bit_count",  # 3.10
    "pairwise",  # itertools, 3.10
}
LATER_MODULES = {
    "dataclasses",
    "contextvars",
    "graphlib",
    "zoneinfo",
    "tomllib",
    "importlib.resources",
    "importlib.metadata",
}


def imported(source: str) -> set[str]:
    """The modules it imports, by statement or by name."""
    found = {alias.name for node in ast.walk(tree(source)) if isinstance(node, ast.Import) for alias in node.names}
    found |= {str(node.module) for node in ast.walk(tree(source)) if isinstance(node, ast.ImportFrom)}
    return found


@EACH
def test_only_the_standard_library_and_the_package_itself(source: str) -> None:
    others = {name for name in imported(source) if not name.startswith(f"{OWN}.")}
    assert {name.partition(".")[0] for name in others} <= sys.stdlib_module_names
    assert not imported(source) & LATER_MODULES
    assert "__future__" not in imported(source)


@EACH
def test_nothing_that_came_later(source: str) -> None:
    used = {node.attr for node in ast.walk(tree(source)) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree(source)) if isinstance(node, ast.Name)}
    assert not used & LATER
    assert not {node.arg for node in ast.walk(tree(source)) if isinstance(node, ast.keyword)} & LATER_KEYWORDS


@EACH
@pytest.mark.parametrize("kind", ["NamedExpr", "AsyncFor", "Match", "TryStar"])
def test_no_later_syntax(source: str, kind: str) -> None:
    assert not [node for node in ast.walk(tree(source)) if type(node).__name__ == kind]


@EACH
def test_annotations_hold_when_they_are_evaluated(source: str) -> None:
    """Python 3.6 evaluates them where they stand: no `list[int]`, no `X | None`, no names defined further down."""
    assert not re.search(r"(?:->|: )(?:list|dict|tuple|set)\[", source)
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.FunctionDef):
            notes = [argument.annotation for argument in node.args.args + node.args.kwonlyargs] + [node.returns]
            assert not [note for note in notes if isinstance(note, ast.BinOp)]
            assert not node.args.posonlyargs
        if isinstance(node, ast.AnnAssign):
            assert not isinstance(node.annotation, ast.BinOp)


@pytest.mark.parametrize("path", sorted(SOURCES.keys() - {"program.py"}))
def test_the_agent_and_the_mover_need_nothing_of_each_other(path: str) -> None:
    """What they share knows neither. `program` alone knows both, and starts one."""
    parts = {name[len(OWN) + 1 :].partition(".")[0] for name in imported(SOURCES[path]) if name.startswith(f"{OWN}.")}
    assert not parts & ({"agent", "mover"} - {path.partition("/")[0]})


@EACH
def test_f_strings_have_no_equals_sign(source: str) -> None:
    assert not re.search(r"""f["'][^"']*\{[^}"']*=\}""", source)
