"""vCPUs that the scheduler keeps off their nodes, and which of them to hold there.

Xen's credit2 balances run queues without a look at soft affinity, and moves busy vCPUs away from where they are at home
although there is room. A hard affinity holds them; it is given as long as the domains that are at home on a node find
room there together (`room`), and taken back as soon as they do not, so that nobody waits on a full node while others
idle: from as many vCPUs as are too many. With one that is held all at home on its node are, those too that have not
strayed yet: the balancer would only take one of them instead.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from domicile.policies.scheduling.anew import looking_anew
from domicile.policies.scheduling.cells import Guest, share_out
from domicile.policies.scheduling.homes import Movable
from domicile.policies.scheduling.plan import Holding, LettingGo, SoftChange
from domicile.policies.scheduling.room import Room
from domicile.policies.scheduling.watch import Watch
from domicile.state.model import Snapshot
from domicile.topology.ids import format_ids
from domicile.topology.model import by_core

__all__ = ["Held", "Limits", "hold"]

LEAST = 0.1
"""vCPUs' worth of work below which domains are all equally small."""

NOWHERE_ELSE = Room()
"""Of the only node that has CPUs."""


_Wanted = tuple[tuple[int, frozenset[int]], ...]
"""vCPUs, and the CPUs that each wants to be on."""


@dataclass(frozen=True, slots=True)
class Held:
    """A hold that there is: the hard affinity that it gave, what the vCPU had before, and when it was given last (by
    the host's clock)."""

    domain: str
    cpus: frozenset[int]
    before: frozenset[int]
    given_s: float = -math.inf


@dataclass(frozen=True, slots=True)
class Limits:
    """`stray`: share of its time off its nodes from which on a vCPU is brought home. `full`: so much of its pCPUs may
    those that are at home on a node want together, as long as the other nodes have room. `anew_s`: a held vCPU looks
    for a pCPU anew (`anew`) no more often than that.
    """

    stray: float = 0.05
    full: float = 1.02
    anew_s: float = 60.0


def hold(
    snapshot: Snapshot,
    candidates: Iterable[Movable],
    watch: Watch,
    held: Mapping[tuple[str, int], Held],
    changes: Iterable[SoftChange],
    limits: Limits,
    room: Mapping[int, Room],
    cells: Iterable[frozenset[int]],
) -> tuple[list[LettingGo], list[Holding]]:
    """What is let go and what is held from now on; `changes` of soft affinity are taken as done. `room`: by node."""
    new_homes = {change.uuid: change.cpus for change in changes}
    ground = _Ground(snapshot)
    homed = [_Homed.of(ground, each, watch, new_homes.get(each.domain.uuid), held) for each in candidates]
    unquiet = set[int]()
    for each in homed:
        if each.bound and not unquiet.issuperset(each.vcpus_by_node) and (each.held or each.strays(limits.stray)):
            unquiet.update(each.vcpus_by_node)
    staying, going = list[_Homed](), list[LettingGo]()
    wanted, there = dict[int, float](), dict[int, float]()
    hides = not watch.waiting
    for whole in sorted(homed, key=_turn):
        if not whole.bound:
            going += whole.let_go(held, "it may run anywhere")
            continue
        after, count = _more(wanted, whole.demand_by_node), _more(there, whole.vcpus_by_node)
        most = {
            node: whole.pcpus_by_node[node]
            * room.get(node, NOWHERE_ELSE).share(
                limits.full, may_hide=hides and count[node] > whole.pcpus_by_node[node] + 1e-9, held=whole.held
            )
            for node in after
        }
        each = whole
        if full := [node for node in whole.pcpus_by_node if node in after and after[node] > most[node]]:
            node = full[0]
            some = whole.fitting(held, most[node] - wanted.get(node, 0.0))
            going += whole.let_go(
                held, f"node {node} is full: {after[node]:.1f} vCPUs' worth of work is at home there", some
            )
            if not some:
                continue
            each = replace(whole, some=some)
        wanted |= _more(wanted, each.demand_by_node)
        there |= _more(there, each.vcpus_by_node)
        if each.held or not unquiet.isdisjoint(each.vcpus_by_node):
            staying.append(each)
    cores = by_core(snapshot.topology.cpus)
    places = share_out({key: guest for each in staying for key, guest in each.guests(held).items()}, cells, cores)
    rested = {key for key, was in held.items() if snapshot.taken_at - was.given_s >= limits.anew_s}
    anew = looking_anew(snapshot, watch, cells, cores, rested)
    found = [holding for each in staying for holding in each.hold(held, places, limits.stray, anew)]
    known = {each.movable.domain.uuid for each in homed}
    going += [
        LettingGo(was.domain, uuid, vcpu, "it is not there any more, or left to others")
        for (uuid, vcpu), was in held.items()
        if uuid not in known
    ]
    return going, found


