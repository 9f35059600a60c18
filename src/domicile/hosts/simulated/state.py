"""All that a simulated host is at one moment, as immutable records. Free memory is not kept but follows from the rest,
so that it cannot go wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from domicile.local.process import ProcessId
from domicile.state.model import PAGES_PER_MIB, Cpupool, Domain, Reservation
from domicile.state.moves import MoveState
from domicile.topology.model import Topology

__all__ = [
    "BUSY",
    "BalloonDriver",
    "Clock",
    "Held",
    "Machine",
    "Office",
    "Owner",
    "Promise",
    "Resident",
    "SimulatedState",
]

BUSY = "busy"
"""What a domain does of which nothing else is said: all vCPUs compute, as placement takes them to."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The connection that something belongs to, and the process that holds it open."""

    connection: str
    process: ProcessId


@dataclass(frozen=True, slots=True)
class BalloonDriver:
    """A guest's balloon driver: so much it gives or takes in a second, and the share of its memory that it cannot free.

    One that does not answer has a rate of 0.
    """

    rate_mib_s: float = 256.0
    keeps: float = 0.5


@dataclass(frozen=True, slots=True)
class Resident:
    """A domain on the host, with what `Domain` has no field for.

    `domain.pages_by_node` is always set, `pcpu` and `time_ns` of its vCPUs only once time has passed: until then their
    positions are worked out for a snapshot.
    `overhead_pages` are Xen's own for it (HAP or shadow pool), in no memory map. `affinity_follows` is Xen's
    `auto_node_affinity`: node-affinity is derived again when a vCPU's affinity changes. `owner` is the connection
    that it ends with, None once it was unpaused. `workload` is what it does (a name of `domicile.simulator.workloads`),
    and `busy_vcpus` how many of its vCPUs do it (None for all): the others idle. Dom0 does what a Dom0 does.
    `balloon` is what its balloon driver can do.
    """

    domain: Domain
    overhead_pages: Mapping[int, int] = field(default_factory=dict)
    affinity_follows: bool = True
    owner: Owner | None = None
    workload: str = BUSY
    busy_vcpus: int | None = None
    balloon: BalloonDriver = BalloonDriver()

    def pages_on(self, node: int) -> int:
        """All that it takes of a node."""
        return (self.domain.pages_by_node or {}).get(node, 0) + self.overhead_pages.get(node, 0)


@dataclass(frozen=True, slots=True)
class Promise:
    """A reservation and the connection that it ends with."""

    reservation: Reservation
    owner: Owner


@dataclass(frozen=True, slots=True)
class Held:
    """A vCPU that has another hard affinity for as long as a connection is there, and what it gets back then."""

    uuid: str
    vcpu: int
    before: frozenset[int]
    given: frozenset[int]
    owner: Owner


@dataclass(frozen=True, slots=True)
class Office:
    """Who manages the host, and the connection that this ends with."""

    who: str
    owner: Owner


@dataclass(frozen=True, slots=True)
class Clock:
    """Simulated time. `started_at`: when the host was made, in seconds since 1970; `up_ns` have passed since then.

    `seed` is what chance comes from. `idle_ns` by CPU id; `record` is what the engine keeps from one time to the next
    (`domicile.simulator.living`): what is going on, down to the scheduler's credits.
    """

    started_at: float
    up_ns: int = 0
    seed: int = 0
    idle_ns: Mapping[int, int] = field(default_factory=dict)
    record: bytes = b""

    @property
    def now(self) -> float:
        """The simulated time, in seconds since 1970."""
        return self.started_at + self.up_ns / 1e9


@dataclass(frozen=True, slots=True)
class Machine:
    """What never changes. `capacity_pages` is each node's memory less what Xen itself keeps; `preset` is what the
    machine was made of, "" where it was none."""

    host_id: str
    topology: Topology
    capacity_pages: Mapping[int, int]
    cpupools: tuple[Cpupool, ...]
    preset: str = ""


@dataclass(frozen=True)
class SimulatedState:
    """The host at one moment. Residents ascend by id."""

    machine: Machine
    residents: tuple[Resident, ...]
    clock: Clock
    promises: tuple[Promise, ...] = ()
    generation: int = 0
    next_id: int = 1
    holds: tuple[Held, ...] = ()
    office: Office | None = None
    moves: tuple[MoveState, ...] = ()
    halted: str = ""

    @cached_property
    def free_pages(self) -> dict[int, int]:
        """Node id to pages that nobody has."""
        return {
            node: pages - sum(resident.pages_on(node) for resident in self.residents)
            for node, pages in self.machine.capacity_pages.items()
        }

    @property
    def free_mib(self) -> int:
        """Whole MiB free on the host."""
        return sum(pages // PAGES_PER_MIB for pages in self.free_pages.values())

    def resident(self, name: str) -> Resident | None:
        """The domain with this name."""
        return next((resident for resident in self.residents if resident.domain.name == name), None)

    def cpupool(self, name: str) -> Cpupool | None:
        """The cpupool with this name."""
        return next((pool for pool in self.machine.cpupools if pool.name == name), None)

    def with_resident(self, resident: Resident) -> SimulatedState:
        """The state with this domain in place of the one with its id, or as a new one."""
        others = [other for other in self.residents if other.domain.id != resident.domain.id]
        residents = tuple(sorted([*others, resident], key=lambda each: each.domain.id))
        return replace(self, residents=residents, next_id=max(self.next_id, resident.domain.id + 1))

    def without(self, gone: Callable[[Owner], bool]) -> SimulatedState:
        """The state when these owners are gone: their paused domains, reservations and holds ended with them."""
        residents = tuple(each for each in self.residents if each.owner is None or not gone(each.owner))
        promises = tuple(each for each in self.promises if not gone(each.owner))
        office = None if self.office and gone(self.office.owner) else self.office
        ended = [each for each in self.holds if gone(each.owner)]
        if (len(residents), len(promises), office) == (len(self.residents), len(self.promises), self.office):
            after = self
        else:
            after = replace(self, residents=residents, promises=promises, office=office)
        for held in ended:
            after = after.let_go(held)
        return after

    def move(self, token: str) -> MoveState | None:
        """The move of this token."""
        return next((each for each in self.moves if each.order.token == token), None)

    def with_move(self, move: MoveState) -> SimulatedState:
        """The state with this move in place of the one of its token, or as a new one."""
        others = tuple(each for each in self.moves if each.order.token != move.order.token)
        return replace(self, moves=(*others, move))

    def held(self, uuid: str, vcpu: int) -> Held | None:
        """The hold on a vCPU."""
        return next((each for each in self.holds if (each.uuid, each.vcpu) == (uuid, vcpu)), None)

    def let_go(self, held: Held) -> SimulatedState:
        """The state with a hold ended: its vCPU has its hard affinity back, unless somebody else has set it since."""
        after = replace(self, holds=tuple(each for each in self.holds if each is not held))
        for resident in self.residents:
            if resident.domain.uuid == held.uuid:
                vcpus = tuple(
                    replace(vcpu, hard_affinity=held.before)
                    if vcpu.id == held.vcpu and vcpu.hard_affinity == held.given
                    else vcpu
                    for vcpu in resident.domain.vcpus
                )
                after = after.with_resident(replace(resident, domain=replace(resident.domain, vcpus=vcpus)))
        return after
