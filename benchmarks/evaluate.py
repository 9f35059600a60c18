"""The performance model: one evaluation, and thousands as one array call, by what is on the machine.

Every domain on one node with its memory is what a host mostly looks like; every domain on all nodes, its memory too, is
the most work that there can be.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from rich.table import Table

from benchmarks.placement import machine
from benchmarks.timing import Found, best_s
from domicile.performance.curves import Floats
from domicile.performance.evaluate import evaluate
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad

__all__ = ["TITLE", "measure"]

TITLE = "evaluations of the performance model"
ASKED = (8, 64)
CASES = ((2, 16), ASKED, (8, 256), (64, 256))
MOST_CANDIDATES = 4096
MOST_CELLS = 1 << 22
"""Candidates x domains x nodes in one call: 32 MiB for each of its arrays."""


def measure() -> Found:
    """Time one load alone, and many at once."""
    found = Found()
    table = Table("nodes", "domains", "each on", "one, us", "candidates", "each, us", "a second", "ratio", title=TITLE)
    for nodes, domains in CASES:
        host = Machine.of(machine(nodes))
        for where, shares in (("one node", on_one), ("all nodes", on_all)):
            cpu, memory = shares(np.random.default_rng(nodes), domains, nodes)
            candidates = min(MOST_CANDIDATES, MOST_CELLS // (domains * nodes))
            one = MachineLoad.of(0.7 * cpu, memory)
            # every candidate has its domains elsewhere
            turned = np.array([np.roll(cpu, shift, axis=0) for shift in range(candidates)])
            many = MachineLoad.of(0.7 * turned, memory)
            one_us = best_s(partial(evaluate, host, one), 15, 10) * 1e6
            each_us = best_s(partial(evaluate, host, many), 2) * 1e6 / candidates
            row = (nodes, domains, where, f"{one_us:.0f}", candidates, f"{each_us:.1f}", f"{1e6 / each_us:,.0f}")
            table.add_row(*map(str, row), f"{one_us / each_us:.1f}")
            if (nodes, domains) == ASKED:
                what = f"one evaluation, {domains} domains on {nodes} nodes, each on {where}"
                found.rows.append((what, f"{one_us:.0f} us", "less than 100 us"))
                what = f"the same, {candidates} candidates in one call"
                found.rows.append((what, f"{1e6 / each_us:,.0f} a second", ""))
    found.tables.append(table)
    return found


def on_one(random: np.random.Generator, domains: int, nodes: int) -> tuple[Floats, Floats]:
    """Every domain's vCPUs and memory on a node of its own choice."""
    shares = np.eye(nodes)[random.integers(nodes, size=domains)]
    return shares, shares


def on_all(random: np.random.Generator, domains: int, nodes: int) -> tuple[Floats, Floats]:
    """Every domain's vCPUs and memory on all nodes, unevenly."""
    return random.dirichlet(np.ones(nodes), domains), random.dirichlet(np.ones(nodes), domains)
