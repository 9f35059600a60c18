"""Time on a simulated host: from its state and some seconds to its state after them, by the engine of
`domicile.simulator`.

Several cpupools share one scheduler here, with each domain held on its pool's pCPUs: credit's accounts are then those
of the whole host, and credit2's balancer may look at a run queue of another pool and leave it at that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from domicile.errors import Refused
from domicile.hosts.simulated.ballooning import ballooned, ballooning
from domicile.hosts.simulated.moving import goes_on, moved_on
from domicile.hosts.simulated.state import Machine, Resident, SimulatedState
from domicile.state.model import PAGES_PER_MIB, Domain, Vnode

if TYPE_CHECKING:
    from domicile.simulator.living import Livelihood, Occupant

__all__ = ["SCHEDULERS", "advance"]

SCHEDULERS = ("credit2", "credit", "numa")
"""Those of `domicile.simulator.scheduler`: Xen's two, and one that Xen does not have."""

DOM0_WORKLOAD = "dom0"


MOVING_STEP_S = 1.0
"""While memory is on its way, it and the rest of the host take turns of this length."""


def advance(state: SimulatedState, seconds: float) -> SimulatedState:
    """The host when so many seconds more have passed, rounded up to whole quanta of 10 ms.

    Raises `Refused` where its schedulers are not simulated, ValueError where what was kept is not of this host.
    """
    while seconds > MOVING_STEP_S and (goes_on(state) or ballooning(state)):
        state = advance(state, MOVING_STEP_S)
        seconds -= MOVING_STEP_S
    return moved_on(ballooned(_lived_through(state, seconds), seconds), seconds)


def _lived_through(state: SimulatedState, seconds: float) -> SimulatedState:
    """What the scheduler and the memory system make of it."""
    # imported here: the engine and its compiler take long, and only time needs them
    from domicile.simulator.living import advance as let_pass  # noqa: PLC0415

    after = let_pass(
        state.machine.topology,
        _scheduler(state.machine),
        state.clock.seed,
        [_occupant(state, resident) for resident in state.residents],
        seconds,
        state.clock.record,
        _xen_pages(state.machine),
    )
    return replace(
        state,
        residents=tuple(_lived(resident, after.domains[resident.domain.id]) for resident in state.residents),
        clock=replace(state.clock, up_ns=after.up_ns, idle_ns=after.idle_ns, record=after.record),
    )


def _scheduler(machine: Machine) -> str:
    """The one scheduler of all cpupools."""
    found = sorted({pool.scheduler for pool in machine.cpupools})
    if len(found) > 1:
        raise Refused(f"time cannot pass on a simulated host whose cpupools have unlike schedulers: {', '.join(found)}")
    if found[0] not in SCHEDULERS:
        raise Refused(f"time cannot pass under {found[0]}: {', '.join(SCHEDULERS)} can be simulated")
    return found[0]


def _xen_pages(machine: Machine) -> dict[int, int]:
    """What no domain can have, by node."""
    return {
        node.id: node.memory_mib * PAGES_PER_MIB - machine.capacity_pages.get(node.id, 0)
        for node in machine.topology.nodes
    }


def _occupant(state: SimulatedState, resident: Resident) -> Occupant:
    """A resident as the engine knows domains."""
    from domicile.simulator.guests import GuestSpec  # noqa: PLC0415
    from domicile.simulator.living import Occupant  # noqa: PLC0415
    from domicile.simulator.workloads import WORKLOADS  # noqa: PLC0415

    domain = resident.domain
    pool = state.cpupool(domain.cpupool)
    everywhere = frozenset(cpu.id for cpu in state.machine.topology.cpus)
    allowed = (pool.cpus & everywhere if pool else frozenset()) or everywhere
    parts = _parts(domain, len(state.machine.topology.nodes))
    return Occupant(
        number=domain.id,
        spec=GuestSpec(
            # names can change, and Xen's own memory has one
            name=f"domain {domain.id}",
            vcpus=len(domain.vcpus),
            memory_mib=domain.memory_mib,
            workload=WORKLOADS[resident.workload if domain.id else DOM0_WORKLOAD],
            start_s=float("inf"),
            weight=domain.weight,
            cap_percent=domain.cap_percent,
            sees_nodes=bool(parts),
            busy_vcpus=resident.busy_vcpus,
        ),
        hard=tuple(vcpu.hard_affinity & allowed or allowed for vcpu in domain.vcpus),
        soft=tuple(vcpu.soft_affinity for vcpu in domain.vcpus),
        awake=tuple(vcpu.online and not domain.paused for vcpu in domain.vcpus),
        part_of=_part_of(domain, parts),
        pages=tuple(_pages_of(vnode) for vnode in parts) or (domain.pages_by_node or {},),
        overhead_pages=resident.overhead_pages,
        nodes=tuple(sorted(domain.node_affinity or state.machine.topology.node_ids)),
    )


def _parts(domain: Domain, nodes: int) -> tuple[Vnode, ...]:
    """The vnodes of a domain that sees them, none where it has one at most, or its memory is not where they say (any
    more): then all of it is used alike."""
    together: dict[int, int] = {}
    for vnode in domain.vnodes:
        for node, pages in _pages_of(vnode).items():
            together[node] = together.get(node, 0) + pages
    held = {node: pages for node, pages in (domain.pages_by_node or {}).items() if pages}
    return domain.vnodes if 1 < len(domain.vnodes) <= min(nodes, len(domain.vcpus)) and together == held else ()


def _pages_of(vnode: Vnode) -> Mapping[int, int]:
    return {} if vnode.pnode is None or not vnode.memory_mib else {vnode.pnode: vnode.memory_mib * PAGES_PER_MIB}


def _part_of(domain: Domain, parts: tuple[Vnode, ...]) -> tuple[int, ...]:
    """The part of its memory that each vCPU is beside; the first for one that is in none."""
    of = {vcpu: number for number, vnode in enumerate(parts) for vcpu in vnode.vcpus}
    return tuple(of.get(vcpu.id, 0) for vcpu in domain.vcpus)


def _lived(resident: Resident, lived: Livelihood) -> Resident:
    """A resident with what it came to."""
    domain = resident.domain
    if resident.owner is not None:
        return resident
    vcpus = tuple(
        replace(
            vcpu,
            pcpu=lived.cpus[row],
            running=lived.running[row],
            time_ns=lived.time_ns[row],
            waiting=lived.waiting[row],
        )
        for row, vcpu in enumerate(domain.vcpus)
    )
    changed = replace(domain, vcpus=vcpus, pages_by_node=lived.pages, waited_ns=lived.waited_ns, work_ns=lived.work_ns)
    return replace(resident, domain=changed)