def _turn(one: _Homed) -> tuple[int, bool, str]:
    """Who finds room first: the smallest, by powers of two of what they want. To let go a pCPU's worth of a wide domain
    slows down a part of it, of small ones several as a whole. Of like size it is who is held, so that two domains do
    not take turns."""
    return round(math.log2(max(one.demand, LEAST))), not one.held, one.movable.domain.name


def _more(before: Mapping[int, float], each: Mapping[int, float]) -> dict[int, float]:
    """By node of `each`: with what there was before."""
    return {node: before.get(node, 0.0) + value for node, value in each.items()}


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the vCPUs of a domain are at home, and the nodes of that: `bound` where some may not run everywhere."""

    homes: Mapping[int, frozenset[int]]
    home_nodes: Mapping[int, Collection[int]]
    vcpus_by_node: Mapping[int, float]
    bound: bool


class _Ground:
    """The nodes of sets of CPUs: what many vCPUs and domains share is worked out once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._node_of = {cpu.id: cpu.node for cpu in snapshot.topology.cpus}
        self._cpus_by_node = snapshot.topology.cpus_by_node
        self._shares: dict[frozenset[int], dict[int, float]] = {}
        self._pcpus: dict[frozenset[int], dict[int, int]] = {}
        self._layouts: dict[tuple[_Wanted, frozenset[int]], _Layout] = {}

    def layout(self, wanted: _Wanted, pool: frozenset[int]) -> _Layout:
        """Homes of vCPUs that want to be on these CPUs: those of them in the pool, all of it where none is."""
        found = self._layouts.get((wanted, pool))
        if found is None:
            homes = {vcpu: (cpus & pool) or pool for vcpu, cpus in wanted}
            by_node: dict[int, float] = {}
            for cpus, count in Counter(homes.values()).items():
                for node, share in self.shares(cpus).items():
                    by_node[node] = by_node.get(node, 0.0) + share * count
            found = self._layouts[wanted, pool] = _Layout(
                homes=homes,
                home_nodes={vcpu: self.shares(cpus) for vcpu, cpus in homes.items()},
                vcpus_by_node=by_node,
                bound=any(cpus < pool for cpus in homes.values()),
            )
        return found

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
    """A domain with the CPUs that each vCPU is at home on, and what it asks of each node if it runs there. `some`: the
    vCPUs that there is room for, where it is not for all; then all are at home on one node."""

    movable: Movable
    layout: _Layout
    watch: Watch
    demand: float
    pcpus_by_node: Mapping[int, int]
    held: bool
    some: frozenset[int] | None = None

    @property
    def homes(self) -> Mapping[int, frozenset[int]]:
        """By vCPU, of those that are online."""
        return self.layout.homes

    @property
    def vcpus_by_node(self) -> Mapping[int, float]:
        """How many of them are at home on each node, and find room."""
        if self.some is None:
            return self.layout.vcpus_by_node
        return {node: float(len(self.some)) for node in self.layout.vcpus_by_node}

    @property
    def bound(self) -> bool:
        """Whether some of them may not run everywhere."""
        return self.layout.bound

    @property
    def demand_by_node(self) -> dict[int, float]:
        """What it asks of each node."""
        return {node: self.demand * count / len(self.homes) for node, count in self.vcpus_by_node.items()}

    def away(self, vcpu: int) -> float:
        """The share of its time that a vCPU ran off its home's nodes."""
        return self.watch.away(self.movable.domain.uuid, vcpu, self.layout.home_nodes[vcpu])

    def strays(self, share: float) -> bool:
        """Whether some vCPU ran for more than this share of its time off its home's nodes."""
        return any(self.away(vcpu) > share for vcpu in self.homes)

    @classmethod
    def of(
        cls,
        ground: _Ground,
        each: Movable,
        watch: Watch,
        new_home: frozenset[int] | None,
        held: Mapping[tuple[str, int], Held],
    ) -> _Homed:
        domain, pool = each.domain, each.pool_cpus
        # of domains of one size with one soft affinity, all is the same
        wanted = tuple([(vcpu.id, new_home or vcpu.soft_affinity) for vcpu in domain.vcpus if vcpu.online])
        layout = ground.layout(wanted, pool)
        return cls(
            movable=each,
            layout=layout,
            watch=watch,
            demand=watch.demand.get(domain.uuid, 0.0),
            pcpus_by_node=ground.pcpus(pool),
            held=bool(held) and any((domain.uuid, vcpu) in held for vcpu in layout.homes),
        )

    def fitting(self, held: Mapping[tuple[str, int], Held], room: float) -> frozenset[int]:
        """The vCPUs that find room where so much work has some (in pCPUs' worth), those that are held before the
        others; none of a domain that is at home on several nodes, whose vCPUs ask something of each.

        One that was let go is held again where half of one more would find room, so that it is not held and let go all
        the time.
        """
        if len(self.vcpus_by_node) != 1 or room <= 0.0 or self.demand <= 0.0:
            return frozenset()
        uuid = self.movable.domain.uuid
        order = sorted(self.homes, key=lambda vcpu: ((uuid, vcpu) not in held, vcpu))
        fits = room * len(self.homes) / self.demand
        there = sum((uuid, vcpu) in held for vcpu in order)
        return frozenset(order[: there if 0 < there <= fits < there + 1.5 else int(fits)])

    def guests(self, held: Mapping[tuple[str, int], Held]) -> dict[tuple[str, int], Guest]:
        """All its vCPUs that are not at home everywhere, as far as there is room: of two on a node, one alone would
        only make the other the one that moves."""
        uuid, demand = self.movable.domain.uuid, self.demand / len(self.homes)
        found = {}
        for vcpu, home in self.homes.items():
            if len(home) < len(self.movable.pool_cpus) and (self.some is None or vcpu in self.some):
                was = held.get((uuid, vcpu))
                found[uuid, vcpu] = Guest(home, demand, was.cpus if was else None)
        return found

    def hold(
        self,
        held: Mapping[tuple[str, int], Held],
        places: Mapping[tuple[str, int], frozenset[int]],
        stray: float,
        anew: Mapping[tuple[str, int], str],
    ) -> list[Holding]:
        """Its vCPUs in their places, those that are not held there already, and once more those that are to look for a
        pCPU anew (with the reason)."""
        domain = self.movable.domain
        found = []
        for vcpu in domain.vcpus:
            home = places.get((domain.uuid, vcpu.id))
            if home is None:
                continue
            was = held.get((domain.uuid, vcpu.id))
            there = was is not None and was.cpus == home
            if there and (domain.uuid, vcpu.id) not in anew:
                continue
            away = self.away(vcpu.id)
            if there:
                reason = anew[domain.uuid, vcpu.id]
            elif self.strays(stray):
                reason = f"{away:.0%} of its time off CPUs {format_ids(home)}, which have room"
            else:
                reason = f"others that are at home on CPUs {format_ids(home)} are held there"
            before = was.before if was else vcpu.hard_affinity
            found.append(Holding(domain.name, domain.uuid, vcpu.id, home, before, away, reason))
        return found

    def let_go(self, held: Mapping[tuple[str, int], Held], reason: str, stay: Collection[int] = ()) -> list[LettingGo]:
        """Its holds ended, but those of the vCPUs that stay."""
        domain = self.movable.domain
        return [
            LettingGo(domain.name, domain.uuid, vcpu.id, reason)
            for vcpu in domain.vcpus
            if (domain.uuid, vcpu.id) in held and vcpu.id not in stay
        ]
