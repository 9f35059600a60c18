"""The search for many guests beside proven optima: `python -m domicile.bench.against_exact FILE [FIRST] [COUNT]`.

Random instances of 2 to 8 nodes and 2 to 12 guests, each drawn from its own seed; of each the layout of the compiled
search, and what is proven about it: by enumeration (`policies.placement.exact`: every assignment, with bounds), or by
HiGHS (`afresh.proof`), in `LIMIT_S` at most each. HiGHS comes first for one of eight, and where there are more than
`MOST` assignments and two nodes; it comes last where enumeration is not done in time. The gap is what the exact
solution is better, as a share of the sum of all domains' slowdowns; HiGHS solves a form of pieces of lines below the
objective, so beside the gap to its solution stands that to its bound, and a solution that has no room once memory falls
as it does is none. Where both were stopped there is only the bound, told apart, and another instance is drawn. FILE
keeps the results as JSON lines: a run that was stopped goes on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import inf, prod
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from domicile.policies.effort import Effort
from domicile.policies.placement import problem_of
from domicile.policies.placement.afresh.build import build
from domicile.policies.placement.afresh.proof import prove
from domicile.policies.placement.exact import search_exactly
from domicile.policies.placement.layout import Layout, Problem
from domicile.policies.placement.many import laid_out, laid_out_compiled
from domicile.policies.placement.search import NoRoom, as_it_falls
from domicile.state.model import Domain, DomainType, Snapshot, Vcpu
from domicile.state.request import Character, Group, GroupKind, GuestRequest, Intent
from domicile.topology.model import Cpu, Node, Topology

__all__ = ["INSTANCES", "MOST", "Compared", "compare", "drawn", "known", "run", "table"]

INSTANCES = 1000
MOST = 100_000
"""Assignments up to which HiGHS is not asked first, but for one instance of eight."""

LIMIT_S = 5.0
ENUMERATED, SOLVED, STOPPED = "enumeration", "HiGHS", "HiGHS, stopped"
WEIGHTS = (128, 256, 256, 512)
SHAPES = (*((2, 12), (3, 8), (4, 6), (5, 4), (6, 4), (8, 3)) * 3, (8, 12))
"""Nodes, and guests at most; few of the last kind, which is seldom proven."""


@dataclass(frozen=True, slots=True)
class Compared:
    """`proof`: how it was proven. `found`: whether the search found a layout, `possible`: whether there is one; None
    where nobody found out. `gap`: how much better the exact solution is; `to_bound`: than what no layout is below; None
    where there is no layout or no bound. `search_s`, `proof_s`: CPU time."""

    seed: int
    nodes: int
    guests: int
    proof: str
    found: bool
    gap: float | None
    to_bound: float | None
    possible: bool | None
    search_s: float
    proof_s: float

    @property
    def missed(self) -> bool:
        """Whether the search found no way where there is one."""
        return not self.found and bool(self.possible)


def drawn(seed: int) -> tuple[Snapshot, list[GuestRequest], Intent]:
    """An instance: uneven nodes and distances, residents, and guests that mostly have room; every third is tight, every
    fourth has a group, every fifth domains of unequal weight, some capped or leaning hard on memory, and every sixth
    guests whose hard affinity leaves them some of the nodes."""
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
    characters: list[Character] = []
    if seed % 5 == 0:
        domains = tuple(replace(domain, weight=int(random.choice(WEIGHTS))) for domain in domains)
        requests = [
            replace(one, weight=int(random.choice(WEIGHTS)), cap_percent=int(random.choice([0, 0, 50, 150])))
            for one in requests
        ]
        bounds = random.choice([0.1, 0.4, 0.8], size=guests)
        characters = [
            Character(one.name, float(bound), float(random.choice([0.2, 1.0, 5.0])))
            for one, bound in zip(requests, bounds, strict=True)
        ]
    if seed % 6 == 0:
        requests = [_kept_off(random, one, topology) for one in requests]
    groups = (Group("x", kind, members),) if seed % 4 == 0 else ()
    return Snapshot(topology, domains, 0.0), requests, Intent(groups, domains=tuple(characters))


def _kept_off(random: np.random.Generator, request: GuestRequest, topology: Topology) -> GuestRequest:
    """One in two with a hard affinity to some nodes."""
    if random.random() < 0.5:
        return request
    count = len(topology.nodes)
    some = random.choice(count, size=int(random.integers(1, count + 1)), replace=False)
    return replace(request, hard_affinity=(topology.cpus_of(some.tolist()),) * request.vcpus)


def _vcpus(random: np.random.Generator, everywhere: frozenset[int], topology: Topology, home: int) -> tuple[Vcpu, ...]:
    soft = topology.cpus_of([home])
    return tuple(Vcpu(number, None, everywhere, soft) for number in range(int(random.integers(1, 5))))


def compare(seed: int, limit_s: float = LIMIT_S, *, compiled: bool = True) -> Compared:
    """Search an instance by the compiled search however few guests there are, or as `place` does unasked; and prove
    what can be proven. The search knows nothing of the proof."""
    snapshot, requests, intent = drawn(seed)
    problem = problem_of(snapshot, requests, intent)
    begin = time.process_time()
    try:
        layout: Layout | None = laid_out_compiled(problem, Effort()) if compiled else laid_out(problem, None)
    except NoRoom:
        layout = None
    search_s = time.process_time() - begin
    many = prod(2 ** len(subject.eligible) - 1 for subject in problem.subjects) > MOST
    ways = [_enumerated, _solved]
    if seed % 8 == 0 or (many and len(problem.machine.topology.nodes) == 2):
        ways.reverse()
    size = len(problem.machine.topology.nodes), len(requests)
    for way in ways:
        proven = way(problem, layout, limit_s=limit_s)
        if proven.how != STOPPED:
            break
    proof_s = time.process_time() - begin - search_s
    possible = proven.possible or layout is not None or (None if proven.how == STOPPED else False)
    found = layout is not None
    return Compared(seed, *size, proven.how, found, proven.gap, proven.to_bound, possible, search_s, proof_s)


@dataclass(frozen=True, slots=True)
class _Proof:
    """What one way has proven; see `Compared`."""

    how: str
    possible: bool
    gap: float | None = None
    to_bound: float | None = None


def _enumerated(problem: Problem, layout: Layout | None, limit_s: float) -> _Proof:
    """By enumeration; `STOPPED` where it takes too long."""
    until = time.process_time() + limit_s

    def stop() -> bool:
        return time.process_time() > until

    best = search_exactly(problem, None if layout is None else as_it_falls(layout), stop, inf)
    if stop():
        return _Proof(STOPPED, best is not None)
    gap = _gap(problem, layout, best.objective) if layout and best else None
    return _Proof(ENUMERATED, best is not None, gap, gap)


def _solved(problem: Problem, layout: Layout | None, limit_s: float) -> _Proof:
    """By HiGHS; `STOPPED` where it takes too long, or its solution has no room."""
    proof = prove(problem, build(problem), None, limit_s)
    # one without room is no proof but where nobody has found another
    how = SOLVED if proof.optimal and (proof.best is not None or layout is None) else STOPPED
    gap = bound = None
    if layout is not None:
        bound = _gap(problem, layout, proof.bound) if np.isfinite(proof.bound) else None
        gap = bound if proof.best is None else _gap(problem, layout, proof.best.objective)
    return _Proof(how, proof.best is not None, gap, bound)


def _gap(problem: Problem, layout: Layout, bound: float) -> float:
    domains = len(problem.residents.names) + len(problem.subjects)
    return max(layout.objective - bound, 0.0) / (domains + layout.objective)


def table(results: Sequence[Compared]) -> Table:
    """Gaps by how they were proven."""
    shown = Table(
        "proof", "instances", "median gap", "95 %", "worst", "to the bound: 95 %", "worst", title="gap to the best"
    )
    shown.add_column("no way missed", justify="right")
    shown.add_column("search, ms", justify="right")
    for proof in ("all proven", ENUMERATED, SOLVED, STOPPED):
        mine = [one for one in results if proof == one.proof or (proof == "all proven" and one.proof != STOPPED)]
        gaps = [one.gap for one in mine if one.gap is not None]
        bounds = [one.to_bound for one in mine if one.to_bound is not None]
        figures = [f"{np.percentile(gaps, q):.3%}" for q in (50, 95, 100)] if gaps else ["-"] * 3
        figures += [f"{np.percentile(bounds, q):.3%}" for q in (95, 100)] if bounds else ["-"] * 2
        time_ms = f"{1e3 * np.median([one.search_s for one in mine]):.1f}" if mine else "-"
        shown.add_row(proof, str(len(mine)), *figures, str(sum(one.missed for one in mine)), time_ms)
    return shown


def known(path: Path) -> dict[int, Compared]:
    """What a file of results (JSON lines) has, by seed; a line that was being written when the run was stopped does
    not count."""
    found = {}
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            one = msgspec.json.decode(line, type=Compared)
        except msgspec.DecodeError:
            continue
        found[one.seed] = one
    return found


def run(path: Path, first: int, count: int) -> list[Compared]:
    """The results of the instances from the first on, until so many are proven; those that the file has not got are
    worked out and added to it one by one."""
    there = known(path)
    said = Console(stderr=True, highlight=False)
    results: list[Compared] = []
    seed = first - 1
    while sum(one.proof != STOPPED for one in results) < count:
        seed += 1
        one = there.get(seed)
        if one is None:
            one = compare(seed)
            with path.open("ab") as file:
                file.write(b"\n" + msgspec.json.encode(one))
        if one.missed or (one.gap or 0.0) > 0.01:
            said.print(one)
        results.append(one)
    return results


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    numbers = [int(argument) for argument in sys.argv[2:]]
    first, count = (*numbers, *(0, INSTANCES)[len(numbers) :])
    Console().print(table(run(Path(sys.argv[1]), first, count)))
