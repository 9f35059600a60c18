"""Domains as arrays: what they want, and where they are."""

from collections.abc import Mapping

import pytest

from domicile.performance.assumptions import DEFAULT
from domicile.performance.machine import Machine
from domicile.performance.tenants import Tenants, residents
from domicile.state.model import Cpupool, Domain, Reservation, Snapshot, Vcpu
from domicile.topology.model import Cpu, Device, Node, Topology

ALL = frozenset(range(8))
FOUR_NODES = Topology(
    nodes=tuple(Node(node, memory) for node, memory in enumerate((1000, 3000, 4000, 0))),
    cpus=tuple(Cpu(cpu, cpu % 2, cpu // 2, cpu // 2) for cpu in range(8)),
    devices=(Device("0000:41:00.0", 1),),
)


def domain(
    name: str = "web",
    *,
    hard: frozenset[int] = ALL,
    soft: frozenset[int] = ALL,
    vcpus: int = 2,
    domid: int = 1,
    node_affinity: frozenset[int] | None = None,
    pages: Mapping[int, int] | None = None,
    time_ns: int | None = None,
    paused: bool = False,
    online: int | None = None,
    pool: str = "Pool-0",
    devices: tuple[str, ...] = (),
) -> Domain:
    return Domain(
        domid,
        name,
        "",
        tuple(
            Vcpu(v, None, hard, soft, time_ns=time_ns, online=v < (vcpus if online is None else online))
            for v in range(vcpus)
        ),
        512,
        512,
        node_affinity=node_affinity,
        pages_by_node=pages,
        paused=paused,
        cpupool=pool,
        devices=devices,
    )


def of(*domains: Domain, load: Mapping[str, float] | None = None, **more: object) -> Tenants:
    snapshot = Snapshot(FOUR_NODES, domains, 0.0, **more)  # type: ignore[arg-type]
    return residents(Machine.of(FOUR_NODES, snapshot.cpupools), snapshot, load)


def test_vcpus_are_where_soft_and_hard_affinity_meet() -> None:
    there = of(domain(soft=frozenset({2, 3, 4}), hard=frozenset({2, 4, 6})))
    assert there.vcpu_share[0].tolist() == [0, 0.5, 0.5, 0]


def test_vcpus_follow_hard_affinity_where_they_do_not_meet() -> None:
    there = of(domain(soft=frozenset({0, 1}), hard=frozenset({6})))
    assert there.vcpu_share[0].tolist() == [0, 0, 0, 1]


def test_vcpus_stay_in_their_cpupool() -> None:
    pools = (Cpupool("Pool-0", frozenset(range(6)), ""), Cpupool("db", frozenset({6, 7}), ""))
    there = of(domain(pool="db"), cpupools=pools)
    assert there.vcpu_share[0].tolist() == [0, 0, 0, 1]
    assert there.pool.tolist() == [1]


@pytest.mark.parametrize(
    ("given", "share"),
    [
        ({"pages": {0: 300, 2: 100}, "node_affinity": frozenset({1})}, [0.75, 0, 0.25, 0]),
        ({"node_affinity": frozenset({0, 2, 3})}, [0.5, 0, 0.5, 0]),
        ({"soft": frozenset({2, 3})}, [0, 1, 0, 0]),
        ({}, [0.125, 0.375, 0.5, 0]),
    ],
)
def test_memory_is_where_its_pages_are_else_where_xen_would_take_it(
    given: dict[str, object], share: list[float]
) -> None:
    assert of(domain(**given)).memory_share[0].tolist() == share  # type: ignore[arg-type]


def test_demand_is_measured_load_else_one_for_each_vcpu_online() -> None:
    there = of(domain("a", vcpus=4, online=3), domain("b", paused=True), domain("c"), load={"c": 0.25})
    assert there.demand.tolist() == [3, 2, 0.25]


def test_dom0_is_not_taken_for_busy() -> None:
    assert of(domain("Domain-0", domid=0, vcpus=8)).demand.tolist() == [8 * DEFAULT.dom0_vcpu_demand]


def test_dom0_is_as_busy_as_it_was_since_boot_where_the_host_tells() -> None:
    second = 10**9
    idle = dict.fromkeys(range(8), 95 * second)
    # 8 pCPUs: 760 s idle and 40 s used by Dom0 make 100 s each
    there = of(domain("Domain-0", domid=0, vcpus=4, time_ns=10 * second), pcpu_idle_ns=idle)
    assert there.demand.tolist() == pytest.approx([0.4])


def test_a_domain_being_created_counts_where_its_memory_is_reserved() -> None:
    promised = Reservation("t", "new", {1: 100, 2: 300}, 4, "pid 1", 0.0)
    there = of(domain(), reservations=(promised,))
    assert there.names == ("web", "new")
    assert there.demand.tolist() == [2, 4]
    assert there.vcpu_share[1].tolist() == there.memory_share[1].tolist() == [0, 0.25, 0.75, 0]


def test_a_domain_half_built_is_counted_once_and_where_it_will_be() -> None:
    promised = Reservation("t", "web", {2: 300}, 2, "pid 1", 0.0)
    there = of(domain(), reservations=(promised,))
    assert there.names == ("web",)
    assert there.vcpu_share[0].tolist() == [0, 0, 1, 0]


def test_a_domain_to_come_has_no_vcpus_on_a_node_without_cpus() -> None:
    topology = Topology((Node(0, 1000), Node(1, 1000)), tuple(cpu for cpu in FOUR_NODES.cpus if cpu.node == 1))
    for memory_mib, share in (({0: 500}, [0, 1]), ({0: 100, 1: 300}, [0, 1])):
        snapshot = Snapshot(topology, (), 0.0, reservations=(Reservation("t", "new", memory_mib, 1, "pid 1", 0.0),))
        assert residents(Machine.of(topology), snapshot).vcpu_share[0].tolist() == share


def test_a_narrow_hard_affinity_confines() -> None:
    there = of(domain("pinned", hard=frozenset({0}), vcpus=4), domain("free", vcpus=4, soft=frozenset({0, 1})))
    assert there.confined[0] == pytest.approx(4.0 - 2.0)
    assert there.confined[1] == 0


def test_devices_are_on_their_nodes() -> None:
    assert of(domain(devices=("0000:41:00.0",))).device_share[0].tolist() == [0, 1, 0, 0]
    assert of(domain(devices=("0000:99:00.0",))).device_share[0].tolist() == [0, 0, 0, 0]
