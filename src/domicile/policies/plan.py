"""A plan: what should be where, and why. Plans are data; nothing here acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from domicile.state.model import Vnode

__all__ = ["VNODES_TERM", "Alternative", "Explanation", "Placement", "PlacementPlan", "Term"]

VNODES_TERM = "virtual nodes"
"""The name of the term that tells of a guest's virtual nodes: it costs nothing, its reason says why they are as they
are, or why there are none where there should be some."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term of the objective: `cost` is what it adds to the predicted slowdown (0.0 = nothing).

    `name` is the term's kind ("memory latency", "CPU load", "memory bandwidth", "free memory", "devices", "groups",
    "neighbours"), `reason` a line for a person, with figures and units. `penalty` is what it adds to the objective
    beyond the domain's own slowdown: what other domains lose together, or a wish of the administrator that is not
    met. `figures` are the numbers in the line, with units in their names (`latency_ns`, `remote_share`, `pcpus`, ...).
    """

    name: str
    cost: float
    reason: str
    penalty: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another set of nodes that was considered. `objective` is as in `Placement`: the chosen set's is no larger, unless
    this one has a wider virtual topology that gains too little (`vnuma.widths`)."""

    nodes: tuple[int, ...]
    predicted_slowdown: float
    terms: tuple[Term, ...]
    objective: float = 0.0


class Explanation:
    """Why a domain goes where it does: the terms of the objective there, and the next best sets of nodes.

    Worked out when it is first asked for, from what does not change, and then remembered: of most plans nobody asks,
    and it takes as long as finding the place. Until then it keeps the search's arrays and the snapshot alive.
    """

    __slots__ = ("_found", "_work_out")

    def __init__(self, work_out: Callable[[], tuple[Sequence[Term], Sequence[Alternative]]]) -> None:
        self._work_out: Callable[[], tuple[Sequence[Term], Sequence[Alternative]]] | None = work_out
        self._found: tuple[tuple[Term, ...], tuple[Alternative, ...]] = ((), ())

    @classmethod
    def of(cls, terms: Sequence[Term] = (), alternatives: Sequence[Alternative] = ()) -> Explanation:
        """What is known already."""
        return cls(lambda: (terms, alternatives))

    def _both(self) -> tuple[tuple[Term, ...], tuple[Alternative, ...]]:
        work_out = self._work_out
        if work_out is not None:
            terms, alternatives = work_out()
            self._found = tuple(terms), tuple(alternatives)
            self._work_out = None
        return self._found

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of the chosen nodes."""
        return self._both()[0]

    @property
    def alternatives(self) -> tuple[Alternative, ...]:
        """The next best sets, best first."""
        return self._both()[1]

    def and_then(self, term: Term) -> Explanation:
        """With one more term, after the others."""
        return Explanation(lambda: ((*self.terms, term), self.alternatives))

    def instead_of(self, alternatives: Callable[[], Sequence[Alternative] | None]) -> Explanation:
        """With other sets beside the chosen one, worked out likewise; None leaves those that there are."""

        def both() -> tuple[Sequence[Term], Sequence[Alternative]]:
            others = alternatives()
            return self.terms, self.alternatives if others is None else others

        return Explanation(both)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Explanation) and self._both() == other._both()

    def __hash__(self) -> int:
        return hash(self._both())

    def __repr__(self) -> str:
        return f"Explanation.of{self._both()!r}"

    def __reduce__(self) -> tuple[object, ...]:
        return Explanation.of, self._both()


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one domain is to live.

    `soft_affinity` has one set of pCPUs for each vCPU (all of `max_vcpus`); None leaves scheduling as Xen does it.
    `memory_mib` says how much is expected on each node. `predicted_slowdown` is 1.0 for a domain alone on its best
    node (with a core to each vCPU). `reserve_mib` is `memory_mib` with the overhead: what must be free there while it
    starts. `objective` is what this placement adds to the sum of all domains' slowdowns, with wishes not met: the costs
    and penalties of the terms. `vnodes` is the guest's virtual topology, each virtual node on a pnode, if it has one.
    `hard`: the affinity is to be hard affinity as well.
    """

    domain: str
    nodes: tuple[int, ...]
    soft_affinity: tuple[frozenset[int], ...] | None
    memory_mib: Mapping[int, int]
    reserve_mib: Mapping[int, int]
    predicted_slowdown: float
    objective: float = 0.0
    explanation: Explanation = field(default_factory=Explanation.of)
    vnodes: tuple[Vnode, ...] = ()
    hard: bool = False

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of the objective."""
        return self.explanation.terms

    @property
    def alternatives(self) -> tuple[Alternative, ...]:
        """The next best sets of nodes."""
        return self.explanation.alternatives

    @property
    def reasons(self) -> tuple[str, ...]:
        """The terms' lines for a person."""
        return tuple(term.reason for term in self.terms)


@dataclass(frozen=True, slots=True)
class PlacementPlan:
    """Placements, in the order of the requests, by the policy of this name.

    `mean_slowdown` is the prediction over all domains of the host, newcomers and residents, once all are there;
    `proven` says that no assignment is better by the model. Where HiGHS was asked: `gap` says by how much another could
    be better at most, as a share of the sum of all slowdowns, and `deviation` how much more this objective is than
    HiGHS' piecewise-linear one for the assignment that it found.
    """

    placements: tuple[Placement, ...]
    policy: str
    mean_slowdown: float = 1.0
    proven: bool = False
    gap: float | None = None
    deviation: float | None = None
