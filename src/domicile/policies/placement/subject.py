"""A guest to be placed, prepared for the search: which nodes it may use, how its vCPUs spread there, what is fixed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from domicile.errors import BadInput, Refused
from domicile.performance.assumptions import Assumptions
from domicile.performance.character import USUAL_WEIGHT
from domicile.performance.curves import Floats
from domicile.performance.machine import Machine
from domicile.performance.newcomer import Newcomer
from domicile.performance.tenants import device_shares, keeps_to_vnodes
from domicile.performance.ties import remoteness
from domicile.policies.known import expected_vcpu_demand, io_pull
from domicile.policies.placement.memory import in_proportion
from domicile.state.load import capped
from domicile.state.model import Snapshot
from domicile.state.request import Character, DevicePolicy, GuestRequest
from domicile.topology.ids import format_ids as numbers

__all__ = ["Fixed", "Subject", "prepare"]

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Fixed:
    """A place that the configuration itself sets: vCPU shares (N), the sets it gives its vCPUs, and the memory of each
    node in MiB with the overhead (N), None where Xen spreads it over the nodes of the vCPUs."""

    vcpu_share: Floats
    soft_affinity: tuple[frozenset[int], ...]
    reserve_mib: tuple[int, ...] | None
    memory_mib: tuple[int, ...] | None

    @property
    def nodes(self) -> Indices:
        """The nodes (indices) of its vCPUs and its memory."""
        return np.flatnonzero((self.vcpu_share > 0) | (np.array(self.reserve_mib or 0) > 0))


@dataclass(frozen=True, eq=False)
class Subject:
    """A request, and what the search needs of it.

    `eligible`: indices of the nodes it may use. `spread_weights` (G) and `spread_pcpus` (G x N): its vCPUs by distinct
    hard affinity, the share of each kind and the pCPUs that it may run on. `pool_cpus`: the CPUs of its cpupool.
    `limits`: why nodes are not eligible, for a person. A guest that keeps its accesses to virtual nodes has a place
    that is `fixed`, memory too. `split`: what it counts, in slowdown, to have its vCPUs on more than one node.
    """

    request: GuestRequest
    newcomer: Newcomer
    eligible: Indices
    spread_weights: Floats
    spread_pcpus: Floats
    pool_cpus: frozenset[int]
    fixed: Fixed | None
    limits: str = ""
    split: float = 0.0

    @property
    def need_mib(self) -> int:
        """Memory to be found for it, overhead included."""
        if self.fixed and self.fixed.reserve_mib:
            return sum(self.fixed.reserve_mib)
        return self.request.need_mib

    def vcpu_shares(self, nodes: Indices, member: npt.NDArray[np.bool_] | None = None) -> Floats:
        """vCPU share of every node of K sets; K x k, rows of nan where some vCPU could run on none of the set's CPUs.

        `nodes` is K x k, `member` says which of them belong to the set; all where it is None.
        """
        pcpus = self.spread_pcpus[:, nodes]
        if member is not None:
            pcpus *= member
        totals = pcpus.sum(axis=2, keepdims=True)
        each = pcpus / np.where(totals > 0, totals, np.nan)
        return each[0] if len(each) == 1 else np.asarray((self.spread_weights[:, None, None] * each).sum(axis=0))

    def divided(self, vcpus: Floats) -> Floats:
        """What it counts that its vCPUs have these shares of nodes (K x k); K."""
        return np.asarray(self.split * ((vcpus > 0).sum(axis=1) > 1), dtype=np.float64)

    def opened(self) -> Subject:
        """The same without what its configuration says of its place."""
        request = replace(self.request, soft_affinity=None, vnodes=())
        return replace(self, request=request, newcomer=replace(self.newcomer, own_share=0.0), fixed=None)

    def soft_affinity(self, machine: Machine, nodes: Sequence[int]) -> tuple[frozenset[int], ...]:
        """The soft affinity that keeps it on these nodes (indices): the same set for every vCPU."""
        if self.fixed:
            return self.fixed.soft_affinity
        inside = np.zeros(machine.nodes + 1, dtype=bool)
        inside[list(nodes)] = True
        # a CPU of no node has the index -1, which is the last: never inside
        cpus = np.flatnonzero(inside[machine.node_of_cpu] & (machine.pool_of_cpu == self.newcomer.pool))
        return (frozenset(cpus.tolist()),) * self.request.max_vcpus


def prepare(
    machine: Machine,
    snapshot: Snapshot,
    request: GuestRequest,
    devices: DevicePolicy,
    load: Mapping[str, float],
    assumptions: Assumptions,
    character: Character | None = None,
) -> Subject:
    """Check a request against the machine. Raises `BadInput` for what the host does not have (a cpupool, a device, a
    node), `Refused` where nothing is left: no CPU that it may run on, no node for its device."""
    pool = machine.pool_index(request.cpupool)
    if pool is None:
        raise BadInput(
            request.source or request.name,
            f"cpupool {request.cpupool!r} is not on this host, which has {', '.join(machine.pools)}",
        )
    pool_cpus = machine.cpus_of_pools[pool]
    affinities = _hard_affinities(request, pool_cpus)
    kinds = Counter(affinities)
    spread_pcpus = np.array(
        [machine.pcpus[pool] if cpus is pool_cpus else machine.count_pcpus(cpus, pool) for cpus in kinds]
    )
    allowed: tuple[Floats, Floats] | None = None
    if any(cpus != pool_cpus for cpus in kinds):
        allowed = machine.count(frozenset().union(*kinds), pool)

    eligible = np.flatnonzero(spread_pcpus.any(axis=0))
    limits = (
        f"its hard affinity and cpupool leave it {_nodes(machine, eligible)}" if len(eligible) < machine.nodes else ""
    )
    share = device_shares(machine, _known_devices(machine, request)) if request.devices else None
    if devices is DevicePolicy.REQUIRED and share is not None:
        eligible = _device_nodes(machine, request, eligible, share)
        limits = f"its devices are required to be local and leave it {_nodes(machine, eligible)}"
    pull = io_pull(machine, snapshot, share, request.backends, devices, assumptions)
    stated = character.busy_vcpus if character else None
    wanted = load.get(request.name, stated)
    if wanted is None:
        wanted = request.vcpus * expected_vcpu_demand(snapshot, load, assumptions)
    # one that sees its nodes is divided on purpose
    fits = not request.vnodes and _fits(machine, request, eligible, allowed[1] if allowed else machine.cores[pool])
    return Subject(
        request=request,
        newcomer=Newcomer(
            demand=capped(min(wanted, float(request.max_vcpus)), request.cap_percent),
            pool=pool,
            device_pull=pull,
            allowed_pcpus=allowed[0] if allowed else None,
            allowed_cores=allowed[1] if allowed else None,
            weight=request.weight / USUAL_WEIGHT,
            memory_bound=character.memory_bound if character else None,
            traffic_gbs=character.traffic_gbs if character else None,
            own_share=assumptions.own_share if keeps_to_vnodes(request.vnodes) else 0.0,
        ),
        eligible=eligible,
        spread_weights=np.array(list(kinds.values()), dtype=np.float64) / len(affinities),
        spread_pcpus=spread_pcpus,
        pool_cpus=pool_cpus,
        fixed=_fixed(machine, snapshot, request, affinities, pool),
        limits=limits,
        split=assumptions.split_weight if fits else 0.0,
    )


def _fits(machine: Machine, request: GuestRequest, eligible: Indices, cores: Floats) -> bool:
    """Whether some node it may use has a core for each of its vCPUs, and memory for all of it were it empty."""
    memory = machine.memory_mib[eligible]
    return bool(((cores[eligible] >= request.vcpus) & (memory >= request.need_mib)).any())


def _nodes(machine: Machine, indices: Indices) -> str:
    ids = [machine.topology.node_ids[index] for index in indices]
    return f"node{'s' if len(ids) > 1 else ''} {numbers(ids)}" if ids else "no node"


def _hard_affinities(request: GuestRequest, pool_cpus: frozenset[int]) -> list[frozenset[int]]:
    """What each vCPU may run on, within the cpupool."""
    if not pool_cpus:
        raise Refused(f"{request.name}: cpupool {request.cpupool!r} has no CPUs; add some or name another")
    affinities = []
    for vcpu in range(request.max_vcpus):
        hard = request.hard_affinity
        cpus = hard[vcpu] & pool_cpus if hard and vcpu < len(hard) else pool_cpus
        if not cpus:
            asked = numbers(hard[vcpu]) if hard and hard[vcpu] else "none"
            raise Refused(
                f"{request.name}: the hard affinity of vCPU {vcpu} (CPUs {asked}) has no CPU of cpupool "
                f"{request.cpupool!r} ({numbers(pool_cpus)}); change cpus= or pool="
            )
        affinities.append(cpus)
    return affinities


def _known_devices(machine: Machine, request: GuestRequest) -> tuple[str, ...]:
    """The request's devices; a host that lists its devices and has not got one is told apart from one that lists
    none.
    """
    there = {device.address for device in machine.topology.devices}
    for address in request.devices:
        if there and address.lower() not in there:
            raise BadInput(
                request.source or request.name, f"device {address} is not on this host; see xl pci-assignable-list"
            )
    return request.devices


def _device_nodes(machine: Machine, request: GuestRequest, eligible: Indices, share: Floats) -> Indices:
    """The eligible nodes that its devices are on, or for a device on a node that is not, the nearest to it."""
    node_of = {device.address: device.node for device in machine.topology.devices}
    unknown = [address for address in request.devices if node_of.get(address.lower()) is None]
    if unknown:
        raise Refused(
            f"{request.name}: the host does not say which node device {unknown[0]} is on, and the device policy is "
            f"'required'; make it 'preferred'"
        )
    remote = remoteness(machine)
    has_cpus = machine.pcpus.sum(axis=0) > 0
    nearest: set[int] = set()
    for node in np.flatnonzero(share):
        usable = np.flatnonzero(has_cpus)
        best = remote[usable, node].min()
        nearest |= {int(other) for other in usable if remote[other, node] <= best}
    chosen = np.array([node for node in eligible if node in nearest], dtype=np.intp)
    if not chosen.size:
        wanted = numbers(machine.topology.node_ids[node] for node in nearest)
        raise Refused(
            f"{request.name}: its devices are on node {wanted}, where its hard affinity or cpupool does not let it "
            f"run; change cpus= or make the device policy 'preferred'"
        )
    return chosen


def _fixed(
    machine: Machine, snapshot: Snapshot, request: GuestRequest, hard: Sequence[frozenset[int]], pool: int
) -> Fixed | None:
    """The place that the configuration itself sets, None where it leaves it open."""
    pinned = [vnode for vnode in request.vnodes if vnode.pnode is not None]
    if not pinned and request.soft_affinity is None:
        return None
    everywhere = frozenset(cpu.id for cpu in snapshot.topology.cpus)
    given = request.soft_affinity or _vnode_affinity(machine, request)
    soft = tuple(given[vcpu] if vcpu < len(given) else everywhere for vcpu in range(request.max_vcpus))
    share = np.zeros(machine.nodes)
    # the vCPUs of a wide guest have a few sets
    for (likes, may), count in Counter(zip(soft, hard, strict=True)).items():
        # where soft and hard affinity do not meet, Xen goes by the hard one alone
        pcpus = machine.count_pcpus((likes & may) or may, pool)
        share += pcpus / pcpus.sum() * (count / len(soft))
    if not pinned:
        return Fixed(share, soft, None, None)
    memory = [0] * machine.nodes
    loose = sum(vnode.memory_mib for vnode in request.vnodes if vnode.pnode is None)
    for vnode in pinned:
        if vnode.pnode is not None:
            memory[machine.topology.node_index[vnode.pnode]] += vnode.memory_mib
    memory = [own + more for own, more in zip(memory, _shared_out(loose, memory), strict=True)]
    reserve = [own + more for own, more in zip(memory, _shared_out(request.overhead_mib, memory), strict=True)]
    return Fixed(share, soft, tuple(reserve), tuple(memory))


def _shared_out(total: int, by: Sequence[int]) -> list[int]:
    return in_proportion(total, [total * weight for weight in by]) if sum(by) else [0] * len(by)


def _vnode_affinity(machine: Machine, request: GuestRequest) -> tuple[frozenset[int], ...]:
    """The soft affinity that libxl gives a guest with vnodes: each vCPU the CPUs of its vnode's pnode
    (`set_vnuma_affinity`, tools/libs/light/libxl_dom.c, 4.17)."""
    everywhere = frozenset(cpu.id for cpu in machine.topology.cpus)
    soft = [everywhere] * request.max_vcpus
    for number, vnode in enumerate(request.vnodes):
        if vnode.pnode is None:
            continue
        cpus = machine.topology.cpus_by_node.get(vnode.pnode)
        if cpus is None:
            raise BadInput(
                request.source or request.name,
                f"names pnode {vnode.pnode}, this host has nodes {numbers(machine.topology.node_ids)}",
                f"vnode {number}",
            )
        if vnode.vcpus and not cpus:
            raise Refused(
                f"{request.name}: vnode {number} has vCPUs, and pnode {vnode.pnode} has no CPUs; name another"
            )
        for vcpu in vnode.vcpus:
            if vcpu < len(soft):
                soft[vcpu] = frozenset(cpus)
    return tuple(soft)
