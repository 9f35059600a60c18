"""What all baselines share: guests are decided on one by one, in the order of the requests, each where the rule of the
baseline says, and the limits of the host are those that domicile's own policy keeps.

So none of them is given memory that is promised to somebody, a node without CPUs, one outside of the guest's hard
affinity or cpupool, or one that a required device forbids, even where the original knows nothing of these; what the
configuration itself sets stays. A guest is refused only if no set of nodes has room for it. The prediction is
domicile's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from domicile.errors import BadInput
from domicile.performance.curves import Floats
from domicile.policies.placement import problem_of, shortage
from domicile.policies.placement.explain import terms
from domicile.policies.placement.layout import Layout, Seat
from domicile.policies.placement.memory import in_proportion
from domicile.policies.placement.seat_costs import seat_costs
from domicile.policies.placement.subject import Subject
from domicile.policies.plan import Explanation, Placement, PlacementPlan, Term
from domicile.policies.registry import Policy
from domicile.policies.whatif import with_guest
from domicile.state.model import Snapshot
from domicile.state.request import GuestRequest, Intent

__all__ = ["Pick", "Rule", "Turn", "in_turn", "with_prediction"]


@dataclass(frozen=True, slots=True)
class Pick:
    """Node indices that a rule picks, why, and whether the guest is to be kept there by hard affinity too."""

    nodes: tuple[int, ...]
    reason: str
    hard: bool = False


@dataclass(frozen=True, eq=False)
class Turn:
    """A guest whose turn has come (its index), on the host as those before it left it, as a snapshot and as arrays."""

    snapshot: Snapshot
    layout: Layout
    guest: int

    @property
    def subject(self) -> Subject:
        """The guest, with what it may use."""
        return self.layout.problem.subjects[self.guest]

    @property
    def request(self) -> GuestRequest:
        """What it asks for."""
        return self.subject.request

    @property
    def eligible(self) -> tuple[int, ...]:
        """Indices of the nodes it may use, ascending."""
        return tuple(int(node) for node in self.subject.eligible)

    @property
    def free_mib(self) -> tuple[int, ...]:
        """Memory on each node that nobody has or is promised."""
        return self.layout.free_mib

    @property
    def ids(self) -> tuple[int, ...]:
        """Node ids by index."""
        return self.layout.problem.machine.topology.node_ids

    @property
    def pcpus(self) -> Floats:
        """pCPUs of its cpupool on each node."""
        return np.asarray(self.layout.problem.machine.pcpus[self.subject.newcomer.pool], dtype=np.float64)

    @property
    def cores(self) -> Floats:
        """Cores of its cpupool on each node."""
        return np.asarray(self.layout.problem.machine.cores[self.subject.newcomer.pool], dtype=np.float64)

    @cached_property
    def vcpus(self) -> Floats:
        """vCPUs of guests on each node, a guest's spread over its nodes; Dom0's are not among them."""
        problem = self.layout.problem
        counts = {
            domain.name: sum(vcpu.online for vcpu in domain.vcpus) for domain in self.snapshot.domains if domain.id
        }
        for reservation in self.snapshot.reservations:
            counts.setdefault(reservation.domain, reservation.vcpus)
        total = np.zeros(problem.machine.nodes)
        for name, share in problem.resident_shares.items():
            total += counts.get(name, 0) * share
        for subject, seat in zip(problem.subjects, self.layout.seats, strict=True):
            if seat is not None:
                total += subject.request.vcpus * seat.vcpu_share
        # what adding up shares in another order changes must not decide between equal nodes
        return np.asarray(np.round(total, 6), dtype=np.float64)

    def fits(self, nodes: Sequence[int]) -> bool:
        """Whether these nodes have the memory, and a CPU for each vCPU."""
        return self.layout.seat_for(self.guest, nodes) is not None


Rule = Callable[[Turn], Pick | None]
"""Where a guest goes, by its turn: a set of nodes that fits, None only if none does."""


def in_turn(name: str, rule: Rule) -> Policy:
    """The policy of this name: guests one after the other, each where the rule says.

    It raises `BadInput` and `Refused` as domicile's own policy does, and `BadInput` for `exact`.
    """

    def place(
        snapshot: Snapshot,
        requests: Sequence[GuestRequest],
        intent: Intent = Intent(),  # noqa: B008 - immutable
        *,
        exact: bool = False,
        load: Mapping[str, float] | None = None,
    ) -> PlacementPlan:
        if exact:
            raise BadInput("--exact", f"there is nothing to prove about policy {name!r}; leave it out")
        problem = problem_of(snapshot, requests, intent, load=load)
        layout, later = Layout.empty(problem), snapshot
        picks: list[Pick] = []
        for guest, subject in enumerate(problem.subjects):
            pick = _pick(Turn(later, layout, guest), rule)
            seat = layout.seat_for(guest, pick.nodes) if pick else None
            if pick is None or seat is None:
                raise shortage(snapshot, problem, guest)
            picks.append(pick)
            layout = layout.seated(guest, seat)
            placement = _placement(layout, guest, seat, pick)
            later = with_guest(later, subject.request, placement, frozenset(placement.nodes))
        return PlacementPlan(
            placements=tuple(
                _explained(snapshot, layout, guest, seat, pick, name)
                for guest, (seat, pick) in enumerate(zip(layout.seats, picks, strict=True))
                if seat is not None
            ),
            policy=name,
            mean_slowdown=layout.mean_slowdown,
        )

    return place


def _pick(turn: Turn, rule: Rule) -> Pick | None:
    fixed = turn.subject.fixed
    if fixed:
        return Pick(tuple(int(node) for node in fixed.nodes), "places nothing, the configuration sets its place")
    return rule(turn) if turn.eligible else None


def _placement(layout: Layout, guest: int, seat: Seat, pick: Pick) -> Placement:
    subject, machine = layout.problem.subjects[guest], layout.problem.machine
    ids = machine.topology.node_ids
    if subject.fixed and subject.fixed.memory_mib:
        memory: Sequence[int] = subject.fixed.memory_mib
    else:
        memory = in_proportion(subject.request.memory_mib, seat.reserve_mib)
    return Placement(
        domain=subject.request.name,
        nodes=tuple(ids[node] for node in seat.nodes),
        soft_affinity=subject.soft_affinity(machine, seat.nodes),
        memory_mib={ids[node]: mib for node, mib in enumerate(memory) if mib},
        reserve_mib={ids[node]: mib for node, mib in enumerate(seat.reserve_mib) if mib},
        predicted_slowdown=1.0,
        hard=pick.hard,
    )


def _explained(snapshot: Snapshot, layout: Layout, guest: int, seat: Seat, pick: Pick, policy: str) -> Placement:
    return with_prediction(
        snapshot, layout, guest, _placement(layout, guest, seat, pick), Term(policy, 0.0, f"{policy}: {pick.reason}")
    )


def with_prediction(snapshot: Snapshot, layout: Layout, guest: int, placement: Placement, first: Term) -> Placement:
    """The placement of a guest that has a seat in this layout, with domicile's prediction, and this term before its
    others."""
    seat = layout.seats[guest]
    if seat is None:
        raise AssertionError("every guest has a seat")
    rest = layout.without(guest)
    (costs,) = seat_costs(rest, guest, [seat])
    return replace(
        placement,
        predicted_slowdown=costs.slowdown,
        objective=costs.objective,
        explanation=Explanation(lambda: ((first, *terms(snapshot, rest, guest, seat, costs)), ())),
    )
