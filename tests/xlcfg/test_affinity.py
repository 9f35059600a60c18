"""CPU lists, held against a direct transcription of what `xl` does and against examples seen on a real `xl`."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Node, Topology
from domicile.xlcfg.affinity import format_cpus, parse_cpus, parse_range


def machine(nodes: dict[int, list[int]], offline: list[int] | None = None) -> Topology:
    return checked(
        source="test",
        nodes=[Node(node, 1024) for node in nodes],
        cpus=[Cpu(cpu, cpu, node, node) for node, cpus in nodes.items() for cpu in cpus],
        offline_cpus=offline or [],
    )


FOUR_NODES = machine({0: [0, 1], 1: [2, 3], 2: [4, 5], 3: [6, 7]})
GAPS = machine({0: [0, 2], 2: [4, 6], 5: []}, offline=[1, 7])


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("all", {0, 1, 2, 3, 4, 5, 6, 7}),
        ("nodes:all", {0, 1, 2, 3, 4, 5, 6, 7}),
        ("3", {3}),
        ("0-3,5", {0, 1, 2, 3, 5}),
        ("0-3,5,^1", {0, 2, 3, 5}),
        ("^1,0-3", {0, 1, 2, 3}),  # from left to right
        ("all,^node:2", {0, 1, 2, 3, 6, 7}),
        ("nodes:0-3,^node:2", {0, 1, 2, 3, 6, 7}),
        ("nodes:1", {2, 3}),
        ("node:0-1", {0, 1, 2, 3}),
        ("1,node:1,^3", {1, 2}),
        ("^0-3,all", {0, 1, 2, 3, 4, 5, 6, 7}),
        ("0, 1", {0, 1}),
        ("+3", {3}),
        ("node: 1", {2, 3}),
        (",,3,", {3}),
        ("007", {7}),
        ("", set()),
        ("^1", set()),
    ],
)
def test_lists(text: str, cpus: set[int]) -> None:
    assert parse_cpus(text, FOUR_NODES, "x.cfg") == cpus


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("none", "'none' is no part of a CPU list"),
        ("^all", '"^" cannot go with "all"'),
        ("^nodes:all", "cannot go with"),
        ("3-1", "'3-1' is no part"),
        ("1-", "'1-' is no part"),
        ("1 ", "'1 ' is no part"),
        ("-1", "'-1' is no part"),
        ("0x3", "'0x3' is no part"),
        (" all", "' all' is no part"),
        (" ^1", "' ^1' is no part"),
        ("node:nodes:1", "is no part"),
        ("^^1", "is no part"),
        ("8", r"CPU 8 is not there (the machine has CPUs 0-7)"),
        ("0-63", r"CPU 8 is not there"),
        ("9-63", r"CPU 9 is not there"),
        ("all,^9", r"CPU 9 is not there"),
        ("node:4", r"node 4 is not there (the machine has nodes 0-3)"),
        ("nodes:2-9", r"node 4 is not there"),
        ("1" * 5000, "CPU 1000000000 is not there"),
        ("\x1b[2J", r"'\x1b[2J' is no part"),
    ],
)
def test_what_is_refused(text: str, problem: str) -> None:
    with pytest.raises(BadInput, match=re.escape(problem)) as caught:
        parse_cpus(text, FOUR_NODES, "x.cfg", "line 3")
    assert str(caught.value).startswith("x.cfg: line 3: ")


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("all", {0, 2, 4, 6}),
        ("0-7", {0, 2, 4, 6}),
        ("1", set()),
        ("3", set()),
        ("nodes:0-2", {0, 2, 4, 6}),
        ("node:5", set()),
    ],
)
def test_a_machine_with_gaps(text: str, cpus: set[int]) -> None:
    assert parse_cpus(text, GAPS, "x.cfg") == cpus


@pytest.mark.parametrize(
    ("text", "missing"),
    [("8", "CPU 8"), ("node:1", "node 1"), ("nodes:3-4", "node 3"), ("nodes:6", "node 6"), ("nodes:2-9", "node 6")],
)
def test_what_is_not_on_a_machine_with_gaps(text: str, missing: str) -> None:
    with pytest.raises(BadInput, match=f"{missing} is not there"):
        parse_cpus(text, GAPS, "x.cfg")


def test_the_shortest_form() -> None:
    assert format_cpus([7, 4, 5]) == "4-5,7"
    assert format_cpus(range(64)) == "0-63"
    assert format_cpus([]) == ""


@given(st.frozensets(st.integers(0, 7)))
def test_there_and_back(cpus: frozenset[int]) -> None:
    assert parse_cpus(format_cpus(cpus), FOUR_NODES, "x.cfg") == cpus


PARTS = st.builds(
    lambda negated, nodes, first, length: (negated, nodes, first, first + length),
    st.booleans(),
    st.sampled_from(["", "node:", "nodes:"]),
    st.integers(0, 3),
    st.integers(0, 3),
)


@given(st.lists(PARTS, max_size=6))
def test_parts_are_applied_one_by_one(parts: list[tuple[bool, str, int, int]]) -> None:
    expected = [False] * 8
    words = []
    for negated, nodes, first, last in parts:
        end = min(last, 3)
        words.append(f"{'^' if negated else ''}{nodes}{first}-{end}")
        for cpu in range(first * 2, end * 2 + 2) if nodes else range(first, end + 1):
            expected[cpu] = not negated
    assert parse_cpus(",".join(words), FOUR_NODES, "x.cfg") == {cpu for cpu in range(8) if expected[cpu]}


@given(st.text(alphabet="0123456789,-^:nodesal +"))
def test_any_list_is_read_or_refused(text: str) -> None:
    try:
        assert parse_cpus(text, FOUR_NODES, "x.cfg") <= set(range(8))
    except BadInput as error:
        refused = str(error)
        assert refused.isprintable()


@pytest.mark.parametrize(
    ("text", "expected"), [("3", (3, 3)), ("0-3", (0, 3)), ("3-1", None), ("", None), ("1-2-3", None)]
)
def test_ranges(text: str, expected: tuple[int, int] | None) -> None:
    assert parse_range(text) == expected
