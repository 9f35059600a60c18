"""A domain as Xen and libxl make it from a configuration, or their reason not to.

Source: tools/libs/light/libxl_dom.c `libxl__build_pre` (affinity, then placement, then memory), Xen 4.17.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from domicile.errors import NotEnoughMemory, Refused
from domicile.hosts.simulated.memory import node_affinity, take_pages
from domicile.hosts.simulated.placement import ChooseNodes
from domicile.hosts.simulated.state import Owner, Resident, SimulatedState
from domicile.hosts.simulated.view import snapshot_of
from domicile.hosts.simulated.workload import asked_workload
from domicile.state.model import PAGES_PER_MIB, Cpupool, Domain, DomainType, Vcpu
from domicile.state.request import GuestRequest
from domicile.topology.model import Topology

__all__ = ["ReadGuest", "build"]

ReadGuest = Callable[[str, str, Topology], GuestRequest]
"""From an `xl.cfg` text, what to call it in an error, and the machine, to the guest. Raises `BadInput`."""


def build(state: SimulatedState, request: GuestRequest, owner: Owner, choose_nodes: ChooseNodes) -> Resident:
    """The domain, paused, with its memory where Xen would take it from. Raises `Refused` as `xl create` fails."""
    pool = _pool(state, request)
    _require_free_identity(state, request)
    _require_devices(state, request)
    _require_memory(state, request)
    vcpus = _vcpus(request, state.machine.topology, pool)
    nodes = node_affinity(vcpus, pool.cpus, state.machine.topology)
    follows = True
    chosen = _chosen(state, request, choose_nodes)
    if chosen:
        nodes, follows = chosen, False
        if request.soft_affinity is None and not request.vnodes:
            cpus = state.machine.topology.cpus_of(chosen)
            vcpus = tuple(replace(vcpu, soft_affinity=cpus) for vcpu in vcpus)
    if request.vnodes and request.soft_affinity is None:
        vcpus = _near_vnodes(vcpus, request, state.machine.topology)
    domain = Domain(
        id=state.next_id,
        name=request.name,
        uuid=request.uuid or str(uuid.uuid4()),
        vcpus=vcpus,
        memory_mib=request.memory_mib,
        max_memory_mib=request.max_memory_mib,
        type=request.type,
        node_affinity=nodes,
        cpupool=pool.name,
        weight=request.weight,
        cap_percent=request.cap_percent,
        devices=request.devices,
        vnodes=request.vnodes,
        paused=True,
        started_at=state.clock.now,
    )
    workload, busy_vcpus = asked_workload(request)
    resident = Resident(domain, affinity_follows=follows, owner=owner, workload=workload, busy_vcpus=busy_vcpus)
    return _with_memory(state, request, resident)


def _chosen(state: SimulatedState, request: GuestRequest, choose_nodes: ChooseNodes) -> frozenset[int] | None:
    """Nodes given to the domain itself rather than derived from affinity: by its vnuma, or by libxl's placement."""
    if request.vnodes:
        return frozenset(vnode.pnode for vnode in request.vnodes if vnode.pnode is not None)
    if request.hard_affinity is None and request.soft_affinity is None:
        return choose_nodes(snapshot_of(state), request)
    return None


def _with_memory(state: SimulatedState, request: GuestRequest, resident: Resident) -> Resident:
    """Take the memory: each vnode's from exactly its pnode, the rest where node-affinity prefers it."""
    free = dict(state.free_pages)
    pages: dict[int, int] = {}
    left = request.memory_mib * PAGES_PER_MIB
    for vnode in request.vnodes:
        if vnode.pnode is None:
            continue
        need = vnode.memory_mib * PAGES_PER_MIB
        if free.get(vnode.pnode, 0) < need:
            free_mib = free.get(vnode.pnode, 0) // PAGES_PER_MIB
            raise NotEnoughMemory(request.name, vnode.memory_mib, free_mib, vnode.pnode)
        _move(free, pages, {vnode.pnode: need})
        left -= need
    preferred = resident.domain.node_affinity or frozenset()
    _move(free, pages, take_pages(left, free, preferred))
    overhead: dict[int, int] = {}
    _move(free, overhead, take_pages(request.overhead_mib * PAGES_PER_MIB, free, preferred))
    return replace(resident, domain=replace(resident.domain, pages_by_node=pages), overhead_pages=overhead)


