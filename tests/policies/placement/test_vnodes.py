"""Guests with virtual nodes among those to be placed: the placement counts as the plain prediction does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.performance.accesses import Accesses
from domicile.performance.assumptions import DEFAULT
from domicile.performance.machine import Machine
from domicile.performance.predict import predict
from domicile.performance.tenants import Tenants, residents
from domicile.policies.placement import place, problem_of
from domicile.policies.placement.exact import _least
from domicile.policies.placement.layout import Layout
from domicile.state.model import PAGES_PER_MIB, Domain, DomainType, Snapshot, Vcpu, Vnode
from domicile.state.request import GuestRequest, Intent
from domicile.topology.model import Cpu, Node, Topology

SEEDS = st.integers(0, 2**32 - 1)
NOBODY = Intent()


def topology(chance: np.random.Generator, count: int) -> Topology:
    homes = [node for node in range(count) for _ in range(2 * int(chance.choice([1, 2, 4])))]
    distances = np.triu(chance.choice([11, 16, 21, 31], (count, count)), 1)
    distances = distances + distances.T + 10 * np.eye(count, dtype=int)
    return Topology(
        tuple(Node(node, 16384, 8000) for node in range(count)),
        tuple(Cpu(cpu, cpu // 2, home, home) for cpu, home in enumerate(homes)),
        tuple(map(tuple, distances.tolist())),
    )


def virtual_nodes(chance: np.random.Generator, count: int, most: int = 3) -> tuple[Vnode, ...]:
    """Two or more, on nodes of their own, of different sizes."""
    pnodes = chance.permutation(count)[: max(int(chance.integers(2, most + 1)), 2)].tolist()
    return tuple(
        Vnode(pnode, 2 * int(chance.integers(50, 500)), frozenset({2 * number, 2 * number + 1}))
        for number, pnode in enumerate(pnodes)
    )


def request(vnodes: tuple[Vnode, ...], name: str = "wide") -> GuestRequest:
    vcpus, mib = sum(len(vnode.vcpus) for vnode in vnodes), sum(vnode.memory_mib for vnode in vnodes)
    return GuestRequest(name, DomainType.HVM, vcpus, vcpus, mib, mib, vnodes=vnodes)


def resident(there: Topology, number: int, vnodes: tuple[Vnode, ...], *, seeing: bool) -> Domain:
    """Each vCPU on its node, memory too; whether the guest sees it or not."""
    everywhere = frozenset(cpu.id for cpu in there.cpus)
    soft = {vcpu: there.cpus_of([vnode.pnode]) for vnode in vnodes for vcpu in vnode.vcpus if vnode.pnode is not None}
    vcpus = tuple(Vcpu(vcpu, None, everywhere, soft[vcpu]) for vcpu in sorted(soft))
    pages = {vnode.pnode: vnode.memory_mib * PAGES_PER_MIB for vnode in vnodes if vnode.pnode is not None}
    mib = sum(vnode.memory_mib for vnode in vnodes)
    return Domain(number + 1, f"r{number}", "", vcpus, mib, mib, pages_by_node=pages, vnodes=vnodes if seeing else ())


def drawn(seed: int, count: int) -> tuple[Snapshot, GuestRequest]:
    chance = np.random.default_rng(seed)
    there = topology(chance, count)
    domains = tuple(
        resident(there, number, virtual_nodes(chance, count), seeing=chance.random() < 0.5)
        for number in range(int(chance.integers(0, 4)))
    )
    return Snapshot(there, domains, 0.0), request(virtual_nodes(chance, count))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, count=st.integers(2, 5))
def test_its_objective_is_what_everybody_loses(seed: int, count: int) -> None:
    snapshot, wide = drawn(seed, count)
    machine = Machine.of(snapshot.topology)
    before = residents(machine, snapshot)
    own = np.zeros(len(before.names)) if before.own_share is None else before.own_share
    assert own.tolist() == [DEFAULT.own_share if domain.vnodes else 0.0 for domain in snapshot.domains]
    vcpus, memory = np.zeros((2, machine.nodes))
    for vnode in wide.vnodes:
        vcpus[vnode.pnode] = len(vnode.vcpus) / wide.vcpus
        memory[vnode.pnode] = vnode.memory_mib / wide.memory_mib
    after = predict(
        machine,
        Tenants(
            (*before.names, "wide"),
            np.append(before.demand, wide.vcpus),
            np.vstack([before.vcpu_share, vcpus]),
            np.vstack([before.memory_share, memory]),
            np.vstack([before.device_share, np.zeros(machine.nodes)]),
            np.append(before.pool, 0),
            np.append(before.confined, 0.0),
            own_share=np.append(own, DEFAULT.own_share),
        ),
    ).slowdown
    (placement,) = place(snapshot, [wide]).placements
    assert placement.predicted_slowdown == pytest.approx(after[-1])
    assert placement.objective == pytest.approx(float(after.sum() - predict(machine, before).slowdown.sum()) - 1.0)
    assert placement.objective == pytest.approx(sum(term.cost + term.penalty for term in placement.terms))
    accesses = Accesses.of(vcpus, memory, DEFAULT.own_share).weights
    figures = placement.terms[0].figures
    assert figures["remote_share"] == pytest.approx(1.0 - accesses.trace())
    assert figures["latency_ns"] == pytest.approx(float((accesses * machine.latency_ns).sum()))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, count=st.integers(2, 5))
def test_numbers_of_nodes_and_a_node_that_nobody_uses_are_no_matter(seed: int, count: int) -> None:
    snapshot, wide = drawn(seed, count)
    old = snapshot.topology
    assert old.distances is not None
    order = np.random.default_rng(seed).permutation(count).tolist()
    ids = {node: 10 + position for position, node in enumerate(order)}
    distances = [[old.distances[a][b] for b in order] for a in order]
    there = Topology(
        (*(replace(old.nodes[node], id=ids[node]) for node in order), Node(99, 4096, 0)),
        tuple(replace(cpu, node=ids[cpu.node]) for cpu in old.cpus if cpu.node is not None),
        (*((*row, 40) for row in distances), (*[40] * count, 10)),
    )

    def moved(vnodes: tuple[Vnode, ...]) -> tuple[Vnode, ...]:
        return tuple(replace(vnode, pnode=ids[vnode.pnode]) for vnode in vnodes if vnode.pnode is not None)

    domains = tuple(
        replace(
            domain,
            vnodes=moved(domain.vnodes),
            pages_by_node={ids[node]: pages for node, pages in (domain.pages_by_node or {}).items()},
        )
        for domain in snapshot.domains
    )
    other = replace(snapshot, topology=there, domains=domains)
    (here,) = place(snapshot, [wide]).placements
    (elsewhere,) = place(other, [replace(wide, vnodes=moved(wide.vnodes))]).placements
    assert elsewhere.objective == pytest.approx(here.objective)
    assert set(elsewhere.nodes) == {ids[node] for node in here.nodes}


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, count=st.integers(2, 4))
def test_no_guest_costs_less_than_the_bound_of_the_exact_search(seed: int, count: int) -> None:
    """Whoever came before."""
    snapshot, wide = drawn(seed, count)
    chance = np.random.default_rng(seed)
    requests = [wide, request(virtual_nodes(chance, count), "other")]
    requests.append(replace(request(virtual_nodes(chance, count), "open"), vnodes=()))
    layout = Layout.empty(problem_of(snapshot, requests, NOBODY))
    least = [_least(layout, guest) for guest in range(3)]
    for guest in chance.permutation(3).tolist():
        nodes = layout.problem.subjects[guest].eligible[:2].tolist()
        seat = layout.seat_for(guest, nodes)
        assert seat is not None
        seated = layout.seated(guest, seat)
        assert least[guest] <= seated.objective - layout.objective + 1e-9
        layout = seated


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_two_with_virtual_nodes_and_one_without_are_placed_as_is_proven_best(seed: int) -> None:
    snapshot, wide = drawn(seed, 3)
    chance = np.random.default_rng(seed)
    requests = [wide, request(virtual_nodes(chance, 3), "other")]
    requests.append(replace(request(virtual_nodes(chance, 3), "open"), vnodes=()))
    plan, exact = place(snapshot, requests), place(snapshot, requests, exact=True)
    assert exact.proven
    assert exact.mean_slowdown == pytest.approx(plan.mean_slowdown)


def test_one_virtual_node_or_one_on_no_node_keeps_nothing() -> None:
    there = topology(np.random.default_rng(0), 2)
    two = virtual_nodes(np.random.default_rng(0), 2)
    for vnodes in (two[:1], (two[0], replace(two[1], pnode=None))):
        (subject,) = problem_of(Snapshot(there, (), 0.0), [request(vnodes)], NOBODY).subjects
        assert subject.newcomer.own_share == 0.0
        tenants = residents(Machine.of(there), Snapshot(there, (resident(there, 0, two[:1], seeing=True),), 0.0))
        assert tenants.own_share is None
