"""Rounds of rebalancing on a host that does as it is told: a small model, without clock or chance.

What a plan begins takes as long as it says: what has to be free beside a domain is taken when it begins, and what the
domain had is given back when it ends. That memory is never overcommitted is asserted at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from domicile.policies.migration.records import Option, Way
from domicile.policies.rebalancing.decide import rebalance
from domicile.policies.rebalancing.records import History, Move, RebalancePlan, Rules
from domicile.policies.scheduling.follow import follow
from domicile.policies.scheduling.watch import Watch
from domicile.state.model import PAGES_PER_MIB, Domain, Reservation, Snapshot

__all__ = ["Stepped"]

Load = Callable[[float], Mapping[str, float]]
"""Seconds since the beginning to demand in vCPUs, by domain name; who is not named uses all of its vCPUs."""


@dataclass
class Stepped:
    """A host between rounds. `every_s`: from one round to the next; `half_life_s`: of the load that is seen.

    `made`: all moves, with the round they were begun in; `schedules`: whether soft affinity follows memory meanwhile.
    """

    snapshot: Snapshot
    load: Load = field(default=lambda _: {})
    rules: Rules = field(default_factory=Rules)
    every_s: float = 5.0
    half_life_s: float = 10.0
    schedules: bool = False
    history: History = field(default_factory=History)
    demand: dict[str, float] = field(default_factory=dict)
    made: list[tuple[int, Move]] = field(default_factory=list)
    plans: list[RebalancePlan] = field(default_factory=list)
    running: list[tuple[float, Move, Move | None]] = field(default_factory=list)
    rounds: int = 0
    began_s: float = 0.0

    def __post_init__(self) -> None:
        self.began_s = self.snapshot.taken_at

    @property
    def moved(self) -> list[str]:
        """Who was moved, in order."""
        return [move.domain for _, move in self.made]

    def where(self, name: str) -> dict[int, int]:
        """A domain's memory by node."""
        found = self.snapshot.domain(name)
        assert found is not None
        return found.memory_by_node_mib or {}

    def run(self, rounds: int) -> Stepped:
        """So many rounds."""
        for _ in range(rounds):
            self._round()
        return self

    def _round(self) -> None:
        now_s = self.began_s + self.rounds * self.every_s
        self._end_what_is_done(now_s)
        self.snapshot = replace(self.snapshot, taken_at=now_s)
        self._see(now_s)
        watch = Watch(dict(self.demand), {}, self.snapshot, seen_s=600.0)
        if self.schedules:
            for change in follow(self.snapshot, watch, {}).soft:
                self._give_soft(change.uuid, change.cpus)
        plan = rebalance(self.snapshot, watch, self.history, self.rules)
        self.plans.append(plan)
        self.history = plan.history
        for move in plan.moves:
            self._begin(move, now_s)
        for swap in plan.swaps:
            self.made.append((self.rounds, swap.second))
            self.history = self.history.began(swap.second, now_s)
            self._begin(swap.first, now_s, swap.second)
        self.rounds += 1

    def _see(self, now_s: float) -> None:
        load = self.load(now_s - self.began_s)
        kept = 0.5 ** (self.every_s / self.half_life_s)
        for each in self.snapshot.domains:
            wants = min(load.get(each.name, float(len(each.vcpus))), float(len(each.vcpus)))
            self.demand[each.uuid] = kept * self.demand.get(each.uuid, wants) + (1.0 - kept) * wants

    def _begin(self, move: Move, now_s: float, then: Move | None = None) -> None:
        cost = move.option.cost
        assert cost is not None
        assert not move.option.refused
        self._check(self._domain(move.uuid), move.option)
        if then is not None or not any(kept.uuid == move.uuid for kept in self.history.under_way):
            self.history = self.history.began(move, now_s)
            self.made.append((self.rounds, move))
        for node, mib in cost.twice_mib.items():
            assert mib <= self.snapshot.available_mib(node), f"node {node} is overcommitted by {move}"
        promise = Reservation(move.uuid, move.domain + "--incoming", cost.twice_mib, 0, "test", now_s)
        self.snapshot = replace(self.snapshot, reservations=(*self.snapshot.reservations, promise))
        self.running.append((now_s + cost.time_s, move, then))

    def _end_what_is_done(self, now_s: float) -> None:
        for each in [one for one in self.running if one[0] <= now_s]:
            end_s, move, then = each
            self.running.remove(each)
            kept = tuple(one for one in self.snapshot.reservations if one.token != move.uuid)
            self.snapshot = _moved(replace(self.snapshot, reservations=kept), self._domain(move.uuid), move.option)
            self.history = self.history.ended(move.uuid, end_s)
            if then is not None:
                self._begin(then, now_s)

    def _check(self, domain: Domain, option: Option) -> None:
        """Nothing is decided against the administrator."""
        assert domain.id != 0
        assert domain.pages_by_node
        assert sum(option.memory_mib.values()) == domain.memory_mib
        pool = next((pool.cpus for pool in self.snapshot.cpupools if pool.name == domain.cpupool), None)
        cpus = self.snapshot.topology.cpus_of(option.nodes)
        for vcpu in domain.vcpus:
            assert vcpu.hard_affinity & cpus & (cpus if pool is None else pool)

    def _domain(self, uuid: str) -> Domain:
        return next(each for each in self.snapshot.domains if each.uuid == uuid)

    def _give_soft(self, uuid: str, cpus: frozenset[int]) -> None:
        def changed(each: Domain) -> Domain:
            if each.uuid != uuid:
                return each
            return replace(each, vcpus=tuple(replace(vcpu, soft_affinity=cpus) for vcpu in each.vcpus))

        self.snapshot = replace(self.snapshot, domains=tuple(map(changed, self.snapshot.domains)))


def _moved(snapshot: Snapshot, domain: Domain, option: Option) -> Snapshot:
    """Memory as the option says, and what is free by the difference."""
    assert option.way is not Way.VCPUS
    free = {node.id: node.free_mib or 0 for node in snapshot.topology.nodes}
    for node, mib in (domain.memory_by_node_mib or {}).items():
        free[node] += mib
    for node, mib in option.memory_mib.items():
        free[node] -= mib
    assert all(mib >= 0 for mib in free.values()), "memory is overcommitted"
    nodes = tuple(replace(node, free_mib=free[node.id]) for node in snapshot.topology.nodes)
    cpus = snapshot.topology.cpus_of(option.nodes)
    moved = replace(
        domain,
        pages_by_node={node: mib * PAGES_PER_MIB for node, mib in option.memory_mib.items()},
        node_affinity=frozenset(option.nodes),
        vcpus=tuple(replace(vcpu, soft_affinity=cpus) for vcpu in domain.vcpus),
    )
    domains = tuple(moved if each.uuid == domain.uuid else each for each in snapshot.domains)
    return replace(snapshot, topology=replace(snapshot.topology, nodes=nodes), domains=domains)
