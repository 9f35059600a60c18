"""The picture in the terminal: as wide as it may be, in characters and colours that the terminal has."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from domicile.cli.time_lines import MOST_DOMAINS, TimeLines
from domicile.simulator.run import Sample
from domicile.simulator.time_line import TimeLine
from domicile.simulator.totals import DomainSummary, NodeSummary, Summary


def made(domains: int = 2) -> TimeLine:
    line = TimeLine()
    for number in range(100):
        rows = tuple(
            DomainSummary(f"guest-with-a-name-{row}", 1.0, 1.0 + number / 50, 2.0, 1.0, 1.0, number / 99, None, 0, 0, 0)
            for row in range(domains)
        )
        line.write(Sample(number + 1.0, Summary(1.0, True, rows, (NodeSummary(0, 0.5, 0.99, 1),))))
    return line


def drawn(line: TimeLine, width: int, encoding: str = "utf-8", colours: bool = False) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, force_terminal=colours, color_system="standard" if colours else None)
    console.print(TimeLines(line, warm_up_s=10.0))
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [60, 80, 120, 250])
def test_it_fits(width: int) -> None:
    lines = drawn(made(), width).splitlines()
    assert all(len(line) <= width for line in lines)
    assert any(line.startswith("node 0") and "▅" in line and "50%" in line and "99%" in line for line in lines)
    guest = next(line for line in lines if line.startswith("guest"))
    assert guest.split()[0].endswith("me-1") or guest.split()[0].endswith("me-0")
    assert "▁" in guest
    assert "█" in guest
    assert "0 to 100 s, 10 s of it warm-up"[: width - 41] in lines[-1]


def test_it_rises_from_left_to_right() -> None:
    guest = next(line for line in drawn(made(), 80).splitlines() if line.startswith("guest"))
    bar = guest.split()[1]
    assert list(bar) == sorted(bar)


def test_a_terminal_without_blocks_gets_ascii() -> None:
    text = drawn(made(), 80, "ascii")
    assert text.isascii()
    assert "#" in text


def test_colours_only_where_there_are_any() -> None:
    assert "\x1b" not in drawn(made(), 80)
    assert "\x1b" in drawn(made(), 80, colours=True)


def test_many_domains_are_told_by_those_that_changed_most() -> None:
    text = drawn(made(MOST_DOMAINS + 5), 80)
    assert sum(line.startswith("guest") for line in text.splitlines()) == MOST_DOMAINS
    assert "5 more" in text


@pytest.mark.parametrize(("line", "width"), [(TimeLine(), 80), (made(), 30)])
def test_nothing_where_there_is_nothing_or_no_room(line: TimeLine, width: int) -> None:
    assert drawn(line, width).strip() == ""
