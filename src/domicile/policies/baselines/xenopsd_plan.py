"""xenopsd's placement as a plan, under the three policies of `Host.numa_affinity_policy` that place at all.

Source: xapi-project/xen-api v26.17.0: `numa_placement` and `build_pre` in ocaml/xenopsd/xc/domain.ml,
`cores_of_numa_affinity_policy` and `affinity_of_numa_affinity_policy` in ocaml/xenopsd/lib/xenops_server.ml. Best
effort asks for a core to each vCPU, memory only ("prio-mem-only", the behaviour before CA-420968, November 2025) does
not; both set soft affinity, best effort hard sets hard affinity.

As there: a VM with hard affinity is not planned for; where no set will do, or the set that is chosen has several nodes,
nothing is set, and Xen takes the memory from all nodes in turn (since CP-54065, March 2025).

What differs: usage is a count of its own there, from the start of the toolstack, of all VMs that were planned; here it
is how many of the domains that are there have an affinity narrower than the host, on each of its nodes. CPUs outside
of the guest's cpupool do not count. "Nothing is set" comes out as soft affinity with all CPUs that the guest may use,
which is the same to Xen, and keeps `xl` from placing the guest by itself.
"""

from __future__ import annotations

from functools import partial

from domicile.policies.baselines.turns import Pick, Turn, in_turn
from domicile.policies.baselines.xenopsd import XenopsdNode, XenopsdRequest, plan
from domicile.state.model import Snapshot

__all__ = ["place", "place_hard", "place_memory_only", "usage"]


def usage(snapshot: Snapshot) -> list[int]:
    """By node, in the order of the topology: domains that prefer it, or are kept on it, and not on all."""
    topology = snapshot.topology
    node_of = {cpu.id: cpu.node for cpu in topology.cpus}
    everywhere = {node for node, cpus in topology.cpus_by_node.items() if cpus}
    counts = [0] * len(topology.nodes)
    for domain in snapshot.domains:
        if domain.id == 0:
            continue
        affinities = {(vcpu.hard_affinity, vcpu.soft_affinity) for vcpu in domain.vcpus}
        cpus = frozenset().union(*((hard & soft) or hard for hard, soft in affinities))
        nodes = {node for cpu in cpus if (node := node_of.get(cpu)) is not None}
        if nodes < everywhere:
            for node in nodes:
                counts[topology.node_index[node]] += 1
    return counts


def _best_effort(turn: Turn, *, cores: bool = True, hard: bool = False) -> Pick | None:
    request, eligible = turn.request, set(turn.eligible)
    if not turn.fits(turn.eligible):
        return None
    if request.hard_affinity is not None:
        return Pick(turn.eligible, "plans nothing, the configuration sets hard affinity")
    nodes = [
        XenopsdNode(int(pcpus), int(whole), free) if node in eligible else XenopsdNode(0, 0, 0)
        for node, (pcpus, whole, free) in enumerate(zip(turn.pcpus, turn.cores, turn.free_mib, strict=True))
    ]
    ids = turn.ids
    distances = tuple(tuple(turn.snapshot.topology.distance(row, column) for column in ids) for row in ids)
    asked = XenopsdRequest(turn.subject.need_mib, request.max_vcpus, request.max_vcpus if cores else 0)
    used = usage(turn.snapshot)
    found = plan(distances, nodes, asked, used)
    if found is None:
        return Pick(turn.eligible, "no set of nodes will do, so it may run and have its memory anywhere")
    if len(found) > 1:
        return Pick(turn.eligible, "it takes several nodes, so it may run and have its memory anywhere")
    reason = f"the nearest set of nodes that has room, {sum(used[node] for node in found)} VMs there before it"
    return Pick(found, reason, hard)


place = in_turn("xenopsd", _best_effort)
"""Best effort, one after the other."""

place_hard = in_turn("xenopsd-hard", partial(_best_effort, hard=True))
"""Best effort hard: the plan's placements are `hard` where one node will do."""

place_memory_only = in_turn("xenopsd-memory", partial(_best_effort, cores=False))
"""Memory only, one after the other."""
