"""vCPUs that the scheduler keeps off their nodes, and which of them to hold there.

Xen's credit2 balances run queues without a look at soft affinity, and moves busy vCPUs away from where they are at home
although there is room. A hard affinity holds them; it is given as long as the domains that are at home on a node find
room there together, and taken back as soon as they do not, so that nobody waits on a full node while others idle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from domicile.policies.scheduling.homes import Movable
from domicile.policies.scheduling.plan import Holding, LettingGo, SoftChange
from domicile.policies.scheduling.watch import Watch
from domicile.state.model import Snapshot
from domicile.topology.ids import format_ids

__all__ = ["Held", "Limits", "hold"]


@dataclass(frozen=True, slots=True)
class Held:
    """A hold that there is: the hard affinity that it gave, and what the vCPU had before."""

    domain: str
    cpus: frozenset[int]
    before: frozenset[int]


@dataclass(frozen=True, slots=True)
class Limits:
    """`stray`: share of its time off its nodes from which on a vCPU is brought home. `idle`: a domain that uses less
    CPU time than this is let go. `full`: so much of its pCPUs may those that are at home on a node want together.
    """

    stray: float = 0.05
    idle: float = 0.02
    full: float = 1.02


def hold(
    snapshot: Snapshot,
    candidates: Iterable[Movable],
    watch: Watch,
    held: Mapping[tuple[str, int], Held],
    changes: Iterable[SoftChange],
    limits: Limits,
) -> tuple[list[LettingGo], list[Holding]]:
    """What is let go and what is held from now on; `changes` of soft affinity are taken as done."""
    new_homes = {change.uuid: change.cpus for change in changes}
    ground = _Ground(snapshot)
    homed = [_Homed.of(ground, each, watch, new_homes.get(each.domain.uuid), held, limits.stray) for each in candidates]
    found, going = list[Holding](), list[LettingGo]()
    wanted: dict[int, float] = {}
    # who is held comes first, so that two domains do not take turns; then who has most to lose
    for each in sorted(homed, key=lambda one: (not one.held, -one.demand, one.movable.domain.name)):
        if not each.bound:
            going += each.let_go(held, "it may run anywhere")
            continue
        after = {node: wanted.get(node, 0.0) + demand for node, demand in each.demand_by_node.items()}
        full = [node for node in after if after[node] > limits.full * each.pcpus_by_node[node]]
        if full:
            going += each.let_go(
                held, f"node {full[0]} is full: {after[full[0]]:.1f} vCPUs' worth of work is at home there"
            )
            continue
        wanted |= after
        if each.demand < limits.idle:
            going += each.let_go(held, "it is idle")
        elif each.held or each.strays:
            found += each.hold(held)
    known = {each.movable.domain.uuid for each in homed}
    going += [
        LettingGo(was.domain, uuid, vcpu, "it is not there any more, or left to others")
        for (uuid, vcpu), was in held.items()
        if uuid not in known
    ]
    return going, found


class _Ground:
    """The nodes of sets of CPUs: what many vCPUs share is worked out once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._node_of = {cpu.id: cpu.node for cpu in snapshot.topology.cpus}
        self._cpus_by_node = snapshot.topology.cpus_by_node
        self._shares: dict[frozenset[int], dict[int, float]] = {}
        self._pcpus: dict[frozenset[int], dict[int, int]] = {}

    def shares(self, cpus: frozenset[int]) -> Mapping[int, float]:
        """Node to the share of these CPUs there."""
        if cpus not in self._shares:
            counts = Counter(node for cpu in cpus if (node := self._node_of.get(cpu)) is not None)
            self._shares[cpus] = {node: count / len(cpus) for node, count in counts.items()}
        return self._shares[cpus]

    def pcpus(self, pool: frozenset[int]) -> Mapping[int, int]:
        """Node to the pCPUs that a pool has there."""
        if pool not in self._pcpus:
            self._pcpus[pool] = {node: len(pool.intersection(cpus)) for node, cpus in self._cpus_by_node.items()}
        return self._pcpus[pool]


@dataclass(frozen=True)
class _Homed:
    """A domain with the CPUs that each vCPU is at home on, and what it asks of each node if it runs there."""

    movable: Movable
    homes: Mapping[int, frozenset[int]]
    away: Mapping[int, float]
    demand: float
    demand_by_node: Mapping[int, float]
    pcpus_by_node: Mapping[int, int]
    bound: bool
    held: bool
    strays: bool

    @classmethod
    def of(
        cls,
        ground: _Ground,
        each: Movable,
        watch: Watch,
        new_home: frozenset[int] | None,
        held: Mapping[tuple[str, int], Held],
        stray: float,
    ) -> _Homed:
        domain, pool = each.domain, each.pool_cpus
        homes = {vcpu.id: ((new_home or vcpu.soft_affinity) & pool) or pool for vcpu in domain.vcpus if vcpu.online}
        away = {vcpu: watch.away(domain.uuid, vcpu, frozenset(ground.shares(cpus))) for vcpu, cpus in homes.items()}
        demand = watch.demand.get(domain.uuid, 0.0)
        by_node: dict[int, float] = {}
        for cpus, count in Counter(homes.values()).items():
            for node, share in ground.shares(cpus).items():
                by_node[node] = by_node.get(node, 0.0) + demand * share * count / len(homes)
        return cls(
            movable=each,
            homes=homes,
            away=away,
            demand=demand,
            demand_by_node=by_node,
            pcpus_by_node=ground.pcpus(pool),
            bound=any(cpus < pool for cpus in homes.values()),
            held=any((domain.uuid, vcpu) in held for vcpu in homes),
            strays=any(share > stray for share in away.values()),
        )

    def hold(self, held: Mapping[tuple[str, int], Held]) -> list[Holding]:
        """All its vCPUs on their homes: of two on a node, one alone would only make the other the one that moves."""
        domain = self.movable.domain
        found = []
        for vcpu in domain.vcpus:
            home = self.homes.get(vcpu.id)
            if home is None or home >= self.movable.pool_cpus:
                continue
            was = held.get((domain.uuid, vcpu.id))
            if was is None or was.cpus != home:
                away = self.away[vcpu.id]
                found.append(
                    Holding(
                        domain=domain.name,
                        uuid=domain.uuid,
                        vcpu=vcpu.id,
                        cpus=home,
                        before=was.before if was else vcpu.hard_affinity,
                        away=away,
                        reason=f"{away:.0%} of its time off CPUs {format_ids(home)}, which have room",
                    )
                )
        return found

    def let_go(self, held: Mapping[tuple[str, int], Held], reason: str) -> list[LettingGo]:
        domain = self.movable.domain
        return [
            LettingGo(domain.name, domain.uuid, vcpu.id, reason)
            for vcpu in domain.vcpus
            if (domain.uuid, vcpu.id) in held
        ]
