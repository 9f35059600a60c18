"""libxl's placement as a plan: what `xl create` would do with these guests, one after the other, without domicile.

Where libxl places nothing, the guest may run everywhere and Xen takes its memory from all nodes in turn, or from those
of an affinity that the configuration sets. Where those are full, Xen goes on with the other nodes and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from domicile.errors import BadInput, NotEnoughMemory
from domicile.policies.baselines.libxl import auto_node_affinity, candidate, pool_cpus, skip_reason
from domicile.policies.baselines.turns import with_prediction
from domicile.policies.placement import problem_of
from domicile.policies.placement.layout import Layout, Seat
from domicile.policies.placement.memory import in_proportion, spread_whole
from domicile.policies.plan import Placement, PlacementPlan, Term
from domicile.policies.whatif import with_guest
from domicile.state.model import Snapshot, Vcpu
from domicile.state.request import DevicePolicy, GuestRequest, Intent

__all__ = ["place"]

POLICY = "libxl"
AFFINITY_BITS = 64
"""Node-affinity is a mask of Xen's MAX_NUMNODES bits, filled by whole bytes of libxl's."""


@dataclass(frozen=True, slots=True)
class _Decision:
    """What libxl sets: node-affinity (ids), soft affinity (None: all CPUs), and why."""

    node_affinity: frozenset[int]
    soft_affinity: tuple[frozenset[int], ...] | None
    reason: str


def place(
    snapshot: Snapshot,
    requests: Sequence[GuestRequest],
    intent: Intent = Intent(),  # noqa: B008 - immutable
    *,
    exact: bool = False,
    load: Mapping[str, float] | None = None,
    need_kib: Mapping[str, int] | None = None,
) -> PlacementPlan:
    """What libxl would do, in the order of the requests; the prediction is domicile's.

    `need_kib` is the memory that libxl looks for, by guest; where it is not given, what the request tells. Raises
    `BadInput` and `Refused` as domicile's own policy does, `NotEnoughMemory` where the host has too little.
    """
    if exact:
        raise BadInput("--exact", f"there is nothing to prove about policy {POLICY!r}; leave it out")
    later = snapshot
    placed: list[tuple[GuestRequest, Placement]] = []
    reasons: list[str] = []
    for request in requests:
        decision = _decide(later, request, (need_kib or {}).get(request.name))
        placement = _placement(later, request, decision)
        placed.append((request, placement))
        reasons.append(decision.reason)
        later = with_guest(later, request, placement, decision.node_affinity)
    layout = _layout(snapshot, placed, intent, load)
    return PlacementPlan(
        placements=tuple(
            with_prediction(snapshot, layout, guest, placement, Term("libxl", 0.0, reason))
            for guest, ((_, placement), reason) in enumerate(zip(placed, reasons, strict=True))
        ),
        policy=POLICY,
        mean_slowdown=layout.mean_slowdown,
    )


def _decide(snapshot: Snapshot, request: GuestRequest, need_kib: int | None) -> _Decision:
    skipped = skip_reason(request)
    topology = snapshot.topology
    if skipped:
        soft = request.soft_affinity or _vnode_affinity(snapshot, request)
        return _Decision(_automatic(snapshot, request, soft), soft, f"libxl: places nothing, {skipped}")
    found = candidate(snapshot, request, need_kib)
    if found is None:
        # all bits of the bytes that the nodes need are set; only if these are all of Xen's is it "automatic" again
        whole = (topology.node_ids[-1] + 8) // 8 * 8 >= AFFINITY_BITS
        affinity = _automatic(snapshot, request, None) if whole else frozenset(topology.node_ids)
        return _Decision(affinity, None, "libxl: finds no candidate, so it may run and have its memory anywhere")
    cpus = frozenset(topology.cpus_of(found.nodes))
    reason = (
        f"libxl: candidate with {len(found.nodes)} nodes, {found.nr_cpus} CPUs and {found.free_memkb // 1024} MiB "
        f"free, {found.nr_vcpus} vCPUs may run there with its own"
    )
    return _Decision(frozenset(found.nodes), (cpus,) * request.max_vcpus, reason)


def _automatic(snapshot: Snapshot, request: GuestRequest, soft: tuple[frozenset[int], ...] | None) -> frozenset[int]:
    """The node-affinity that Xen derives from the guest's own affinity."""
    everywhere = frozenset(cpu.id for cpu in snapshot.topology.cpus)

    def given(sets: tuple[frozenset[int], ...] | None, vcpu: int) -> frozenset[int]:
        return sets[vcpu] if sets and vcpu < len(sets) else everywhere

    vcpus = [Vcpu(v, None, given(request.hard_affinity, v), given(soft, v)) for v in range(request.max_vcpus)]
    node_of = {cpu.id: cpu.node for cpu in snapshot.topology.cpus}
    return auto_node_affinity(vcpus, pool_cpus(snapshot, request.cpupool, request.source or request.name), node_of)


