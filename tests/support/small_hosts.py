"""Small hosts and guests for tests of placement: by hand, and drawn by hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from hypothesis import assume
from hypothesis import strategies as st

from domicile.state.model import Cpupool, Domain, DomainType, Reservation, Snapshot, Vcpu
from domicile.state.request import GuestRequest
from domicile.topology.model import Cpu, Device, Node, Topology

__all__ = ["DEVICE", "guest", "guests", "host", "hosts", "resident"]

DEVICE = "0000:41:00.0"


def host(
    *free_mib: int,
    cpus_per_node: int = 4,
    distances: Sequence[Sequence[int]] | None = None,
    domains: Sequence[Domain] = (),
    threads: int = 1,
    total_mib: int = 0,
) -> Snapshot:
    """A host of some nodes and a Dom0 that may run anywhere; `threads` to a core."""
    count = len(free_mib) * cpus_per_node
    topology = Topology(
        tuple(Node(node, total_mib or max(free_mib), free) for node, free in enumerate(free_mib)),
        tuple(Cpu(cpu, cpu // threads, cpu // cpus_per_node, cpu // cpus_per_node) for cpu in range(count)),
        distances=tuple(map(tuple, distances)) if distances else None,
    )
    everywhere = frozenset(range(count))
    dom0 = Domain(0, "Domain-0", "", (Vcpu(0, None, everywhere, everywhere),), 512, 512)
    return Snapshot(topology, (dom0, *domains), 0.0)


def resident(name: str, vcpus: int, nodes: Sequence[int], *, count: int, cpus_per_node: int = 4) -> Domain:
    """A domain that prefers these nodes, on a host of so many."""
    everywhere = frozenset(range(count * cpus_per_node))
    soft = frozenset(cpu for cpu in everywhere if cpu // cpus_per_node in nodes)
    return Domain(9, name, "", tuple(Vcpu(v, None, everywhere, soft) for v in range(vcpus)), 256, 256)


def guest(vcpus: int = 2, memory_mib: int = 256, name: str = "web", **more: object) -> GuestRequest:
    """A guest to be placed."""
    return GuestRequest(name, DomainType.PVH, vcpus, vcpus, memory_mib, memory_mib, **more)  # type: ignore[arg-type]


@st.composite
def hosts(draw: st.DrawFn, most_nodes: int = 5) -> Snapshot:
    """Uneven hosts: nodes without memory or CPUs, SMT, residents bound and not, promises, sometimes two cpupools."""
    count, smt = draw(st.integers(1, most_nodes)), draw(st.sampled_from([1, 2]))
    cores = draw(st.lists(st.sampled_from([0, 1, 2, 4]), min_size=count, max_size=count))
    assume(sum(cores))
    cpus: list[Cpu] = []
    for node, many in enumerate(cores):
        cpus += [Cpu(len(cpus) + index, index // smt, node, node) for index in range(many * smt)]
    above = {pair: draw(st.sampled_from([11, 16, 21, 31])) for pair in combinations(range(count), 2)}
    distances = tuple(tuple(10 if a == b else above[min(a, b), max(a, b)] for b in range(count)) for a in range(count))
    nodes = tuple(Node(node, 8192, draw(st.sampled_from([0, 300, 1000, 2500, 6000]))) for node in range(count))
    topology = Topology(nodes, tuple(cpus), distances, (Device(DEVICE, draw(st.integers(0, count - 1))),))
    everywhere = frozenset(cpu.id for cpu in cpus)
    some = st.frozensets(st.sampled_from(sorted(everywhere)), min_size=1)
    domains = [
        Domain(
            number,
            f"r{number}",
            "",
            tuple(
                Vcpu(v, None, everywhere, draw(st.one_of(st.just(everywhere), some)))
                for v in range(draw(st.sampled_from([1, 2, 4])))
            ),
            256,
            256,
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    promised = draw(st.sampled_from([0, 0, 500]))
    reservations = (Reservation("t", "coming", {draw(st.integers(0, count - 1)): promised}, 1, "pid 1", 0.0),)
    pools: tuple[Cpupool, ...] = ()
    if draw(st.integers(0, 3)) == 0 and len(everywhere) > 1:
        split = draw(st.integers(1, len(everywhere) - 1))
        ordered = sorted(everywhere)
        pools = (
            Cpupool("Pool-0", frozenset(ordered[:split]), "credit2"),
            Cpupool("other", frozenset(ordered[split:]), "credit2"),
        )
    return Snapshot(topology, tuple(domains), 0.0, reservations=reservations if promised else (), cpupools=pools)


@st.composite
def guests(draw: st.DrawFn, on: Snapshot, name: str = "g") -> GuestRequest:
    """A guest for this host, some with a hard affinity (of each vCPU its own), a device or another cpupool."""
    vcpus = draw(st.sampled_from([1, 2, 4, 8]))
    everywhere = sorted(cpu.id for cpu in on.topology.cpus)
    sets = st.frozensets(st.sampled_from(everywhere), min_size=1)
    hard = tuple(draw(sets) for _ in range(vcpus)) if draw(st.integers(0, 4)) == 0 else None
    return guest(
        vcpus,
        draw(st.sampled_from([100, 250, 700, 2000, 4000])),
        name,
        overhead_mib=draw(st.sampled_from([0, 4, 17])),
        hard_affinity=hard,
        devices=(DEVICE,) if draw(st.integers(0, 3)) == 0 else (),
        cpupool=draw(st.sampled_from([pool.name for pool in on.cpupools] or ["Pool-0"])),
    )
