"""What runs on a machine: domains, their vCPUs, where their memory is, and what is promised to domains not yet there.

All records are immutable. Memory is in MiB except where pages are counted; a page is 4 KiB. CPU and node sets are
frozensets of ids, always written out: "all" is the set of all CPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from domicile.state.ballooning import about_to_take_mib, still_to_take, taken_by_node
from domicile.state.moves import MoveState, MoveWay
from domicile.topology.model import Topology

__all__ = [
    "PAGES_PER_MIB",
    "Cpupool",
    "Domain",
    "DomainType",
    "HeldVcpu",
    "MemoryMapAge",
    "Reservation",
    "Snapshot",
    "Vcpu",
    "Vnode",
]

PAGES_PER_MIB = 256


class DomainType(StrEnum):
    """How a domain is virtualised."""

    PV = "pv"
    PVH = "pvh"
    HVM = "hvm"


@dataclass(frozen=True, slots=True)
class Vcpu:
    """A virtual CPU. `pcpu` is where it ran last (None: offline or not yet); `time_ns` what it has used so far;
    `waiting` whether it wanted to run at that moment and had no pCPU (None: the host does not tell)."""

    id: int
    pcpu: int | None
    hard_affinity: frozenset[int]
    soft_affinity: frozenset[int]
    online: bool = True
    running: bool = False
    time_ns: int | None = None
    waiting: bool | None = None


@dataclass(frozen=True, slots=True)
class Vnode:
    """A node of a guest's virtual topology, backed by memory of `pnode` (None: Xen chose)."""

    pnode: int | None
    memory_mib: int
    vcpus: frozenset[int]
    distances: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain. Dom0 has id 0.

    `memory_mib` is what it has now, `max_memory_mib` what it may be set to (equal where unknown), `target_mib` what
    its balloon driver is to bring it to; None where the host does not tell. `started_at` is when it was started, by
    the clock of `Snapshot.taken_at`, None where that is not known.
    `node_affinity` is where Xen takes *new* memory from, None where the host does not tell; `pages_by_node` is where
    its pages are, None where no memory map was taken. `waited_ns` is how long its vCPUs have waited for a pCPU, and
    `work_ns` what they got done, in nanoseconds that it would take at best; None where the host does not tell: only a
    simulated one knows its guests' work. `traffic_bytes` is the memory traffic of its vCPUs since some moment, None
    where nobody counts it. `backends` are the bridges (by name) and disks (by path) that Dom0 serves it, none where
    that is not known.
    """

    id: int
    name: str
    uuid: str
    vcpus: tuple[Vcpu, ...]
    memory_mib: int
    max_memory_mib: int
    type: DomainType | None = None
    node_affinity: frozenset[int] | None = None
    pages_by_node: Mapping[int, int] | None = None
    cpupool: str = "Pool-0"
    weight: int = 256
    cap_percent: int = 0
    devices: tuple[str, ...] = ()
    vnodes: tuple[Vnode, ...] = ()
    claimed_mib: int = 0
    paused: bool = False
    waited_ns: int | None = None
    work_ns: int | None = None
    target_mib: int | None = None
    started_at: float | None = None
    backends: tuple[str, ...] = ()
    traffic_bytes: int | None = None

    @property
    def memory_by_node_mib(self) -> dict[int, int] | None:
        """Node id to MiB there (rounded), nodes without any left out; None without a memory map."""
        if self.pages_by_node is None:
            return None
        return {n: round(pages / PAGES_PER_MIB) for n, pages in self.pages_by_node.items() if pages}

    @property
    def waiting_vcpus(self) -> int:
        """How many of its vCPUs wanted to run and had no pCPU; 0 where the host does not tell."""
        return sum(vcpu.waiting is True for vcpu in self.vcpus)

    @property
    def time_ns(self) -> int | None:
        """CPU time of all vCPUs together, None where the host does not tell."""
        total = 0
        for vcpu in self.vcpus:
            if vcpu.time_ns is None:
                return None
            total += vcpu.time_ns
        return total


@dataclass(frozen=True, slots=True)
class Cpupool:
    """A cpupool: CPUs with a scheduler of their own."""

    name: str
    cpus: frozenset[int]
    scheduler: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """Memory and vCPUs promised to a domain that is being started.

    It lives on the host and ends with the process that made it, so nothing stale survives a crash or a reboot.
    `token` is unique; `owner` tells a person who made it ("pid 812 on host7").
    """

    token: str
    domain: str
    memory_mib: Mapping[int, int]
    vcpus: int
    owner: str
    created_at: float


@dataclass(frozen=True, slots=True)
class HeldVcpu:
    """A vCPU, of the domain with this UUID, whose hard affinity is `cpus` only for as long as a manager is there.

    `before` is what it gets back then.
    """

    uuid: str
    vcpu: int
    cpus: frozenset[int]
    before: frozenset[int]


class MemoryMapAge(StrEnum):
    """How fresh a snapshot's memory map (debug key `u`) has to be. It walks every page under a lock: ask for little."""

    NONE = "none"
    """No map is needed; one that happens to be known is given."""
    RECENT = "recent"
    """One that the host rations: taken now if the last is old enough, else that one again."""
    NOW = "now"
    """Taken for this snapshot."""


