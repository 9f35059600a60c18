"""The bounds on what a set of nodes costs, and the search that they cut, against weighing every set."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.performance.field import Trial
from domicile.policies.placement import problem_of
from domicile.policies.placement.bounded import MARGIN
from domicile.policies.placement.bounds import bounds_of, sets_below
from domicile.policies.placement.candidates import Batch, every_set, weigh
from domicile.policies.placement.layout import Layout
from domicile.policies.placement.search import choices
from domicile.state.model import PAGES_PER_MIB, Domain, DomainType, Snapshot, Vcpu
from domicile.state.request import Character, Group, GroupKind, GuestRequest, Intent
from domicile.topology.model import Cpu, Device, Node, Topology

DEVICE = "0000:41:00.0"


def drawn(seed: int, most_nodes: int) -> tuple[Snapshot, GuestRequest, Intent]:
    """Hosts with uneven nodes, nodes without CPUs, full nodes and measured bandwidth; guests narrow and wide, with all
    that ties them; weights, caps, backends, and what is stated of domains."""
    chance = np.random.default_rng(seed)
    count = int(chance.integers(1, most_nodes + 1))
    even, full = chance.random() < 0.5, chance.random() < 0.5
    cpus: list[Cpu] = []
    for node in range(count):
        cores = 4 if even else max(int(chance.choice([0, 2, 4, 8])), 2 * (node == 0))
        cpus += [Cpu(len(cpus) + thread, thread // 2, node, node) for thread in range(2 * cores)]
    distances = [[10] * count for _ in range(count)]
    for a, b in combinations(range(count), 2):
        distances[a][b] = distances[b][a] = int(chance.choice([11, 16, 21, 31]))
    free = chance.choice([0, 50, 700, 3000, 6000], count) if full else np.full(count, 6000)
    measured = tuple(tuple(float(gbs) for gbs in row) for row in chance.uniform(3, 30, (count, count)))
    topology = Topology(
        tuple(Node(node, 8192, int(free[node])) for node in range(count)),
        tuple(cpus),
        tuple(map(tuple, distances)),
        (Device(DEVICE, int(chance.integers(count))),),
        bandwidth_gbs=measured if chance.random() < 0.3 else None,
    )
    everywhere = frozenset(cpu.id for cpu in cpus)

    def some_cpus() -> frozenset[int]:
        return topology.cpus_of(np.flatnonzero(chance.random(count) < 0.4).tolist()) or everywhere

    # as many pCPUs as domains want are what makes weights count
    weights = [16, 256, 256, 4096, 60000] if chance.random() < 0.6 else [256]
    caps = [0, 0, 50, 250] if chance.random() < 0.4 else [0]
    domains = []
    if chance.random() < 0.5:
        served = tuple(Vcpu(v, None, everywhere, some_cpus()) for v in range(2))
        domains.append(Domain(0, "Domain-0", "", served, 64, 64))
    for number in range(int(chance.integers(0, 12))):
        soft, home = some_cpus(), int(chance.integers(count))
        vcpus = tuple(Vcpu(v, None, everywhere, soft) for v in range(int(chance.integers(1, 9))))
        pages = {home: 64 * PAGES_PER_MIB}
        weight, cap = int(chance.choice(weights)), int(chance.choice(caps))
        domains.append(
            Domain(number + 1, f"r{number}", "", vcpus, 64, 64, pages_by_node=pages, weight=weight, cap_percent=cap)
        )
    vcpu_count, memory_mib = int(chance.choice([1, 4, 12, 40])), int(chance.choice([100, 1000, 5000, 15000]))
    hard = tuple(some_cpus() for _ in range(vcpu_count)) if chance.random() < 0.3 else None
    request = GuestRequest(
        "new",
        DomainType.PVH,
        vcpu_count,
        vcpu_count,
        memory_mib,
        memory_mib,
        int(chance.choice([0, 17])),
        hard_affinity=hard,
        devices=(DEVICE,) if chance.random() < 0.3 else (),
        backends=("xenbr0", "/dev/unknown") if chance.random() < 0.4 else (),
        weight=int(chance.choice(weights)),
        cap_percent=int(chance.choice(caps)),
    )
    named = ["new", *(domain.name for domain in domains)] if chance.random() < 0.5 else []
    stated = tuple(
        Character(name, float(chance.random()), float(chance.choice([0.0, 0.5, 3.0])), float(chance.uniform(0, 8)))
        for name in named
        if chance.random() < 0.5
    )
    kind = list(GroupKind)[int(chance.integers(3))]
    groups = (Group("x", kind, ("new", "r0", "r1")),) if chance.random() < 0.4 else ()
    snapshot = Snapshot(topology, tuple(domains), 0.0, backing={"xenbr0": DEVICE})
    return snapshot, request, Intent(groups, domains=stated)


def all_weighed(layout: Layout) -> Batch:
    subject = layout.problem.subjects[0]
    nodes, member = every_set(subject.eligible)
    return weigh(subject, layout.load, layout.ties(0), layout.room_mib(), nodes, member)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_set_costs_less_than_its_bound(seed: int) -> None:
    host, request, intent = drawn(seed, 8)
    layout = Layout.empty(problem_of(host, [request], intent))
    subject = layout.problem.subjects[0]
    trial = Trial.of(layout.load, subject.newcomer)
    bounds = bounds_of(subject, trial, layout.ties(0), layout.room_mib())
    _, member = every_set(subject.eligible)
    size = member.sum(axis=1) - 1
    lower = bounds.base[size] + (member * bounds.least[size]).sum(axis=1)
    batch = all_weighed(layout)
    assert (lower <= batch.objective + MARGIN).all()
    for index, least in enumerate(bounds.by_size()):
        assert least == pytest.approx(lower[size == index].min())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_best_sets_are_those_of_weighing_all(seed: int) -> None:
    """Up to 11 nodes, which takes in both ways of going through the sets."""
    host, request, intent = drawn(seed, 11)
    layout = Layout.empty(problem_of(host, [request], intent))
    batch = all_weighed(layout)
    best = np.sort(batch.objective[np.isfinite(batch.objective)])[:4]
    found = choices(layout, 0, 4)
    assert [choice.objective for choice in found] == pytest.approx(best, abs=1e-8)
    of = {batch.sets(row): float(value) for row, value in enumerate(batch.objective)}
    assert len({choice.nodes for choice in found}) == len(found)
    for choice in found:
        assert choice.objective == pytest.approx(of[choice.nodes], abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.floats(0.0, 1.0))
def test_nearer_nodes_never_make_the_best_worse(seed: int, share: float) -> None:
    """Shorter distances, and with them more bandwidth between nodes: no set costs more, nor does the best.

    That holds below saturation alone: more traffic costs most just before the peak, and less beyond it.
    """
    host, request, intent = drawn(seed, 7)
    intent = replace(intent, domains=())
    old = host.topology
    assert old.distances is not None
    nearer = tuple(tuple(10 + int((far - 10) * share) for far in row) for row in old.distances)
    better = replace(host, topology=replace(old, distances=nearer))
    before, after = (Layout.empty(problem_of(one, [request], intent)) for one in (host, better))
    worse = all_weighed(after).objective > all_weighed(before).objective + MARGIN
    assert not worse.any()
    if choices(before, 0):
        assert choices(after, 0)[0].objective <= choices(before, 0)[0].objective + MARGIN


def test_a_bound_is_met_exactly_where_nodes_are_alike() -> None:
    """Two nodes, nobody there, all of it local to a pair: the bound of either single node is its cost."""
    topology = Topology(
        tuple(Node(node, 8192, 4096) for node in range(2)),
        tuple(Cpu(cpu, cpu % 4, 0, cpu // 4) for cpu in range(8)),
        ((10, 20), (20, 10)),
    )
    request = GuestRequest("new", DomainType.PVH, 2, 2, 1000, 1000)
    layout = Layout.empty(problem_of(Snapshot(topology, (), 0.0), [request], Intent()))
    subject = layout.problem.subjects[0]
    trial = Trial.of(layout.load, subject.newcomer)
    bounds = bounds_of(subject, trial, layout.ties(0), layout.room_mib())
    batch = all_weighed(layout)
    assert bounds.base[0] + bounds.least[0] == pytest.approx(batch.objective[:2])
    assert (bounds.by_size() <= batch.objective[[0, 2]] + MARGIN).all()


@settings(max_examples=50, deadline=None)
@given(costs=st.lists(st.integers(0, 9), min_size=1, max_size=9), size=st.integers(1, 9), limit=st.integers(-1, 40))
def test_sets_below_a_limit_are_all_listed(costs: list[int], size: int, limit: int) -> None:
    size = min(size, len(costs))
    least = np.array(costs, dtype=np.float64)
    listed = sets_below(least, size, limit + 0.5, 10_000)
    assert listed is not None
    sets, sums = listed
    wanted = {one for one in combinations(range(len(costs)), size) if sum(costs[at] for at in one) <= limit}
    assert {tuple(sorted(row)) for row in sets.tolist()} == wanted
    assert len(sets) == len(wanted)
    assert sums == pytest.approx(least[sets].sum(axis=1))
    if len(wanted) > 1:
        assert sets_below(least, size, limit + 0.5, len(wanted) - 1) is None