def _vnode_affinity(snapshot: Snapshot, request: GuestRequest) -> tuple[frozenset[int], ...] | None:
    """With vnodes each vCPU gets its pnode's CPUs (`set_vnuma_affinity`), after the memory is there."""
    if not any(vnode.pnode is not None for vnode in request.vnodes):
        return None
    soft = [frozenset(cpu.id for cpu in snapshot.topology.cpus)] * request.max_vcpus
    for vnode in request.vnodes:
        for vcpu in vnode.vcpus:
            if vnode.pnode is not None and vcpu < len(soft):
                soft[vcpu] = frozenset(snapshot.topology.cpus_by_node[vnode.pnode])
    return tuple(soft)


def _placement(snapshot: Snapshot, request: GuestRequest, decision: _Decision) -> Placement:
    """Where its memory falls; the prediction comes once all guests are placed."""
    reserve = _vnode_memory(snapshot, request) or _fallen(snapshot, request, decision.node_affinity)
    memory = in_proportion(request.memory_mib, list(reserve.values()))
    return Placement(
        domain=request.name,
        nodes=tuple(sorted(decision.node_affinity)),
        soft_affinity=decision.soft_affinity,
        memory_mib={node: mib for node, mib in zip(reserve, memory, strict=True) if mib},
        reserve_mib={node: mib for node, mib in reserve.items() if mib},
        predicted_slowdown=1.0,
    )


def _fallen(snapshot: Snapshot, request: GuestRequest, affinity: Iterable[int]) -> dict[int, int]:
    """Memory by node: from those of the node-affinity in turn, then from the others."""
    free = {node.id: node.free_mib or 0 for node in snapshot.topology.nodes}
    left = request.need_mib
    if sum(free.values()) < left:
        raise NotEnoughMemory(request.name, left, sum(free.values()))
    taken = dict.fromkeys(free, 0)
    preferred = sorted(affinity)
    for nodes in (preferred, sorted(set(free) - set(preferred))):
        part = min(left, sum(free[node] for node in nodes))
        for node, mib in zip(nodes, spread_whole(part, [free[node] for node in nodes]) or [], strict=True):
            taken[node] += mib
        left -= part
    return taken


def _vnode_memory(snapshot: Snapshot, request: GuestRequest) -> dict[int, int] | None:
    """The memory of vnodes is taken from their pnodes and from nowhere else."""
    if not request.vnodes or any(vnode.pnode is None for vnode in request.vnodes):
        return None
    reserve: dict[int, int] = {}
    for vnode in request.vnodes:
        if vnode.pnode is not None:
            reserve[vnode.pnode] = reserve.get(vnode.pnode, 0) + vnode.memory_mib
    for node, extra in zip(reserve, in_proportion(request.overhead_mib, list(reserve.values())), strict=True):
        reserve[node] += extra
    for node, need in reserve.items():
        free = snapshot.topology.node(node).free_mib or 0
        if free < need:
            raise NotEnoughMemory(request.name, need, free, node)
    return reserve


def _layout(
    snapshot: Snapshot,
    placed: Sequence[tuple[GuestRequest, Placement]],
    intent: Intent,
    load: Mapping[str, float] | None,
) -> Layout:
    """All guests where libxl puts them, for domicile's prediction."""
    everywhere = frozenset(cpu.id for cpu in snapshot.topology.cpus)
    bound = [
        replace(request, soft_affinity=placement.soft_affinity or (everywhere,) * request.max_vcpus)
        for request, placement in placed
    ]
    # libxl has no device policy; "preferred" shows what distance costs and forbids nothing
    problem = problem_of(snapshot, bound, replace(intent, devices=DevicePolicy.PREFERRED), load=load)
    index = snapshot.topology.node_index
    layout = Layout.empty(problem)
    for guest, (_, placement) in enumerate(placed):
        fixed = problem.subjects[guest].fixed
        if fixed is None:
            raise AssertionError("a guest with a soft affinity is fixed")
        reserve = [0] * len(index)
        for node, mib in placement.reserve_mib.items():
            reserve[index[node]] = mib
        nodes = tuple(index[node] for node in placement.nodes)
        layout = layout.seated(guest, Seat(nodes, fixed.vcpu_share, tuple(reserve)))
    return layout
