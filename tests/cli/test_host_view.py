"""How firmly domains are bound to their nodes, as `domicile show` says it."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from watched import ALL, NODES, busy, host

from domicile.cli.host_view import host_view
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