def _move(free: dict[int, int], to: dict[int, int], taken: dict[int, int]) -> None:
    for node, pages in taken.items():
        free[node] -= pages
        to[node] = to.get(node, 0) + pages


def _near_vnodes(vcpus: tuple[Vcpu, ...], request: GuestRequest, topology: Topology) -> tuple[Vcpu, ...]:
    """Each vCPU's soft affinity is the CPUs of its virtual node's pnode (`set_vnuma_affinity`, libxl_dom.c)."""
    pnode_of = {cpu: vnode.pnode for vnode in request.vnodes for cpu in vnode.vcpus}
    return tuple(
        vcpu if (pnode := pnode_of.get(vcpu.id)) is None else replace(vcpu, soft_affinity=topology.cpus_of([pnode]))
        for vcpu in vcpus
    )


def _vcpus(request: GuestRequest, topology: Topology, pool: Cpupool) -> tuple[Vcpu, ...]:
    everywhere = frozenset(cpu.id for cpu in topology.cpus)
    vcpus = tuple(
        Vcpu(
            id=index,
            pcpu=None,
            hard_affinity=_entry(request.hard_affinity, index, everywhere),
            soft_affinity=_entry(request.soft_affinity, index, everywhere),
            online=index < request.vcpus,
        )
        for index in range(request.max_vcpus)
    )
    for vcpu in vcpus:
        if not vcpu.hard_affinity & pool.cpus:
            raise Refused(
                f"{request.name}: vCPU {vcpu.id} may run on no CPU of cpupool {pool.name}; change cpus= or pool="
            )
    return vcpus


def _entry(affinity: tuple[frozenset[int], ...] | None, index: int, everywhere: frozenset[int]) -> frozenset[int]:
    """A vCPU's set; one that the configuration does not name may run everywhere."""
    return affinity[index] if affinity is not None and index < len(affinity) else everywhere


def _pool(state: SimulatedState, request: GuestRequest) -> Cpupool:
    pool = state.cpupool(request.cpupool)
    if pool is None:
        names = ", ".join(each.name for each in state.machine.cpupools)
        raise Refused(f"{request.name}: there is no cpupool {request.cpupool!r}; there are {names}")
    return pool


def _require_free_identity(state: SimulatedState, request: GuestRequest) -> None:
    if state.resident(request.name):
        raise Refused(f"{request.name}: a domain of this name is there already; destroy it or take another name")
    for resident in state.residents:
        if request.uuid and resident.domain.uuid == request.uuid:
            raise Refused(f"{request.name}: {resident.domain.name} has its UUID {request.uuid} already")


def _require_devices(state: SimulatedState, request: GuestRequest) -> None:
    known = {device.address for device in state.machine.topology.devices}
    users = {address: resident.domain.name for resident in state.residents for address in resident.domain.devices}
    for address in request.devices:
        if address not in known:
            raise Refused(f"{request.name}: device {address} is not there")
        if address in users:
            raise Refused(f"{request.name}: device {address} is in use by {users[address]}")


def _require_memory(state: SimulatedState, request: GuestRequest) -> None:
    if request.need_mib * PAGES_PER_MIB > sum(state.free_pages.values()):
        raise NotEnoughMemory(request.name, request.need_mib, state.free_mib)
    if not request.vnodes:
        return
    if request.type is not DomainType.HVM:
        kind = request.type.upper()
        raise Refused(f"{request.name}: {kind} vNUMA is not supported by Xen; leave vnuma= out or make it HVM")
    together = sum(vnode.memory_mib for vnode in request.vnodes)
    if together != request.memory_mib:
        raise Refused(f"{request.name}: its vnodes have {together} MiB together, memory= says {request.memory_mib}")