@dataclass(frozen=True)
class Snapshot:
    """A host at one moment.

    `topology.nodes[..].free_mib` is Xen's free memory per node, promised or not; what a newcomer can have is
    `available_mib`. `reservations_generation` changes with every reservation made. `pcpu_idle_ns` is the idle
    time of each pCPU since boot. `memory_map_age_s` is None where `Domain.pages_by_node` is. `virt_caps` are
    the words of `xl info`'s line of that name (hvm, hap, iommu_hap_pt_share, …), none where they are not known.
    `backing` is the PCI device behind each of Dom0's bridges and disks (`xenbr0`, `/dev/sda`, `/dev/mapper/vg-lv`),
    where that is known.
    `manager` is who changes this host of their own accord, "" for nobody; `holds` are the vCPUs that are held for them.
    `moves` are those that go on, and those that ended and nobody has taken note of; `saved` the UUIDs of domains of
    which a move has left a file on the host.
    `halted` is why nobody may (`domicile stop`), "" where anybody may.
    `commandline` is what Xen was booted with, "" where the host does not tell. `assignable_devices` are the PCI
    addresses that Dom0 keeps for guests (bound to pciback), in use or not.
    """

    topology: Topology
    domains: tuple[Domain, ...]
    taken_at: float
    reservations: tuple[Reservation, ...] = ()
    reservations_generation: str = ""
    cpupools: tuple[Cpupool, ...] = ()
    pcpu_idle_ns: Mapping[int, int] = field(default_factory=dict)
    memory_map_age_s: float | None = None
    scheduler: str = ""
    xen_version: str = ""
    virt_caps: tuple[str, ...] = ()
    backing: Mapping[str, str] = field(default_factory=dict)
    commandline: str = ""
    assignable_devices: tuple[str, ...] = ()
    host_id: str = ""
    notes: tuple[str, ...] = ()
    manager: str = ""
    halted: str = ""
    holds: tuple[HeldVcpu, ...] = ()
    moves: tuple[MoveState, ...] = ()
    saved: tuple[str, ...] = ()

    @cached_property
    def outstanding_mib(self) -> dict[int, int]:
        """Node id to memory promised there and not yet taken: by reservations, by moves, and to domains that are about
        to take it (`ballooning`).

        A domain under construction has taken part of its reservation already: that part is gone from the free memory,
        so only the rest is outstanding; the part was taken from the reserved nodes in turn.
        """
        outstanding = dict.fromkeys(self.topology.node_ids, 0)
        by_name = {domain.name: domain for domain in self.domains}
        for reservation in self.reservations:
            building = by_name.get(reservation.domain)
            taken = building.memory_mib if building else 0
            for node, mib in still_to_take(reservation.memory_mib, taken).items():
                outstanding[node] = outstanding.get(node, 0) + mib
        reserved = {reservation.domain for reservation in self.reservations}
        for move in self.moves:
            if move.end is None:
                reserved.add(move.order.domain)
                domain = next((each for each in self.domains if each.uuid == move.order.uuid), None)
                reserved |= {domain.name} if domain else set()
                for node, mib in self._owed_mib(move, domain, outstanding).items():
                    outstanding[node] = outstanding.get(node, 0) + mib
        for domain in self.domains:
            mib = 0 if domain.name in reserved else about_to_take_mib(domain)
            if mib:
                left = {node.id: max((node.free_mib or 0) - outstanding[node.id], 0) for node in self.topology.nodes}
                for node, part in taken_by_node(mib, left, domain.node_affinity).items():
                    outstanding[node] += part
        return outstanding

    def _owed_mib(self, move: MoveState, domain: Domain | None, outstanding: Mapping[int, int]) -> dict[int, int]:
        """Node id to what a move has yet to take there.

        A balloon is promised what its guest is to have on its new nodes beyond what it has there, from the beginning
        on, so that nobody else is. What it gives back of others may be taken by anybody.
        """
        order = move.order
        if order.way is MoveWay.BALLOON:
            has = domain.memory_by_node_mib if domain else {}
            if has is not None:
                return {n: max(order.after_mib.get(n, 0) - has.get(n, 0), 0) for n in order.nodes} if domain else {}
            left = {node.id: max((node.free_mib or 0) - outstanding[node.id], 0) for node in self.topology.nodes}
            return taken_by_node(order.memory_mib - order.least_mib, left, order.nodes)
        return still_to_take(order.after_mib, move.taken_mib) if move.taken_mib < order.memory_mib else {}

    def available_mib(self, node: int) -> int:
        """Free memory of a node that is not promised to anybody; never negative."""
        return max((self.topology.node(node).free_mib or 0) - self.outstanding_mib.get(node, 0), 0)

    def backing_device(self, backend: str) -> str | None:
        """The PCI device behind a bridge or a disk of Dom0, None where it is not known.

        A logical volume has two names: /dev/GROUP/VOLUME is /dev/mapper/GROUP-VOLUME, hyphens in either doubled.
        """
        group, _, volume = backend.removeprefix("/dev/").partition("/")
        mapped = f"/dev/mapper/{group.replace('-', '--')}-{volume.replace('-', '--')}"
        return self.backing.get(backend) or (self.backing.get(mapped) if volume else None)

    def domain(self, name: str) -> Domain | None:
        """The domain with this name, None if there is none."""
        return next((domain for domain in self.domains if domain.name == name), None)
