"""xenopsd's planner on the machines and figures of its own unit tests, and against a second model of it.

The machines, sizes and expected candidates are those of ocaml/xenopsd/test/test_topology.ml (xen-api v26.17.0).
"""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_hosts import guest, host, resident

from domicile.policies.baselines.xenopsd import Numbers, XenopsdNode, XenopsdRequest, candidates, plan
from domicile.policies.baselines.xenopsd_plan import place, place_hard, place_memory_only, usage
from domicile.state.model import Snapshot

GIB = 1024
NODE_MIB = 16 * GIB
NONE = 2**32 - 1
"""What Xen says of a node that cannot be reached."""

OPTERON_6272: Numbers = (
    (10, 16, 16, 22, 16, 22, 16, 22),
    (16, 10, 22, 16, 16, 22, 22, 16),
    (16, 22, 10, 16, 16, 16, 16, 16),
    (22, 16, 16, 10, 16, 16, 22, 22),
    (16, 16, 16, 16, 10, 16, 16, 22),
    (22, 22, 16, 16, 16, 10, 22, 16),
    (16, 22, 16, 22, 16, 22, 10, 16),
    (22, 16, 16, 22, 22, 16, 16, 10),
)


def line(nodes: int) -> Numbers:
    return tuple(tuple(10 + 11 * abs(row - column) for column in range(nodes)) for row in range(nodes))


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        (((10, NONE), (NONE, NONE)), ((10.0, (0,)),)),
        (((10, NONE, 20), (NONE, NONE, NONE), (20, NONE, 10)), ((10.0, (0,)), (10.0, (2,)), (15.0, (0, 2)))),
        (((NONE, NONE, 20), (NONE, NONE, NONE), (10, NONE, 10)), ((10.0, (2,)),)),
        (((NONE, NONE), (NONE, NONE)), None),
        (((10, -1), (-1, -1)), ((10.0, (0,)),)),
    ],
)
def test_candidates_of_its_own_tests(distances: Numbers, expected: object) -> None:
    assert candidates(distances, [1] * len(distances)) == expected


@pytest.mark.parametrize("distances", [((20, 20), (20, 10)), ((10, 9), (9, 10))])
def test_distances_without_sense(distances: Numbers) -> None:
    assert candidates(distances, [1, 1]) is None
    assert plan(distances, [XenopsdNode(4, 4, 1000)] * 2, XenopsdRequest(1, 1, 0), [0, 0]) is None


def test_single_nodes_alone_above_16() -> None:
    assert len(candidates(line(16), [1] * 16) or ()) == 2**16 - 1
    assert candidates(line(17), [1] * 17) == tuple((10.0, (node,)) for node in range(17))


SYMMETRIC = [
    (1, 1, 2), (10, 1, 8), (1, 2, 4), (10, 2, 4), (1, 4, 16), (10, 4, 16), (40, 16, 256), (40, 32, 256), (80, 64, 256),
]  # fmt: skip
"""VMs, nodes, CPUs of the machine."""


