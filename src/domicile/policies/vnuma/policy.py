"""Any placement policy, with virtual topologies: wide guests get one, those that have one keep it.

First the policy places all guests as if nobody had virtual nodes. Then each guest that is to have some gets them, one
after the other, the others being where they were placed; and the policy places all of them again, those with virtual
nodes where these are. PV and PVH guests, which can have none, get the next best: a soft affinity for each vCPU, so that
each stays on one node, where the objective says that this is no worse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from domicile.errors import Refused
from domicile.policies.plan import VNODES_TERM, Alternative, Explanation, Placement, PlacementPlan, Term
from domicile.policies.vnuma.beside import alternative, kept_beside, plain_ones, topologies_beside
from domicile.policies.vnuma.costs import Ground
from domicile.policies.vnuma.design import MOST_VNODES, described, most_even, topology_of
from domicile.policies.vnuma.keep import keep
from domicile.policies.vnuma.tasks import Kind, Task, task_of
from domicile.policies.vnuma.widths import best_width, faster_but
from domicile.policies.whatif import with_guest
from domicile.state.model import Snapshot, Vnode
from domicile.state.request import GuestRequest, Intent
from domicile.topology.ids import format_ids

__all__ = ["Place", "with_vnuma"]

Place = Callable[[Snapshot, Sequence[GuestRequest], Intent], PlacementPlan]
"""A placement policy, its options bound."""

NextBest = Callable[[], tuple[Alternative, ...] | None]
"""What to show beside a placement, worked out when somebody asks; None: what the policy itself shows."""

SHOWN = 3
"""How many that are."""

FURTHER = 2
"""How many widths are tried beyond the least that can hold a guest."""

NO_WORSE = 1e-9


@dataclass(frozen=True, slots=True)
class _Answer:
    """The request as it is to be placed, what to tell of it, and what else was weighed: the same request otherwise."""

    request: GuestRequest
    told: str = ""
    others: tuple[GuestRequest, ...] = ()


def with_vnuma(place: Place, load: Mapping[str, float] | None = None, *, unasked: bool = True) -> Place:
    """The policy with virtual topologies. `load` is what the policy counts with; without `unasked` only guests for
    which a number is wanted, or which have a topology, get virtual nodes (a baseline stays what it is).

    The policy raises as `place` does, and `Refused` where a topology cannot be had, or kept, with the reason.
    """

    def decide(snapshot: Snapshot, requests: Sequence[GuestRequest], intent: Intent) -> PlacementPlan:
        tasks = [task_of(snapshot, request, intent, unasked=unasked) for request in requests]
        if all(task.kind is Kind.NONE for task in tasks):
            return _told(place(snapshot, requests, intent), requests, [task.why for task in tasks])
        plain = [replace(r, vnodes=()) if t.kind is Kind.KEEP else r for r, t in zip(requests, tasks, strict=True)]
        base = place(snapshot, plain, intent)
        answers = _Answers(place, intent, load, snapshot, list(plain), list(base.placements))
        for guest, task in enumerate(tasks):
            answers.answer(guest, task)
        if all(new is old for new, old in zip(answers.requests, plain, strict=True)):
            return _told(base, requests, answers.told)
        # the last one that was decided alone is placed already
        plan = answers.last if len(requests) == 1 and answers.last else place(snapshot, answers.requests, intent)
        answers.placements = list(plan.placements)
        others = [partial(answers.next_best, guest, plain[guest]) for guest in range(len(plain))]
        # what was worked out here is fixed to the policy: that nothing else is better it cannot say
        return _told(replace(plan, proven=False, gap=None, deviation=None), answers.requests, answers.told, others)

    return decide


@dataclass
class _Answers:
    """The guests of a call as they are decided one by one. `placements` is where each is taken to be."""

    place: Place
    intent: Intent
    load: Mapping[str, float] | None
    snapshot: Snapshot
    requests: list[GuestRequest]
    placements: list[Placement]

    def __post_init__(self) -> None:
        self.told = [""] * len(self.requests)
        self.others: list[tuple[GuestRequest, ...]] = [()] * len(self.requests)
        self.kept: list[tuple[Vnode, ...]] = [()] * len(self.requests)
        self.last: PlacementPlan | None = None

    def answer(self, guest: int, task: Task) -> None:
        """Decide one guest."""
        if task.kind is Kind.NONE:
            self.told[guest] = task.why
            return
        host, request = self._host_without(guest), self.requests[guest]
        if task.kind is Kind.KEEP:
            vnodes = keep(task.vnodes, host, request, self.intent, self.load)
            found = _Answer(replace(request, vnodes=vnodes), f"{task.why}: {_said(vnodes, host, request)}")
            self.kept[guest] = task.vnodes
        elif task.kind is Kind.DESIGN:
            found = self._designed(host, request, task, len(self.placements[guest].nodes))
        else:
            found = self._lists(host, request, task, self.placements[guest])
        self.told[guest] = found.told
        self.others[guest] = found.others
        if found.request is not request:
            self.requests[guest] = found.request
            self.last = self.place(host, [found.request], self.intent)
            (self.placements[guest],) = self.last.placements

    def next_best(self, guest: int, plain: GuestRequest) -> tuple[Alternative, ...] | None:
        """What comes next to the place of a guest that was worked out here, `plain` being the guest as it was before:
        other topologies, the same one elsewhere if it is kept, or, where it got a soft affinity for each vCPU, other
        sets of nodes without. None where the place is the policy's own.
        """
        if self.requests[guest] is plain:
            return None
        host, vnodes = self._host_without(guest), self.requests[guest].vnodes
        if kept := self.kept[guest]:
            ground = Ground.of(host, plain, self.intent, self.load)
            nodes = self.placements[guest].nodes
            return _best(kept_beside(ground, kept, nodes, partial(self._alone, host), SHOWN)) or None
        alone = partial(self._alone, host)
        widths = [alternative(alone(other)) for other in self.others[guest]]
        try:
            others = plain_ones(alone(plain))
        except Refused:
            return tuple(widths)
        if vnodes:
            ground = Ground.of(host, plain, self.intent, self.load)
            others = topologies_beside(ground, vnodes, widths, others, alone, SHOWN)
        chosen = self.placements[guest].nodes
        return _best([other for other in others if other.nodes != chosen])

    def _host_without(self, guest: int) -> Snapshot:
        """The host with all the others where they are taken to be."""
        host = self.snapshot
        for other, placement in enumerate(self.placements):
            if other != guest:
                host = with_guest(host, self.requests[other], placement, frozenset(placement.nodes))
        return host

    def _alone(self, host: Snapshot, request: GuestRequest) -> Placement:
        (placement,) = self.place(host, [request], self.intent).placements
        return placement

    def _designed(self, host: Snapshot, request: GuestRequest, task: Task, usual: int) -> _Answer:
        """The topology of the width that is worth it, of those that come into question."""
        ground = Ground.of(host, request, self.intent, self.load)
        if task.count:
            vnodes = topology_of(ground, task.count) or topology_of(ground, task.count, may_share=True)
            if vnodes is None:
                raise Refused(f"{request.name}: cannot have {task.count} virtual nodes: {_room(ground)}")
            return _Answer(replace(request, vnodes=vnodes), f"{task.why}: {_said(vnodes, host, request)}")
        found: dict[int, GuestRequest] = {}
        objectives: dict[int, float] = {}
        most = min(int(ground.eligible.sum()), request.max_vcpus, MOST_VNODES)
        for count in range(min(task.least, most), most + 1):
            if len(found) > FURTHER and count != usual:
                continue
            vnodes = topology_of(ground, count)
            if vnodes is None:
                continue
            found[count] = replace(request, vnodes=vnodes)
            objectives[count] = ground.objective(vnodes)
        if not found:
            return _Answer(request, f"{task.why}, but no virtual nodes: {_room(ground)}")
        width = best_width(objectives)
        others = tuple(tried for count, tried in found.items() if count != width)
        told = f"{task.why}: {_said(found[width].vnodes, host, request)}"
        return _Answer(found[width], "; ".join(filter(None, (told, faster_but(objectives, width)))), others)

    def _lists(self, host: Snapshot, request: GuestRequest, task: Task, base: Placement) -> _Answer:
        """A soft affinity for each vCPU, where that is no worse."""
        told = f"no virtual nodes: {task.why}"
        if request.soft_affinity is not None:
            return _Answer(request, told)
        ground = Ground.of(host, request, self.intent, self.load)
        nodes = base.nodes
        if task.count:
            wanted = topology_of(ground, task.count)
            nodes = tuple(sorted({v.pnode for v in wanted if v.pnode is not None})) if wanted else nodes
        vnodes = most_even(ground, [ground.node_ids.index(node) for node in nodes]) if len(nodes) > 1 else None
        if vnodes is None:
            return _Answer(request, told)
        pool = ground.subject.pool_cpus
        sets = [frozenset[int]()] * request.max_vcpus
        for vnode, node in zip(vnodes, nodes, strict=True):
            for vcpu in vnode.vcpus:
                sets[vcpu] = host.topology.cpus_of([node]) & pool
        hard = request.hard_affinity
        if hard and not all(soft & may for soft, may in zip(sets, hard, strict=True)):
            return _Answer(request, f"{told}; its hard affinity leaves no division of its vCPUs over nodes")
        listed = replace(request, soft_affinity=tuple(sets))
        better = self._alone(host, listed).objective
        usual = self._alone(host, request).objective
        if not task.count and better > usual + NO_WORSE:
            return _Answer(request, f"{told}; a soft affinity for each vCPU would cost {better - usual:.3f} more")
        halves = ", ".join(
            f"vCPUs {format_ids(vnode.vcpus)} to node {node}" for vnode, node in zip(vnodes, nodes, strict=True)
        )
        return _Answer(listed, f"{told}; instead a soft affinity for each vCPU: {halves}")


def _best(others: Sequence[Alternative]) -> tuple[Alternative, ...]:
    """Those that are shown, best first."""
    return tuple(sorted(others, key=lambda other: (round(other.objective, 9), len(other.nodes), other.nodes))[:SHOWN])


def _said(vnodes: Sequence[Vnode], host: Snapshot, request: GuestRequest) -> str:
    """What a person should know of a topology."""
    parts = [f"{described(vnodes)}; libxl neither saves nor migrates it"]
    node_of = {device.address: device.node for device in host.topology.devices}
    for address in request.devices:
        node = node_of.get(address.lower())
        near = [number for number, vnode in enumerate(vnodes) if vnode.pnode == node]
        if node is None:
            continue
        where = f"virtual node {format_ids(near)}" if near else "no virtual node"
        parts.append(f"device {address} is on node {node}, {where}; Xen's guest tables (no _PXM) cannot say so")
    return "; ".join(parts)


def _room(ground: Ground) -> str:
    """Why no topology can be had, in figures."""
    figures = ", ".join(
        f"node {node}: {int(mib)} MiB, {int(pcpus)} pCPUs"
        for node, mib, pcpus, may in zip(
            ground.node_ids, ground.available_mib, ground.pcpus, ground.eligible, strict=True
        )
        if may
    )
    return f"its {ground.request.need_mib} MiB and {ground.request.max_vcpus} vCPUs do not divide over {figures}"


def _told(
    plan: PlacementPlan,
    requests: Sequence[GuestRequest],
    told: Sequence[str],
    others: Sequence[NextBest] = (),
) -> PlacementPlan:
    """The plan with the virtual nodes in its placements, why, and what else was weighed."""
    placements = tuple(
        replace(
            placement,
            vnodes=request.vnodes,
            explanation=_more(placement.explanation, why, also),
        )
        for placement, request, why, also in zip(
            plan.placements, requests, told, others or [lambda: None] * len(told), strict=True
        )
    )
    return replace(plan, placements=placements)


def _more(explanation: Explanation, why: str, also: NextBest) -> Explanation:
    found = explanation.and_then(Term(VNODES_TERM, 0.0, why)) if why else explanation
    return found.instead_of(also)
