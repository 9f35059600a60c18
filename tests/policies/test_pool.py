"""Placement over a pool, held against weighing every set of every host with the performance model itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domicile.performance.assumptions import DEFAULT
from domicile.performance.curves import Floats
from domicile.performance.field import Field
from domicile.performance.machine import Machine
from domicile.performance.newcomer import Newcomer
from domicile.performance.predict import predict
from domicile.performance.tenants import Tenants
from domicile.policies.placement.memory import spread, spread_whole
from domicile.policies.pool import PoolGuest, PoolHost, PoolPlan, arrays, place_in_pool
from domicile.policies.pool.candidates import candidate_sets
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Node

CLOSE = 3e-9
"""Objectives are compared in steps of 1e-9."""


def made(nodes: int, far: int, threads: int, without_cpus: int = 0) -> Machine:
    """Nodes in pairs of near ones, of 4 pCPUs and 1000 MiB each; the last ones may have no CPUs."""
    with_cpus = nodes - without_cpus
    topology = checked(
        source="test",
        nodes=[Node(node, 1000, 1000) for node in range(nodes)],
        cpus=[Cpu(node * 4 + cpu, cpu // threads, node, node) for node in range(with_cpus) for cpu in range(4)],
        distances=[[10 if a == b else 14 if a // 2 == b // 2 else far for b in range(nodes)] for a in range(nodes)],
    )
    return Machine.of(topology)


MACHINES = [made(1, 20, 1), made(2, 20, 2), made(3, 25, 2), made(4, 31, 1), made(3, 17, 1, 1), made(6, 22, 2)]


@dataclass(frozen=True)
class Case:
    """A pool, and guests for it."""

    hosts: list[PoolHost]
    guests: list[PoolGuest]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    hosts = []
    for number in range(draw(st.integers(1, 5))):
        machine = draw(st.sampled_from(MACHINES))
        usable = machine.pcpus[0] > 0
        busy = [draw(st.sampled_from([0, 0, 1, 2, 5])) if usable[node] else 0 for node in range(machine.nodes)]
        free = tuple(draw(st.sampled_from([0, 90, 200, 333, 1000])) for _ in busy)
        # each resident is a domain of one node with one and a half busy vCPUs
        hosts.append(PoolHost(f"h{number}", machine, free, tuple(1.5 * b for b in busy), tuple(map(float, busy))))
    guest = st.tuples(st.sampled_from([0.5, 1.0, 3.0, 8.0]), st.sampled_from([1, 64, 150, 151, 400, 401, 1300]))
    wanted = draw(st.lists(guest, min_size=1, max_size=12))
    return Case(hosts, [PoolGuest(f"g{n}", demand, need) for n, (demand, need) in enumerate(wanted)])


def residents(host: PoolHost) -> Tenants:
    """Those who are there, a domain each."""
    rows = [node for node, count in enumerate(host.domains) for _ in range(int(count))]
    shares = np.eye(host.machine.nodes)[rows].reshape(len(rows), host.machine.nodes)
    count = len(rows)
    names = tuple(f"{host.name}-{row}" for row in range(count))
    zero, pool = np.zeros(count), np.zeros(count, dtype=np.intp)
    return Tenants(names, np.full(count, 1.5), shares, shares, np.zeros_like(shares), pool, zero)


def vcpu_shares(machine: Machine, nodes: tuple[int, ...]) -> Floats:
    pcpus = machine.pcpus[0][list(nodes)]
    return np.asarray(pcpus / pcpus.sum())


def check(case: Case, plan: PoolPlan) -> None:
    """Follow the plan guest by guest, weighing everything anew each time."""
    fields = [Field.of(host.machine, residents(host)) for host in case.hosts]
    free = [list(host.free_mib) for host in case.hosts]
    there: list[list[int]] = [[] for _ in case.hosts]
    for number, guest in enumerate(case.guests):
        weighed: dict[int, list[tuple[float, int, int, tuple[int, ...]]]] = {}
        for h, host in enumerate(case.hosts):
            newcomer = Newcomer(guest.demand_vcpus, 0, np.zeros(host.machine.nodes))
            for nodes in candidate_sets(host.machine):
                room = np.array([[float(free[h][node]) for node in nodes]])
                memory = spread(guest.need_mib, room)
                if not np.isfinite(memory).all():
                    continue
                index = np.array([nodes], dtype=np.intp)
                shares = vcpu_shares(host.machine, nodes)[None]
                total = fields[h].try_sets(newcomer, index, shares, memory / guest.need_mib).total[0]
                weighed.setdefault(h, []).append((float(total), len(nodes), -int(room.sum()), nodes))
        best = min((cost for some in weighed.values() for cost, *_ in some), default=None)
        h = int(plan.host[number])
        if best is None:
            assert h == -1
            refusal = next(one for one in plan.refusals if one.guest == number)
            sums = [
                sum(mib for mib, pcpus in zip(own, host.machine.pcpus[0], strict=True) if pcpus)
                for own, host in zip(free, case.hosts, strict=True)
            ]
            assert refusal.most_mib == max(sums) == sums[refusal.host]
            continue
        chosen = tuple(np.flatnonzero(plan.member[number]).tolist())
        assert plan.objective[number] == pytest.approx(best, abs=CLOSE)
        costs = {nodes: cost for cost, _, _, nodes in weighed[h]}
        assert costs[chosen] == pytest.approx(best, abs=CLOSE)
        # of equal ones the first host, there the fewest nodes, then the most free memory
        equal = {host for host, some in weighed.items() if min(some)[0] < best - CLOSE}
        assert not equal
        sure = min(host for host, some in weighed.items() if min(some)[0] <= best + 1e-10)
        assert h <= sure
        narrowest = min(size for cost, size, _, _ in weighed[h] if cost <= costs[chosen] + 1e-10)
        assert len(chosen) <= narrowest
        parts = spread_whole(guest.need_mib, [free[h][node] for node in chosen])
        assert parts == [int(plan.memory_mib[number, node]) for node in chosen]
        assert plan.memory_mib[number].sum() == guest.need_mib
        vcpus, memory = np.zeros(case.hosts[h].machine.nodes), np.zeros(case.hosts[h].machine.nodes)
        vcpus[list(chosen)] = vcpu_shares(case.hosts[h].machine, chosen)
        memory[list(chosen)] = np.array(parts) / guest.need_mib
        newcomer = Newcomer(guest.demand_vcpus, 0, np.zeros(len(vcpus)))
        fields[h] = fields[h].with_domain(newcomer, vcpus, memory)
        for node, part in zip(chosen, parts or [], strict=True):
            free[h][node] -= part
            assert free[h][node] >= 0
        there[h].append(number)
    for h, numbers in enumerate(there):
        check_slowdowns(case, plan, h, numbers)


def check_slowdowns(case: Case, plan: PoolPlan, h: int, numbers: list[int]) -> None:
    """The guests' slowdowns in the end are what `predict` says with all of them there."""
    host = case.hosts[h]
    before, nodes = residents(host), host.machine.nodes
    vcpus = np.zeros((len(numbers), nodes))
    for row, number in enumerate(numbers):
        chosen = tuple(np.flatnonzero(plan.member[number]).tolist())
        vcpus[row, list(chosen)] = vcpu_shares(host.machine, chosen)
    needs = np.array([[case.guests[number].need_mib] for number in numbers]).reshape(len(numbers), 1)
    memory = plan.memory_mib[numbers, :nodes] / np.maximum(needs, 1)
    demand = np.array([case.guests[number].demand_vcpus for number in numbers])
    both = Tenants(
        (*before.names, *(case.guests[number].name for number in numbers)),
        np.concatenate([before.demand, demand]),
        np.vstack([before.vcpu_share, vcpus]),
        np.vstack([before.memory_share, memory]),
        np.zeros((len(before.names) + len(numbers), nodes)),
        np.zeros(len(before.names) + len(numbers), dtype=np.intp),
        np.zeros(len(before.names) + len(numbers)),
    )
    expected = predict(host.machine, both, DEFAULT).slowdown[len(before.names) :]
    assert plan.slowdown[numbers] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("shapes", [64, 1], ids=["a tournament each", "ranges of sizes"])