@pytest.mark.parametrize(
    ("vms", "distances", "cpus_per_node", "memory_mib"),
    [
        *((vms, line(nodes), cpus // nodes, GIB) for vms, nodes, cpus in SYMMETRIC),
        (10, OPTERON_6272, 4, GIB),
        (6, OPTERON_6272, 4, 4 * NODE_MIB // 3),
    ],
)
def test_allocations_of_its_own_tests(vms: int, distances: Numbers, cpus_per_node: int, memory_mib: int) -> None:
    """What they check: every VM has a plan; access is no worse than everywhere; all CPUs are used; VMs are balanced."""
    count = len(distances)
    nodes = [XenopsdNode(cpus_per_node, cpus_per_node // 2, NODE_MIB)] * count
    used = [0] * count
    request = XenopsdRequest(memory_mib, max(2, count * cpus_per_node // vms), 0)
    everywhere = range(count)
    for _ in range(vms):
        chosen = plan(distances, nodes, request, used)
        assert chosen is not None
        for node in chosen:
            used[node] += 1
        assert max(distances[a][b] for a in chosen for b in chosen) <= max(map(max, distances))
        mean = sum(distances[a][b] for a in chosen for b in chosen) / len(chosen) ** 2
        assert mean <= sum(distances[a][b] for a in everywhere for b in everywhere) / count**2
    # all CPUs are used, unless it is fewer VMs than nodes
    assert sum(map(bool, used)) == count
    assert max(used) - min(used) <= 1 or memory_mib > NODE_MIB


def slowly(distances: Numbers, nodes: list[XenopsdNode], asked: XenopsdRequest, used: list[int]) -> object:
    """The same from the description, one set at a time."""
    ranked = []
    for size in range(1, len(nodes) + 1):
        for chosen in combinations(range(len(nodes)), size):
            pairs = [distances[a][b] for a in chosen for b in chosen]
            # in the order of bit masks, which decides among equals
            mask = sum(1 << node for node in chosen)
            ranked.append((max(pairs), sum(pairs) / len(pairs), mask, chosen))
    fitting = [
        (mean, chosen)
        for _, mean, _, chosen in sorted(ranked)
        if sum(nodes[n].free_mib for n in chosen) >= asked.memory_mib
        and sum(nodes[n].cpus for n in chosen) >= asked.vcpus
        and sum(nodes[n].cores for n in chosen) >= asked.cores
    ]
    best = None
    for mean, chosen in fitting:
        if abs(mean - fitting[0][0]) >= 1e-3:
            break
        key = (sum(used[n] for n in chosen), list(reversed(chosen)))
        if best is None or key < best[0]:
            best = (key, chosen)
    return best and best[1]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_against_a_second_model(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 5))
    distance = st.sampled_from([16, 20, 22])
    above = [[data.draw(distance) for _ in range(count)] for _ in range(count)]
    distances = tuple(tuple(10 if a == b else above[min(a, b)][max(a, b)] for b in range(count)) for a in range(count))
    nodes = [
        XenopsdNode(cores * 2, cores, data.draw(st.sampled_from([0, 500, 1000])))
        for cores in data.draw(st.lists(st.sampled_from([1, 2, 4]), min_size=count, max_size=count))
    ]
    used = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    vcpus = data.draw(st.sampled_from([1, 2, 5, 9]))
    asked = XenopsdRequest(data.draw(st.sampled_from([100, 700, 1600])), vcpus, data.draw(st.sampled_from([0, vcpus])))
    assert plan(distances, nodes, asked, used) == slowly(distances, nodes, asked, used)


def smt(*free_mib: int, **more: object) -> Snapshot:
    return host(*free_mib, threads=2, **more)  # type: ignore[arg-type]


def test_a_core_to_each_vcpu_unless_it_is_memory_only() -> None:
    """4 CPUs of 2 cores a node: 3 vCPUs need two nodes by cores, and so get none; one by memory alone."""
    on = smt(1000, 1000)
    assert place(on, [guest(2)]).placements[0].nodes == (0,)
    wide = place(on, [guest(3)]).placements[0]
    assert wide.nodes == (0, 1)
    assert "several nodes" in wide.reasons[0]
    assert place_memory_only(on, [guest(3)]).placements[0].nodes == (0,)


def test_hard_is_hard_where_it_plans_at_all() -> None:
    on = smt(1000, 1000)
    assert place_hard(on, [guest(2)]).placements[0].hard
    assert not place(on, [guest(2)]).placements[0].hard
    assert not place_hard(on, [guest(3)]).placements[0].hard


def test_the_least_used_node_by_domains_that_are_there() -> None:
    there = (resident("a", 1, [0], count=3), resident("b", 1, [0, 2], count=3), resident("c", 1, [0, 1, 2], count=3))
    on = host(1000, 1000, 1000, domains=there)
    assert usage(on) == [2, 0, 1]
    plan_ = place(on, [guest(1, 100, f"g{number}") for number in range(3)])
    assert [placement.nodes for placement in plan_.placements] == [(1,), (1,), (2,)]


def test_hard_affinity_is_left_alone() -> None:
    cpus = frozenset({4, 5})
    found = place_hard(host(1000, 1000), [guest(2, hard_affinity=(cpus, cpus))]).placements[0]
    assert found.nodes == (1,)
    assert not found.hard
    assert "plans nothing" in found.reasons[0]


def test_without_distances_it_goes_by_what_xen_says_then() -> None:
    assert host(1000, 1000).topology.distances is None
    assert place(host(500, 1000), [guest(1, 900)]).placements[0].nodes == (1,)
    assert place(host(500, 1000), [guest(1, 1200)]).placements[0].nodes == (0, 1)
