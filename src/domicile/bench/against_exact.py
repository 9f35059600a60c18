"""The search for many guests at once beside proven optima: `python -m domicile.bench.against_exact [FIRST] [COUNT]`.

Random instances of 2 to 8 nodes and 2 to 12 guests, each drawn from its own seed; of each the search's layout, and what
is proven about it: by enumeration (`policies.placement.exact`: every assignment, with bounds) where that has no more
than `MOST` assignments, else by HiGHS (`afresh.proof`) in `LIMIT_S` at most. The gap is what a better layout could be
better, as a share of the sum of all domains' slowdowns. Where HiGHS was stopped, the gap is to its bound: an upper
limit, told apart.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

import numpy as np
from rich.console import Console
from rich.table import Table

from domicile.policies.effort import Effort
from domicile.policies.placement import problem_of
from domicile.policies.placement.afresh.build import build
from domicile.policies.placement.afresh.proof import prove
from domicile.policies.placement.exact import few_enough, search_exactly
from domicile.policies.placement.layout import Layout, Problem
from domicile.policies.placement.many import laid_out, laid_out_compiled
from domicile.policies.placement.search import NoRoom, as_it_falls
from domicile.state.model import Domain, DomainType, Snapshot, Vcpu
from domicile.state.request import Group, GroupKind, GuestRequest, Intent
from domicile.topology.model import Cpu, Node, Topology

__all__ = ["INSTANCES", "Compared", "compare", "drawn", "table"]

INSTANCES = 1000
MOST = 20_000
"""Assignments that are enumerated at most."""

LIMIT_S = 10.0
SHAPES = ((2, 12), (3, 8), (4, 6), (5, 4), (6, 4), (8, 3), (8, 12))
"""Nodes, and guests at most."""


@dataclass(frozen=True, slots=True)
class Compared:
    """`proof`: how it was proven (enumeration, HiGHS, or a bound alone). `gap` None: no layout was found by the search.
    `possible`: whether there is one; None where nobody found out. `search_s`: CPU time of the search."""

    seed: int
    nodes: int
    guests: int
    proof: str
    gap: float | None
    possible: bool | None
    search_s: float

    @property
    def missed(self) -> bool:
        """Whether the search found no way where there is one."""
        return self.gap is None and bool(self.possible)


def drawn(seed: int) -> tuple[Snapshot, list[GuestRequest], Intent]:
    """An instance: uneven nodes and distances, residents, and guests that mostly have room; every third is tight, every
    fourth has a group."""
    random = np.random.default_rng(seed)
    count, most = SHAPES[seed % len(SHAPES)]
    cores, smt = [int(c) for c in random.choice([2, 4, 8], size=count)], int(random.choice([1, 2]))
    if random.random() < 0.6:
        cores = [cores[0]] * count
    cpus: list[Cpu] = []
    for node, many in enumerate(cores):
        cpus += [Cpu(len(cpus) + index, index // smt, node, node) for index in range(many * smt)]
    distances = [[10] * count for _ in range(count)]
    for a, b in combinations(range(count), 2):
        distances[a][b] = distances[b][a] = int(random.choice([11, 16, 21, 31]))
    guests = int(random.integers(2, most + 1))
    needs = random.choice([100, 500, 1000, 1500, 4000], size=guests)
    room = float(needs.sum() + 4 * guests) * (random.uniform(1.02, 1.4) if seed % 3 == 0 else random.uniform(1.5, 6.0))
    free = np.ceil(room * random.dirichlet(np.full(count, 4.0))).astype(int)
    nodes = tuple(Node(node, 65536, int(mib)) for node, mib in enumerate(free))
    topology = Topology(nodes, tuple(cpus), tuple(map(tuple, distances)))
    everywhere = frozenset(cpu.id for cpu in cpus)
    domains = tuple(
        Domain(number, f"r{number}", "", _vcpus(random, everywhere, topology, int(home)), 256, 256)
        for number, home in enumerate(random.integers(count, size=int(random.integers(0, 2 * count))))
    )
    requests = [
        GuestRequest(f"g{number}", DomainType.PVH, vcpus, vcpus, int(need), int(need), 4)
        for number, (need, vcpus) in enumerate(
            zip(needs, random.choice([1, 2, 4, 8], size=guests).tolist(), strict=True)
        )
    ]
    kind = list(GroupKind)[int(random.integers(3))]
    members = tuple(f"g{number}" for number in range(min(guests, 3)))
    return Snapshot(topology, domains, 0.0), requests, Intent((Group("x", kind, members),) if seed % 4 == 0 else ())


def _vcpus(random: np.random.Generator, everywhere: frozenset[int], topology: Topology, home: int) -> tuple[Vcpu, ...]:
    soft = topology.cpus_of([home])
    return tuple(Vcpu(number, None, everywhere, soft) for number in range(int(random.integers(1, 5))))


def compare(seed: int, limit_s: float = LIMIT_S, *, compiled: bool = False) -> Compared:
    """Search an instance as `place` does, or by the compiled search however few guests there are; and prove what can be
    proven."""
    snapshot, requests, intent = drawn(seed)
    problem = problem_of(snapshot, requests, intent)
    begin = time.process_time()
    try:
        layout = laid_out_compiled(problem, Effort()) if compiled else laid_out(problem, None)
        if not compiled and few_enough(problem):
            layout = search_exactly(problem, as_it_falls(layout)) or layout
    except NoRoom:
        layout = None
    search_s = time.process_time() - begin
    size = len(problem.machine.topology.nodes), len(requests)
    if prod(2 ** len(subject.eligible) - 1 for subject in problem.subjects) <= MOST:
        best = search_exactly(problem, layout)
        gap = _gap(problem, layout, best.objective) if layout and best else None
        return Compared(seed, *size, "enumeration", gap, best is not None, search_s)
    built = build(problem)
    proof = prove(problem, built, None, limit_s)
    gap = None if layout is None else _gap(problem, layout, proof.bound)
    if proof.best is not None and layout is not None:
        gap = max(gap or 0.0, _gap(problem, layout, proof.best.objective))
    possible = proof.best is not None or (None if not proof.optimal else False)
    return Compared(seed, *size, "HiGHS" if proof.optimal else "HiGHS, stopped", gap, possible, search_s)


def _gap(problem: Problem, layout: Layout, bound: float) -> float:
    domains = len(problem.residents.names) + len(problem.subjects)
    return max(layout.objective - bound, 0.0) / (domains + layout.objective)


def table(results: Sequence[Compared]) -> Table:
    """Gaps by how they were proven."""
    shown = Table(
        "proof", "instances", "median gap", "95 %", "worst", "no way missed", "search, ms", title="gap to the best"
    )
    for proof in ("enumeration", "HiGHS", "HiGHS, stopped"):
        mine = [one for one in results if one.proof == proof]
        gaps = [one.gap for one in mine if one.gap is not None]
        figures = [f"{np.percentile(gaps, q):.3%}" for q in (50, 95, 100)] if gaps else ["-"] * 3
        time_ms = f"{1e3 * np.median([one.search_s for one in mine]):.1f}" if mine else "-"
        shown.add_row(proof, str(len(mine)), *figures, str(sum(one.missed for one in mine)), time_ms)
    return shown


def _told(seeds: Iterable[int]) -> Iterator[Compared]:
    said = Console(stderr=True, highlight=False)
    for seed in seeds:
        one = compare(seed)
        if one.missed or (one.gap or 0.0) > 0.01:
            said.print(one)
        yield one


if __name__ == "__main__":
    first, count = (int(sys.argv[1]) if len(sys.argv) > 1 else 0), int(sys.argv[2]) if len(sys.argv) > 2 else INSTANCES
    Console().print(table(list(_told(range(first, first + count)))))