def test_the_choice_is_the_best_of_all(shapes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MOST_SHAPES", shapes)

    @given(case=cases())
    @settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
    def each(case: Case) -> None:
        check(case, place_in_pool(case.hosts, case.guests))

    each()


def test_the_same_pool_gives_the_same_plan_however_guests_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(4)
    hosts = [
        PoolHost(f"h{n}", MACHINES[3], tuple(chance.integers(300, 1000, 4).tolist()), (0.0,) * 4, (0.0,) * 4)
        for n in range(20)
    ]
    guests = [PoolGuest(f"g{n}", float(chance.integers(1, 4)), int(chance.integers(50, 600))) for n in range(240)]
    monkeypatch.setattr(arrays, "MOST_SHAPES", 1000)
    one_each = place_in_pool(hosts, guests)
    assert one_each.weighed == 0
    monkeypatch.setattr(arrays, "MOST_SHAPES", 3)
    ranges = place_in_pool(hosts, guests)
    assert ranges.weighed > 0
    assert one_each.host.tolist() == ranges.host.tolist()
    assert one_each.memory_mib.tolist() == ranges.memory_mib.tolist()
    assert one_each.refusals


def test_the_first_of_equally_good_hosts_is_taken() -> None:
    # nobody loses anything by a guest on the other node
    hosts = [PoolHost(f"h{n}", MACHINES[1], (1000, 1000), (0.0, 0.0), (0.0, 0.0)) for n in range(3)]
    told: list[int] = []
    plan = place_in_pool(hosts, [PoolGuest(f"g{n}", 1.0, 900) for n in range(7)], tell=told.append)
    assert plan.host.tolist() == [0, 0, 1, 1, 2, 2, -1]
    assert [one.most_mib for one in plan.refusals] == [200]
    assert told[-1] == 7


def test_large_machines_have_fewer_sets() -> None:
    eight = candidate_sets(made(8, 22, 1))
    assert len(eight) == len(set(eight)) < 60
    assert {(node,) for node in range(8)} < set(eight)
    assert tuple(range(8)) in eight
    assert len(candidate_sets(made(64, 22, 1))) < 500


def test_loads_that_all_differ_count_as_one_of_a_few_near_them() -> None:
    chance = np.random.default_rng(8)
    demands = {0.0, *chance.uniform(0, 1, 300).tolist(), *chance.uniform(1, 40, 700).tolist()}
    counted = arrays.levelled(demands)
    assert counted.keys() == demands
    assert len(set(counted.values())) <= arrays.MOST_DEMANDS
    for demand, level in counted.items():
        assert abs(level - demand) <= 0.1 * (demand + arrays.LIGHT)
    few = sorted(demands)[: arrays.MOST_DEMANDS]
    assert arrays.levelled(few) == dict(zip(few, few, strict=True))


def test_a_plan_for_loads_that_all_differ_is_about_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the best host for each guest with its own load, found one by one."""
    chance = np.random.default_rng(9)
    hosts = [
        PoolHost(f"h{n}", MACHINES[3], tuple(chance.integers(3000, 9000, 4).tolist()), (0.0,) * 4, (0.0,) * 4)
        for n in range(12)
    ]
    guests = [PoolGuest(f"g{n}", float(chance.uniform(0.1, 6)), int(chance.integers(50, 900))) for n in range(90)]
    plan = place_in_pool(hosts, guests)
    assert not plan.refusals
    monkeypatch.setattr(arrays, "MOST_DEMANDS", len(guests))
    best = place_in_pool(hosts, guests)
    assert np.nanmean(plan.slowdown) == pytest.approx(np.nanmean(best.slowdown), rel=0.02)
