"""What a domain is like beside its size: its share where CPUs are short, its cap, how hard it leans on memory.

Weights are Xen's (`xl sched-credit2 -w`), 256 = 1.0 here. The cap bounds how much a domain can want: credit and credit2
stop it at that, on an idle host too, so that no placement makes it faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from domicile.performance.assumptions import Assumptions
from domicile.performance.tenants import Tenants
from domicile.state.load import capped
from domicile.state.model import Snapshot
from domicile.state.request import Character

__all__ = ["USUAL_WEIGHT", "leaning", "scheduled"]

USUAL_WEIGHT = 256
"""Xen's weight of a domain that nobody gave one."""


def scheduled(tenants: Tenants, snapshot: Snapshot) -> Tenants:
    """With the weights and caps that the snapshot tells; those who are not there yet have Xen's defaults."""
    domains = {domain.name: domain for domain in snapshot.domains}
    if all(domain.weight == USUAL_WEIGHT and not domain.cap_percent for domain in snapshot.domains):
        return tenants
    weight, demand = np.ones(len(tenants.names)), tenants.demand.copy()
    for row, name in enumerate(tenants.names):
        if name in domains:
            weight[row] = domains[name].weight / USUAL_WEIGHT
            demand[row] = capped(float(demand[row]), domains[name].cap_percent)
    return replace(tenants, weight=weight, demand=demand)


def leaning(tenants: Tenants, stated: Sequence[Character], assumptions: Assumptions) -> Tenants:
    """With what is stated of how hard domains lean on memory; of the others as assumed."""
    known: Mapping[str, Character] = {each.domain: each for each in stated}
    if not known.keys() & set(tenants.names):
        return tenants
    bound = np.full(len(tenants.names), assumptions.memory_bound)
    traffic = np.full(len(tenants.names), assumptions.traffic_gbs)
    for row, name in enumerate(tenants.names):
        each = known.get(name)
        if each is not None and each.memory_bound is not None:
            bound[row] = each.memory_bound
        if each is not None and each.traffic_gbs is not None:
            traffic[row] = each.traffic_gbs
    return replace(tenants, memory_bound=bound, traffic_gbs=traffic)
