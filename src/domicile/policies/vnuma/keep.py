"""A virtual topology that is there already, kept: same virtual nodes, sizes, vCPUs and distances, on nodes that can
bear it.

A guest reads its topology once, at boot: one that is resumed or restored must find the same again (libxl saves and
migrates no domain with virtual nodes, `libxl__domain_save`, tools/libs/light/libxl_dom_save.c, Xen 4.17 to 4.22, so
today this is for topologies that a configuration or the journal has). Which pnodes are under it may change, unless the
configuration names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from domicile.errors import NotEnoughMemory, Refused
from domicile.policies.vnuma.assign import assign
from domicile.policies.vnuma.costs import Ground
from domicile.policies.vnuma.refine import refined
from domicile.state.model import DomainType, Snapshot, Vnode
from domicile.state.request import GuestRequest, Intent
from domicile.topology.ids import format_ids

__all__ = ["keep", "on_pnodes", "unfit"]


def keep(
    vnodes: Sequence[Vnode],
    snapshot: Snapshot,
    request: GuestRequest,
    intent: Intent = Intent(),  # noqa: B008 - immutable
    load: Mapping[str, float] | None = None,
) -> tuple[Vnode, ...]:
    """The same virtual nodes, each on a pnode: the one that it names, or the best by the objective where it names none.

    Each gets a pnode of its own where that is possible; else some share. Raises `Refused` (`NotEnoughMemory` where it
    is that) with the reason where the host cannot bear it.
    """
    if misfit := unfit(vnodes, request):
        raise Refused(f"{request.name}: cannot keep its virtual topology: {misfit}")
    ground = Ground.of(snapshot, replace(request, vnodes=()), intent, load)
    for may_share in (_pinned_together(vnodes), True):
        found = on_pnodes(vnodes, ground, may_share=may_share)
        if found is not None:
            return found
    raise _reason(vnodes, ground)


def on_pnodes(vnodes: Sequence[Vnode], ground: Ground, *, may_share: bool = False) -> tuple[Vnode, ...] | None:
    """The virtual nodes of the ground's guest on the pnodes that are best by the objective, those that name one there;
    None where there is no way."""
    problem = ground.problem(vnodes, may_share=may_share)
    found = assign(problem)
    if found is None:
        return None
    pnodes = [ground.node_ids[pnode] for pnode in refined(ground, vnodes, found.pnodes, problem)]
    return tuple(replace(vnode, pnode=pnode) for vnode, pnode in zip(vnodes, pnodes, strict=True))


def unfit(vnodes: Sequence[Vnode], request: GuestRequest) -> str:
    """Why a topology is not one for this guest as it is configured; empty where it is."""
    memory = sum(vnode.memory_mib for vnode in vnodes)
    vcpus = sorted(vcpu for vnode in vnodes for vcpu in vnode.vcpus)
    if request.type is not DomainType.HVM:
        return f"{request.type.upper()} guests can have none on this Xen"
    if memory != request.memory_mib:
        return f"its virtual nodes have {memory} MiB, the guest {request.memory_mib}"
    if request.max_memory_mib != request.memory_mib:
        return f"maxmem= is {request.max_memory_mib} MiB, and has to be memory= ({request.memory_mib} MiB)"
    if vcpus != list(range(request.max_vcpus)):
        return f"its virtual nodes have vCPUs {format_ids(vcpus)}, the guest has {request.max_vcpus}"
    return ""


def _pinned_together(vnodes: Sequence[Vnode]) -> bool:
    """Whether the configuration itself puts two on one pnode."""
    named = [vnode.pnode for vnode in vnodes if vnode.pnode is not None]
    return len(set(named)) < len(named)


def _reason(vnodes: Sequence[Vnode], ground: Ground) -> Refused:
    """Why nothing will do, with the figures: the first virtual node that no node can bear, else all together."""
    name, ids = ground.request.name, ground.node_ids
    problem = ground.problem(vnodes)
    free = [int(mib) for mib in ground.available_mib]
    figures = ", ".join(f"node {node}: {mib} MiB" for node, mib in list(zip(ids, free, strict=True))[:8])
    for number, vnode in enumerate(vnodes):
        need = int(problem.need_mib[number])
        if not problem.allowed[number].any():
            where = f"its pnode {vnode.pnode}" if vnode.pnode is not None else "any node"
            return Refused(
                f"{name}: virtual node {number} has vCPUs {format_ids(vnode.vcpus)}, which may not run on {where}; "
                f"change cpus=, pool= or vnuma="
            )
        if vnode.pnode is not None:
            on_it = [n for n, other in enumerate(vnodes) if other.pnode == vnode.pnode]
            need = sum(int(problem.need_mib[n]) for n in on_it)
            have = free[ids.index(vnode.pnode)]
            if need > have:
                return NotEnoughMemory(
                    name, need, have, vnode.pnode, detail="vnuma= names this node; without pnode= another could be used"
                )
        elif not problem.possible[number].any():
            most = max(mib for mib, may in zip(free, problem.allowed[number], strict=True) if may)
            return NotEnoughMemory(
                name, need, most, where=f"for virtual node {number} no node has them: the best", detail=figures
            )
    total = int(problem.need_mib.sum())
    return NotEnoughMemory(
        name,
        total,
        sum(free),
        where="no way was found to divide its virtual nodes over the host, which",
        detail=figures,
    )
