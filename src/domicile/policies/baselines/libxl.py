"""libxl's own placement, to the letter: `libxl__get_numa_candidate` (tools/libs/light/libxl_numa.c) and
`numa_place_domain` with its surroundings (tools/libs/light/libxl_dom.c), Xen 4.17; the same up to 4.22.

Its quirks are kept, each marked where it is: nothing above 16 nodes; distances never read; the hard affinity of the
guest left out; free memory summed in 32 bits and compared as an int.

It knows nothing of memory promised by domicile, and takes what is free now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from domicile.errors import BadInput, Refused
from domicile.state.model import Domain, Snapshot, Vcpu
from domicile.state.request import GuestRequest

__all__ = [
    "Candidate",
    "auto_node_affinity",
    "candidate",
    "default_need_kib",
    "pool_cpus",
    "skip_reason",
    "vcpus_on_node",
]

MOST_NODES = 16
UINT32 = 2**32
KIB_PER_MIB = 1024


@dataclass(frozen=True, slots=True)
class Candidate:
    """What libxl prints with `xl -vvv create` as the candidate: its nodes, their CPUs in the guest's cpupool, their
    free memory (which the line calls KB and gives in MiB) and the vCPUs that may run there, the guest's own included.
    """

    nodes: tuple[int, ...]
    nr_cpus: int
    nr_vcpus: int
    free_memkb: int


def default_need_kib(request: GuestRequest) -> int:
    """What libxl looks for (`libxl__domain_need_memory_calculate`, libxl_mem.c), as far as the request tells: its
    memory and overhead in whole 2 MiB.
    """
    return -(-request.need_mib // 2) * 2 * KIB_PER_MIB


def skip_reason(request: GuestRequest) -> str | None:
    """Why `xl` does not let libxl place this guest, None if it does (`parse_vcpu_affinity` and `parse_vnuma_config`,
    tools/xl/xl_parse.c; `libxl__build_pre`).

    A list of affinities switches it off, one string for all vCPUs does not; a request has the sets alone, so that a
    list of equal sets is taken for a string unless `numa_placement` says otherwise.
    """
    if request.soft_affinity is not None:
        return "the configuration sets a soft affinity"
    if any(vnode.pnode is not None for vnode in request.vnodes):
        return "the configuration sets vnodes on pnodes"
    if request.numa_placement is not None:
        return None if request.numa_placement else "the configuration sets a list of affinities"
    if request.hard_affinity is not None and len(set(request.hard_affinity)) > 1:
        return "the configuration sets a list of affinities"
    return None


def candidate(
    snapshot: Snapshot,
    request: GuestRequest,
    need_kib: int | None = None,
    free_kib: Mapping[int, int] | None = None,
) -> Candidate | None:
    """The candidate that libxl picks for a guest that it is let to place; None where it finds none.

    `need_kib` is what it looks for (`default_need_kib` where not given). `free_kib` is free memory by node; where it is
    not given, the snapshot's MiB stand for it, which can differ from libxl's view where two nodes have the same number
    of vCPUs and nearly the same memory. Raises `BadInput` for a cpupool that the host has not got, `Refused` for a hard
    affinity outside it, as libxl does.
    """
    topology = snapshot.topology
    pool = pool_cpus(snapshot, request.cpupool, request.source or request.name)
    if request.hard_affinity and not request.hard_affinity[0] & pool:
        raise Refused(f"{request.name}: its hard affinity is wholly outside cpupool {request.cpupool!r}; change one")
    # the number of nodes is the highest id and one, gaps included (XEN_SYSCTL_numainfo)
    if not 1 < topology.node_ids[-1] + 1 <= MOST_NODES:
        return None
    need_kib = default_need_kib(request) if need_kib is None else need_kib
    free = {
        node.id: (node.free_mib or 0) * KIB_PER_MIB if free_kib is None else free_kib[node.id]
        for node in topology.nodes
    }
    # the guest's hard affinity is worked out there, and then not used: `map` stays the cpupool's CPUs (since 4.12)
    cpus = {node: len(pool.intersection(ids)) for node, ids in topology.cpus_by_node.items()}
    suitable = [node for node in topology.node_ids if cpus[node]]
    load = vcpus_on_node(snapshot, request, pool)
    for size in range(1, len(suitable) + 1):
        best: Candidate | None = None
        for nodes in combinations(suitable, size):
            found = Candidate(
                nodes=nodes,
                nr_cpus=sum(cpus[node] for node in nodes),
                nr_vcpus=sum(load[node] for node in nodes),
                # nodemap_to_free_memkb returns a uint32_t: 4 TiB and more wrap
                free_memkb=sum(free[node] for node in nodes) % UINT32,
            )
            if found.free_memkb < need_kib or found.nr_cpus < request.max_vcpus:
                continue
            if best is None or _compare(found, best) < 0:
                best = found
        if best is not None:
            return best
    return None


def vcpus_on_node(snapshot: Snapshot, request: GuestRequest, pool: frozenset[int]) -> dict[int, int]:
    """vCPUs that may run on each node (`nr_vcpus_on_nodes`): every vCPU, online or not, of every domain, Dom0's too,
    counts on each node that its hard affinity and its domain's node-affinity have in common, within the CPUs of the
    guest's cpupool and of its domain's own.

    The guest's own vCPUs are there by then, with no affinity set yet: they count on every node of the cpupool.
    """
    node_of = {cpu.id: cpu.node for cpu in snapshot.topology.cpus}
    counts = dict.fromkeys(snapshot.topology.node_ids, 0)
    for domain in snapshot.domains:
        try:
            usable = pool & pool_cpus(snapshot, domain.cpupool, domain.name)
        except BadInput:  # a pool that went while the snapshot was taken: libxl leaves the domain out
            continue
        affine = _node_affinity(domain, usable, node_of)
        for vcpu in domain.vcpus:
            for node in _nodes_of(vcpu.hard_affinity & usable, node_of) & affine:
                counts[node] += 1
    for node in _nodes_of(pool, node_of):
        counts[node] += request.max_vcpus
    return counts


def _compare(one: Candidate, other: Candidate) -> int:
    """Negative where the first is better (`numa_cmpf`): fewer vCPUs, then more free memory."""
    if one.nr_vcpus != other.nr_vcpus:
        return one.nr_vcpus - other.nr_vcpus
    # a difference of unsigned 64-bit numbers returned as an int: from 2 TiB on it changes its sign
    difference = (other.free_memkb - one.free_memkb) % UINT32
    return difference - UINT32 if difference >= UINT32 // 2 else difference


def pool_cpus(snapshot: Snapshot, name: str, source: str) -> frozenset[int]:
    """The CPUs of a cpupool; all CPUs on a host that tells of no pools. Raises `BadInput` if none is so called."""
    if not snapshot.cpupools:
        return frozenset(cpu.id for cpu in snapshot.topology.cpus)
    for pool in snapshot.cpupools:
        if pool.name == name:
            return pool.cpus
    raise BadInput(
        source, f"cpupool {name!r} is not on this host, which has {', '.join(p.name for p in snapshot.cpupools)}"
    )


def _node_affinity(domain: Domain, usable: frozenset[int], node_of: Mapping[int, int | None]) -> frozenset[int]:
    """Where the host does not tell it: as Xen works it out (`domain_update_node_aff`, xen/common/sched/core.c), the
    nodes of the soft affinity within the hard one, of the hard one where they have nothing in common."""
    if domain.node_affinity is not None:
        return domain.node_affinity
    return auto_node_affinity(domain.vcpus, usable, node_of)


def auto_node_affinity(
    vcpus: Iterable[Vcpu], usable: frozenset[int], node_of: Mapping[int, int | None]
) -> frozenset[int]:
    """The node-affinity that Xen gives a domain whose own was never set."""
    hard = frozenset().union(*(vcpu.hard_affinity for vcpu in vcpus)) & usable
    soft = frozenset().union(*(vcpu.soft_affinity for vcpu in vcpus)) & hard
    return frozenset(_nodes_of(soft or hard, node_of))


def _nodes_of(cpus: Iterable[int], node_of: Mapping[int, int | None]) -> set[int]:
    return {node for cpu in cpus if (node := node_of.get(cpu)) is not None}
