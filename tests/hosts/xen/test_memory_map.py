"""The dump of debug key `u`: only a complete one counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.hosts.xen.memory_map import parse_memory_map

Pages = dict[int, dict[int, int]]


def dump(now: int, pages: Pages, nodes: list[int], domain: str = "Domain {}") -> list[str]:
    """A dump as dump_numa prints it."""
    lines = [f"'u' pressed -> dumping numa info (now = {now})"]
    lines += [f"NODE{n} start->{n * 524288} size->524288 free->{n}" for n in nodes]
    lines += ["CPU0...1 -> NODE0", "CPU2 -> NODE1", "Memory location of each domain:"]
    for domid, by_node in pages.items():
        lines.append(domain.format(domid) + f" (total: {sum(by_node.values())}):")
        lines += [f"    Node {n}: {count}" for n, count in by_node.items()]
    return [f"(XEN) {line}" for line in lines]


PAGES: Pages = {0: {0: 66153, 1: 16725}, 7: {0: 0, 1: 65536}}
NOISE = [
    "(XEN) d1v0 Unhandled MSR",
    "",
    "(d7) [    1.2] guest says Node 3: 4",
    "(XEN) *** Serial input to Xen",
    "Node 1: 5",
]


def test_a_dump() -> None:
    found = parse_memory_map("\n".join(dump(113, PAGES, [0, 1])))
    assert found is not None
    assert (found.now_ns, found.pages) == (113, PAGES)


def test_headers_of_later_versions_and_timestamps() -> None:
    lines = dump(5, PAGES, [0, 1], "d{}")
    stamped = [line.replace("(XEN) ", "(XEN) [2026-11-04 10:00:00.123] ") for line in lines]
    for text in (lines, stamped):
        found = parse_memory_map("\n".join(text))
        assert found is not None
        assert found.pages == PAGES


@given(data=st.data())
def test_noise_between_the_lines_changes_nothing(data: st.DataObject) -> None:
    lines = dump(9, PAGES, [0, 1])
    for place in sorted(data.draw(st.lists(st.integers(0, len(lines)))), reverse=True):
        lines.insert(place, data.draw(st.sampled_from(NOISE)))
    found = parse_memory_map("\n".join(lines))
    assert found is not None
    assert found.pages == PAGES


@pytest.mark.parametrize("gone", range(12))
def test_a_dump_that_lacks_a_line_is_none(gone: int) -> None:
    lines = dump(9, PAGES, [0, 1])
    assert len(lines) == 12
    assert ("CPU" in lines.pop(gone)) == (parse_memory_map("\n".join(lines)) is not None)


def test_a_ring_that_lost_the_heading_holds_no_dump() -> None:
    assert parse_memory_map("\n".join(dump(9, PAGES, [0, 1])[1:])) is None
    assert parse_memory_map("") is None


def test_the_last_complete_one_wins() -> None:
    later: Pages = {0: {0: 1, 1: 2}, 7: {0: 65536, 1: 0}}
    old, new = dump(1, PAGES, [0, 1]), dump(2, later, [0, 1])
    both = parse_memory_map("\n".join(old + new))
    cut = parse_memory_map("\n".join(old + new[:-1]))
    between_domains = parse_memory_map("\n".join(old + new[:-3]))
    assert both is not None
    assert both.pages == later
    for found in (cut, between_domains):
        assert found is not None
        assert found.pages == PAGES


def test_what_two_consoles_wrote_at_once_is_no_dump() -> None:
    one = dump(1, PAGES, [0, 1])
    mixed = [line for pair in zip(one, dump(2, PAGES, [0, 1]), strict=True) for line in pair]
    assert parse_memory_map("\n".join(mixed)) is None


def test_vnodes_are_passed_over() -> None:
    lines = dump(3, {2: {0: 43, 1: 65394}}, [0, 1])
    lines += [
        "(XEN)      2 vnodes, 4 vcpus, guest physical layout:",
        "(XEN)          0: pnode   1, vcpus 0-1 ",
        "(XEN)            0000000000000000 - 0000000010000000",
        "(XEN) Domain 3 (total: 5):",
        "(XEN)     Node 0: 5",
        "(XEN)     Node 1: 0",
    ]
    found = parse_memory_map("\n".join(lines))
    assert found is not None
    assert found.pages == {2: {0: 43, 1: 65394}, 3: {0: 5, 1: 0}}


@given(st.text())
def test_anything_at_all_is_read_without_complaint(text: str) -> None:
    parse_memory_map(text)
    parse_memory_map("(XEN) 'u' pressed -> dumping numa info (now = 1)\n" + text)
