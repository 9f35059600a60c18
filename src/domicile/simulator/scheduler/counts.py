"""What vCPUs and pCPUs did in an epoch, added up by row, domain and node in one pass.

Rows are as in the engine: a domain, or a vnode of one that sees its nodes. V vCPUs, R rows, D domains, N nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domicile.local.compiled import entrance
from domicile.simulator.scheduler.state import Floats, Ints, Table
from domicile.simulator.scheduler.stepper import Scheduler

__all__ = ["Counts", "counts"]

RAN, WAITED, WANTED, WORK, REMOTE, HOME = range(6)
FIGURES = 6


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Since the scheduler's counts were cleared, in seconds of vCPU time: `row_s` (R x N) and `domain_s` (D x N), time
    run; by domain (D each) `ran_s`, `waited_s`, `wanted_s`, `work_s`; `remote`, `home`: the share of that time weighted
    with the accesses to other nodes, and the share on home nodes; `moves`, `node_moves`. `busy_ns` (N) of pCPUs;
    `wanted_ns` (V) of vCPUs."""

    row_s: Floats
    domain_s: Floats
    ran_s: Floats
    waited_s: Floats
    wanted_s: Floats
    work_s: Floats
    remote: Floats
    home: Floats
    moves: Ints
    node_moves: Ints
    busy_ns: Floats
    wanted_ns: Floats


def counts(scheduler: Scheduler, row_of: Ints, domain_of_row: Ints, accesses: Floats, home: Floats) -> Counts:
    """The counts by rows: `row_of` each vCPU (V), and by domains: `domain_of_row` (R). `accesses` (R x N): where those
    to memory go, `home` (D x N): 1.0 for a home node, else 0.0."""
    rows, nodes = accesses.shape
    row_s, domain_s = np.zeros((rows, nodes)), np.zeros(home.shape)
    figures, moves, busy_ns = np.zeros((FIGURES, len(home))), np.zeros((2, len(home)), dtype=np.int64), np.zeros(nodes)
    wanted_ns = np.empty(len(row_of))
    tables = (scheduler.vcpus, scheduler.cpus, scheduler.ran_ns)
    _add_up(*tables, row_of, domain_of_row, accesses, home, row_s, domain_s, figures, moves, busy_ns, wanted_ns)
    return Counts(
        row_s=row_s,
        domain_s=domain_s,
        ran_s=figures[RAN],
        waited_s=figures[WAITED],
        wanted_s=figures[WANTED],
        work_s=figures[WORK],
        remote=figures[REMOTE],
        home=figures[HOME],
        moves=moves[0],
        node_moves=moves[1],
        busy_ns=busy_ns,
        wanted_ns=wanted_ns,
    )


@entrance
def _add_up(  # noqa: PLR0913, PLR0917 - Numba knows arrays, not records of arrays
    vcpus: Table,
    cpus: Table,
    ran_ns: Floats,
    row_of: Ints,
    domain_of_row: Ints,
    accesses: Floats,
    home: Floats,
    row_s: Floats,
    domain_s: Floats,
    figures: Floats,
    moves: Ints,
    busy_ns: Floats,
    wanted_ns: Floats,
) -> None:
    """Add up into the last five but one, which are 0; the last is filled in."""
    nodes = row_s.shape[1]
    for vcpu in range(len(vcpus)):
        row, domain = row_of[vcpu], vcpus[vcpu].domain
        for node in range(nodes):
            row_s[row, node] += ran_ns[vcpu, node] / 1e9
        wanted_ns[vcpu] = vcpus[vcpu].wanted_ns
        figures[WAITED, domain] += vcpus[vcpu].waited_ns
        figures[WANTED, domain] += vcpus[vcpu].wanted_ns
        figures[WORK, domain] += vcpus[vcpu].core_ns / vcpus[vcpu].stretch
        moves[0, domain] += vcpus[vcpu].moves
        moves[1, domain] += vcpus[vcpu].node_moves
    for row in range(len(row_s)):
        domain = domain_of_row[row]
        for node in range(nodes):
            ran_s = row_s[row, node]
            domain_s[domain, node] += ran_s
            figures[RAN, domain] += ran_s
            figures[REMOTE, domain] += ran_s * accesses[row, node]
            figures[HOME, domain] += ran_s * home[domain, node]
    for domain in range(len(domain_s)):
        for figure in (WAITED, WANTED, WORK):
            figures[figure, domain] /= 1e9
        ran_s = figures[RAN, domain]
        # who did not run was at home, and accessed nothing
        figures[REMOTE, domain] = 1.0 - figures[REMOTE, domain] / ran_s if ran_s > 0.0 else 0.0
        figures[HOME, domain] = figures[HOME, domain] / ran_s if ran_s > 0.0 else 1.0
    for cpu in range(len(cpus)):
        busy_ns[cpus[cpu].node] += cpus[cpu].busy_ns
