"""The snapshot that a simulated host shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from domicile.hosts.simulated.moving import is_saved, is_second_copy
from domicile.hosts.simulated.state import Resident, SimulatedState
from domicile.state.model import PAGES_PER_MIB, Domain, HeldVcpu, Snapshot, Vcpu

__all__ = ["XEN_VERSION", "snapshot_of"]

XEN_VERSION = "simulated"


def snapshot_of(state: SimulatedState) -> Snapshot:
    """The host as a `Snapshot`. The memory map costs nothing here and is always of this moment."""
    topology = state.machine.topology
    nodes = tuple(replace(n, free_mib=state.free_pages.get(n.id, 0) // PAGES_PER_MIB) for n in topology.nodes)
    busy = Counter(
        vcpu.pcpu
        for resident in state.residents
        if not resident.domain.paused
        for vcpu in resident.domain.vcpus
        if vcpu.pcpu is not None
    )
    return Snapshot(
        topology=replace(topology, nodes=nodes),
        domains=tuple(
            _domain(state, resident, busy) for resident in state.residents if not is_second_copy(state, resident)
        ),
        taken_at=state.clock.now,
        reservations=tuple(promise.reservation for promise in state.promises),
        reservations_generation=str(state.generation),
        cpupools=state.machine.cpupools,
        pcpu_idle_ns={cpu.id: state.clock.idle_ns.get(cpu.id, 0) for cpu in topology.cpus},
        memory_map_age_s=0.0,
        scheduler=state.machine.cpupools[0].scheduler,
        xen_version=XEN_VERSION,
        host_id=state.machine.host_id,
        moves=state.moves,
        saved=tuple(sorted(move.order.uuid for move in state.moves if move.end is None and is_saved(state, move))),
        manager=state.office.who if state.office else "",
        halted=state.halted,
        holds=tuple(HeldVcpu(held.uuid, held.vcpu, held.given, held.before) for held in state.holds),
    )


def _domain(state: SimulatedState, resident: Resident, busy: Counter[int]) -> Domain:
    """The domain with its vCPUs on pCPUs; `busy` counts the vCPUs that are on each so far.

    Where a vCPU has not run yet, or may not run any more where it did, it goes where a scheduler would look first.
    """
    domain = resident.domain
    if resident.owner is not None:
        return replace(domain, vcpus=tuple(replace(vcpu, time_ns=0) for vcpu in domain.vcpus))
    if domain.paused:
        return domain
    pool = state.cpupool(domain.cpupool)
    pool_cpus = pool.cpus if pool else frozenset()
    return replace(domain, vcpus=tuple(_placed(vcpu, pool_cpus, busy) for vcpu in domain.vcpus))


def _placed(vcpu: Vcpu, pool_cpus: frozenset[int], busy: Counter[int]) -> Vcpu:
    """The vCPU where it ran last, else on the least busy of the CPUs that it prefers, the first of equals."""
    vcpu = replace(vcpu, time_ns=vcpu.time_ns or 0)
    allowed = vcpu.hard_affinity & pool_cpus
    wanted = (vcpu.soft_affinity & allowed) or allowed
    if not vcpu.online or not wanted or vcpu.pcpu in allowed:
        return vcpu
    pcpu = min(wanted, key=lambda cpu: (busy[cpu], cpu))
    busy[pcpu] += 1
    return replace(vcpu, pcpu=pcpu)
