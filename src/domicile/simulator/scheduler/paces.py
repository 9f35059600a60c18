"""How fast everything goes on: what the performance model has found of an epoch, handed to vCPUs in one pass.

Rows are as in the engine: a domain, or a vnode of one that sees its nodes. V vCPUs, R rows, D domains, N nodes.
"""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import entrance, part
from domicile.simulator.scheduler.state import Floats, Ints, Table
from domicile.simulator.scheduler.stepper import Scheduler

__all__ = ["go_on"]

LEAST_STRETCH = 0.1
"""Spread over many nodes a domain can be faster than on one; never without bound."""
UNKNOWN = -1.0
"""Of a row that did not run: it goes on as fast as when it did, since who wants little may not run every epoch."""


def go_on(
    scheduler: Scheduler,
    row_of: Ints,
    domain_of_row: Ints,
    row_s: Floats,
    ran_s: Floats,
    terms: Floats,
    gbs: Floats,
    longer: Floats,
    burden: Floats,
) -> tuple[Floats, Floats]:
    """Set each vCPU's `stretch`, and begin to count anew; the memory traffic of each domain in GB/s, and its mean
    stretch (D each).

    `row_s` (R x N) and `ran_s` (D): vCPU time run; by row, what stretches work: `terms` (T x R), which add up, and
    `burden` (R), a factor; `longer` (N): what Xen's own work adds on each node; `gbs` (R): memory traffic.
    """
    by_domain = np.zeros((2, len(ran_s)))
    tables = (scheduler.vcpus, scheduler.cpus, scheduler.ran_ns)
    _go_on(*tables, row_of, domain_of_row, row_s, ran_s, terms, gbs, longer, burden, by_domain)
    return by_domain[0], by_domain[1]


@part
def _weighted(values: Floats, weights: Floats, parts: Floats) -> float:
    """The sum of values times weights, added up in the order in which NumPy adds up a row: from 8 on, in 8 `parts`."""
    count = len(values)
    whole = count - count % 8
    total = 0.0
    if whole > 0:
        for i in range(8):
            parts[i] = 0.0
        for i in range(whole):
            parts[i % 8] += values[i] * weights[i]
        total = ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]))
    for i in range(whole, count):
        total += values[i] * weights[i]
    return total


@entrance
def _go_on(
    vcpus: Table,
    cpus: Table,
    ran_ns: Floats,
    row_of: Ints,
    domain_of_row: Ints,
    row_s: Floats,
    ran_s: Floats,
    terms: Floats,
    gbs: Floats,
    longer: Floats,
    burden: Floats,
    by_domain: Floats,
) -> None:
    """The last is filled in: the traffic and the mean stretch."""
    rows = len(row_s)
    paces, parts, ones = np.empty(rows), np.empty(8), np.ones(len(longer))
    for row in range(rows):
        domain = domain_of_row[row]
        by_domain[0, domain] += gbs[row]
        busy_s = _weighted(row_s[row], ones, parts)
        if busy_s <= 0.0:
            paces[row] = UNKNOWN
            continue
        stretch = 1.0
        for term in range(len(terms)):
            stretch += terms[term, row]
        stretch = max(stretch, LEAST_STRETCH)
        xen = 1.0 + _weighted(row_s[row], longer, parts) / busy_s
        paces[row] = stretch * burden[row] * xen
        by_domain[1, domain] += stretch * busy_s
    for domain in range(len(ran_s)):
        by_domain[1, domain] = by_domain[1, domain] / ran_s[domain] if ran_s[domain] > 0.0 else 1.0
    for vcpu in range(len(vcpus)):
        if paces[row_of[vcpu]] != UNKNOWN:
            vcpus[vcpu].stretch = paces[row_of[vcpu]]
        vcpus[vcpu].core_ns = 0.0
        vcpus[vcpu].waited_ns = 0.0
        vcpus[vcpu].wanted_ns = 0.0
        vcpus[vcpu].moves = 0
        vcpus[vcpu].node_moves = 0
        for node in range(ran_ns.shape[1]):
            ran_ns[vcpu, node] = 0.0
    for cpu in range(len(cpus)):
        cpus[cpu].busy_ns = 0.0
