"""The snapshot that a simulated host shows."""

from __future__ import annotations

from dataclasses import replace

from domicile.hosts.simulated.state import Resident, SimulatedState
from domicile.state.model import PAGES_PER_MIB, Domain, Snapshot, Vcpu

__all__ = ["XEN_VERSION", "snapshot_of"]

XEN_VERSION = "simulated"


def snapshot_of(state: SimulatedState, now: float) -> Snapshot:
    """The host as a `Snapshot`. The memory map costs nothing here and is always of this moment."""
    topology = state.machine.topology
    nodes = tuple(replace(n, free_mib=state.free_pages.get(n.id, 0) // PAGES_PER_MIB) for n in topology.nodes)
    return Snapshot(
        topology=replace(topology, nodes=nodes),
        domains=tuple(_domain(state, resident) for resident in state.residents),
        taken_at=now,
        reservations=tuple(promise.reservation for promise in state.promises),
        reservations_generation=str(state.generation),
        cpupools=state.machine.cpupools,
        memory_map_age_s=0.0,
        scheduler=state.machine.cpupools[0].scheduler,
        xen_version=XEN_VERSION,
        host_id=state.machine.host_id,
    )


def _domain(state: SimulatedState, resident: Resident) -> Domain:
    domain = resident.domain
    pool = state.cpupool(domain.cpupool)
    pool_cpus = pool.cpus if pool else frozenset()
    if domain.paused:
        return domain
    return replace(domain, vcpus=tuple(_placed(vcpu, pool_cpus) for vcpu in domain.vcpus))


def _placed(vcpu: Vcpu, pool_cpus: frozenset[int]) -> Vcpu:
    """The vCPU on one of the CPUs that it prefers: neighbours in order, as an idle host would have them."""
    allowed = vcpu.hard_affinity & pool_cpus
    wanted = sorted((vcpu.soft_affinity & allowed) or allowed)
    return replace(vcpu, pcpu=wanted[vcpu.id % len(wanted)]) if vcpu.online and wanted else vcpu
