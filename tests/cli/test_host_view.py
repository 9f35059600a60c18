"""How firmly domains are bound to their nodes, as `domicile show` says it."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from watched import ALL, NODES, busy, host

from domicile.cli.host_view import host_view
from domicile.state.load import Load, load_between
from domicile.state.model import Cpupool, HeldVcpu


@pytest.mark.parametrize(
    ("soft", "hard", "held", "told"),
    [
        (NODES[1], ALL, (), "1"),
        (NODES[1], NODES[1], (), "1 pinned"),
        (NODES[1], NODES[1], (0, 1, 2), "1 held"),
        (NODES[1], ALL, (0, 2), "1 2/3 held"),
    ],
)
def test_home(soft: frozenset[int], hard: frozenset[int], held: tuple[int, ...], told: str) -> None:
    domain = busy("web", [2, 3, 4], memory=1, soft=soft, hard=hard, number=1)
    holds = tuple(HeldVcpu(domain.uuid, vcpu, NODES[1], ALL) for vcpu in held)
    snapshot = replace(host(domain), holds=holds, cpupools=(Cpupool("Pool-0", ALL, "credit2"),))
    console = Console(width=200, file=StringIO(), record=True)
    console.print(host_view("sim:///", snapshot, None))
    (row,) = [line for line in console.export_text().splitlines() if line.startswith("web")]
    assert row.split("256")[0].split("pvh")[1].split("1:")[0].strip() == told


def test_memory_traffic_where_it_is_counted() -> None:
    """Of a domain that is not, it says so; where none is, nobody is bothered with a column."""
    here = host(busy("web", [2], memory=1, number=1), busy("db", [3], memory=1, number=2))
    later = replace(here, taken_at=here.taken_at + 2.0)
    first, second = (
        replace(each, domains=(replace(each.domains[0], traffic_bytes=counted), each.domains[1]))
        for each, counted in ((here, 10**9), (later, 6 * 10**9))
    )

    def shown(load: Load) -> list[list[str]]:
        console = Console(width=200, file=StringIO(), record=True)
        console.print(host_view("sim:///", second, load))
        return [line.split() for line in console.export_text().splitlines() if line.startswith(("domain", "web", "db"))]

    head, web, db = shown(load_between(first, second))
    assert head[-2:] == ["memory", "GB/s"]
    assert (web[-1], db[-1]) == ("2.5", "-")
    assert "GB/s" not in shown(load_between(here, later))[0]
