"""The host's memory for the engine: boots Xen and Dom0, makes and ends domains, moves pages, tells where accesses go.

All of the work is done in `domicile.simulator.memory` and beside this; this keeps its pieces together and speaks of
domains by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from domicile.errors import NotEnoughMemory
from domicile.simulator.ballooning import Ballooning, BalloonRecord
from domicile.simulator.cold_pages import ColdPages, PoolOptions, PoolRecord
from domicile.simulator.guests import GuestSpec
from domicile.simulator.ledger import Ledger
from domicile.simulator.memory.boot import DmaPolicy, XenPolicy, boot_dom0, boot_xen, place_dma_buffers
from domicile.simulator.memory.flow import Flow
from domicile.simulator.memory.heap import XEN, Heap, Request
from domicile.simulator.memory.layout import ranges_of
from domicile.simulator.memory.migration import PageMove
from domicile.simulator.memory.pages import DomainPages
from domicile.simulator.memory.populate import Part, populate, take_overhead
from domicile.simulator.memory.precopy import Dirtying, Phase
from domicile.simulator.memory.sharing import SharingStep
from domicile.simulator.migrations import RATE_GBS, MigrationRecord, Migrations, Turn, busy_node
from domicile.simulator.page_sharing import PageSharing, SharingOptions, SharingRecord
from domicile.state.model import PAGES_PER_MIB
from domicile.topology.model import Topology

__all__ = ["AS_XEN", "MOVE_GBS", "DmaOptions", "HostMemory", "HostOptions", "MemoryStep"]

MOVE_GBS = 1.0
"""Rate at which pages move, as a share of a controller's 10 to 80 GB/s that nobody minds: an assumption."""

SUPERPAGE_ORDER = 9

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DmaOptions:
    """The buffers of Dom0's devices: where they are, how many each device has (Linux's swiotlb has 64 MiB by default,
    include/linux/swiotlb.h), and the devices that serve guests with their nodes (rows; None where it is not known)."""

    policy: DmaPolicy = DmaPolicy.DOM0
    buffers_mib: int = 64
    devices: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What a host does with memory besides: where Xen has its own and Dom0 its DMA buffers, sharing and a cold-page
    pool (None: neither)."""

    xen: XenPolicy = XenPolicy.LOCAL_STACKS
    dma: DmaOptions = DmaOptions()
    sharing: SharingOptions | None = None
    pool: PoolOptions | None = None


AS_XEN = HostOptions()


@dataclass(slots=True)
class MemoryStep:
    """What a step did: the domains whose accesses go elsewhere now, the traffic of all the copying in GB/s (N x N: the
    node of the CPUs, that of the memory; None for none), vCPU seconds that it took of domains, and whose vCPUs stop or
    run again."""

    changed: set[str] = field(default_factory=set)
    traffic: Floats | None = None
    lost_s: dict[str, float] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)

    def charge(self, flows: Sequence[Flow], nodes: int) -> None:
        """Add traffic."""
        if not flows:
            return
        traffic = np.zeros((nodes, nodes)) if self.traffic is None else self.traffic
        for flow in flows:
            traffic[flow.cpu_node, flow.memory_node] += flow.gbs
        self.traffic = traffic


class HostMemory:
    """The memory of a host of N nodes (rows of the topology).

    It boots Xen, unless it is given the heap of a host that has booted already: then `settle` says who has what.
    """

    def __init__(self, topology: Topology, options: HostOptions = AS_XEN, heap: Heap | None = None) -> None:
        ranges = ranges_of(topology)
        self._ids, self._nodes = topology.node_ids, topology.nodes
        self.options = options
        self._dma: dict[str, Floats] = {}
        self._heap = heap or Heap.of(ranges, len(topology.nodes))
        if heap is None:
            boot_xen(self._heap, ranges, topology, options.xen)
        self._pages = DomainPages.empty(len(topology.nodes))
        self._ledger = Ledger(self._heap, self._pages)
        self._balloons = Ballooning()
        self._migrations = Migrations()
        self._sharing = None if options.sharing is None else PageSharing.on(self._heap, options.sharing)
        self._pool = None if options.pool is None else ColdPages.on(self._heap, topology, options.pool)
        self._moves: list[PageMove] = []
        self._specs: dict[str, GuestSpec] = {}
        self._dom0 = ""

    @property
    def free_mib(self) -> Floats:
        """Free memory of each node (N)."""
        return self._heap.free_pages / PAGES_PER_MIB

    @property
    def changing(self) -> bool:
        """Whether pages are on their way, or a balloon has something to do."""
        if self._moves or self._migrations.running or self._balloons.due:
            return True
        return (self._sharing is not None and self._sharing.busy) or (self._pool is not None and self._pool.busy)

    @property
    def moving(self) -> frozenset[str]:
        """The domains whose pages are being moved one by one."""
        return frozenset(move.domain for move in self._moves)

    @property
    def migrations(self) -> tuple[MigrationRecord, ...]:
        """The migrations asked for, and what became of them."""
        return self._migrations.records

    @property
    def balloons(self) -> tuple[BalloonRecord, ...]:
        """What balloons were asked for, and what they did."""
        return self._balloons.records

    @property
    def sharing(self) -> SharingRecord | None:
        """What page sharing comes to, None without."""
        return None if self._sharing is None else self._sharing.record(self._ledger)

    @property
    def pool(self) -> PoolRecord | None:
        """What the cold-page pool comes to, None without."""
        return None if self._pool is None else self._pool.record(self._ledger, self._ids)

    def boot_dom0(self, spec: GuestSpec) -> int:
        """Dom0's memory, taken as Xen does at boot. Its number of parts, 1."""
        boot_dom0(self._heap, spec.name, spec.memory_mib * PAGES_PER_MIB, vcpus=spec.vcpus)
        self._dom0 = spec.name
        dma = self.options.dma
        for device, node in dma.devices.items():
            buffers = place_dma_buffers(self._heap, spec.name, dma.buffers_mib * PAGES_PER_MIB, dma.policy, node)
            self._dma[device] = buffers / max(int(buffers.sum()), 1)
        return self._keep(spec, self._heap.pages_of(spec.name)[None], False)

    def dma_share(self, device: str) -> Floats:
        """Where the buffers of a device of Dom0 are, as shares by node (N)."""
        return self._dma[device]

    def page_share(self, name: str) -> Floats:
        """Where the pages of a domain are, as shares by node (N)."""
        held = self._ledger.read_by(name)
        return np.asarray(held / max(int(held.sum()), 1), dtype=np.float64)

    def create(self, spec: GuestSpec, nodes: Sequence[int], vnodes: Sequence[int] = ()) -> int:
        """Take a new domain's memory, from these nodes first (rows), or its vnodes' exactly from theirs.

        Returns its number of parts: its vnodes, or 1. Raises `NotEnoughMemory`; nothing is taken then.
        """
        total = spec.memory_mib * PAGES_PER_MIB
        parts = [Part(total)]
        if len(vnodes) > 1:
            sizes = [total // len(vnodes)] * len(vnodes)
            sizes[0] += total - sum(sizes)
            parts = [Part(size, node) for size, node in zip(sizes, vnodes, strict=True)]
        try:
            held = self._populate(spec, nodes, parts)
        except NotEnoughMemory:
            missing = (spec.memory_mib + spec.overhead_mib) * PAGES_PER_MIB - self._heap.total_free
            if self._pool is None or not self._pool.make_room(self._heap, max(missing, 0)):
                raise
            held = self._populate(spec, nodes, parts)
        kept = self._keep(spec, held, len(parts) > 1)
        if self._sharing is not None:
            self._sharing.come(self._ledger, spec)
        if self._pool is not None:
            self._pool.come(spec)
        return kept

    def _populate(self, spec: GuestSpec, nodes: Sequence[int], parts: Sequence[Part]) -> Counts:
        self._heap.add(spec.name, sorted(nodes) or None)
        try:
            take_overhead(self._heap, spec.name, spec.overhead_mib * PAGES_PER_MIB)
            return populate(self._heap, spec.name, spec.type, parts)
        except NotEnoughMemory:
            self._heap.remove(spec.name)
            raise

    def settle(self, spec: GuestSpec, held: Counts, overhead: Counts) -> int:
        """A domain that is there already, with so many pages of each part on each node (parts x N), and Xen's own for
        it (N).

        Returns its number of parts. Raises ValueError where a node has not so many.
        """
        self._heap.add(spec.name)
        self._take(spec.name, held.sum(axis=0), refcounted=True)
        self._take(spec.name, overhead, refcounted=False)
        return self._keep(spec, held, len(held) > 1)

    def settle_xen(self, held: Counts) -> None:
        """What Xen itself has of each node (N), on a host that has booted already and where nobody else has anything
        yet. Raises as `settle`."""
        kept = np.array([node.memory_mib * PAGES_PER_MIB for node in self._nodes]) - self._heap.free_pages
        self._take(XEN, np.maximum(held - kept, 0), refcounted=True)

    def _take(self, owner: str, held: Counts, refcounted: bool) -> None:
        """Take so many pages of each node, in large blocks as far as there are."""
        for node, pages in enumerate(held.tolist()):
            left = pages
            for order in (SUPERPAGE_ORDER, 0):
                request = Request(order, node=node, exact=True, refcounted=refcounted)
                left -= sum(each.pages for each in self._heap.alloc_many(owner, left >> order, request))
            if left:
                raise ValueError(f"{owner}: node {self._ids[node]} has not {pages} pages")

    def _keep(self, spec: GuestSpec, held: Counts, sees_nodes: bool) -> int:
        """Note where the pages are: what is outside the working set is never touched, so it counts as cold."""
        workload = spec.workload
        hot_share = workload.working_set * workload.hot_memory
        # of the accesses to what is not hot, those to the rest of the working set; cold pages stand for both
        row = self._pages.add(held, hot_share, workload.hot_accesses, sees_nodes)
        self._ledger.rows[spec.name] = row
        self._ledger.overhead[spec.name] = self._heap.pages_of(spec.name) - held.sum(axis=0)
        self._balloons.add(spec, row, int(held.sum()))
        self._specs[spec.name] = spec
        return len(held)

    def destroy(self, name: str) -> None:
        """Give a domain's memory back."""
        self._moves = [move for move in self._moves if move.domain != name]
        self._migrations.end(self._ledger, name)
        if self._sharing is not None:
            self._sharing.go(self._ledger, name)
        if self._pool is not None:
            self._pool.go(self._heap, name)
        self._heap.remove(name)
        self._pages.drop(self._ledger.rows.pop(name))
        del self._ledger.overhead[name]
        self._balloons.remove(name)
        del self._specs[name]

    def by_node(self, name: str) -> Mapping[int, int]:
        """A domain's pages by node id, nodes without any left out."""
        held = self._heap.pages_of(name)
        return {self._ids[node]: int(pages) for node, pages in enumerate(held) if pages}

    def held(self, name: str) -> Counts:
        """A domain's own pages of each part on each node (parts x N), Xen's for it left out."""
        parts = self._pages.parts_of(self._ledger.rows[name])
        return np.asarray(self._pages.hot[parts] + self._pages.cold[parts])

    def size_mib(self, name: str) -> int:
        """What a domain has now, without Xen's overhead for it."""
        return self._heap.size_of(name) // PAGES_PER_MIB

    def accesses(self, name: str) -> Floats:
        """The share of accesses of each of a domain's parts that goes to each node (parts x N)."""
        return self._pages.access_by_part()[self._pages.parts_of(self._ledger.rows[name])]

    def move(
        self, name: str, nodes: Sequence[int], cpu_node: int, busy_vcpus: float, rate_gbs: float = MOVE_GBS
    ) -> None:
        """Have a domain's pages on other nodes moved to these (rows), page by page, evenly."""
        if self._migrations.of(name):
            return
        self._moves = [move for move in self._moves if move.domain != name]
        held = self._ledger.own(name)
        away = [node for node in np.flatnonzero(held).tolist() if node not in nodes]
        dirty_pages_s = self._specs[name].workload.dirty_mib_s * PAGES_PER_MIB
        dirtying = Dirtying(dirty_pages_s * busy_vcpus, float(held.sum()))
        self._heap.set_affinity(name, sorted(nodes))
        for source in away:
            for number, target in enumerate(nodes):
                share = int(held[source]) * (number + 1) // len(nodes) - int(held[source]) * number // len(nodes)
                if share:
                    self._moves.append(PageMove(name, source, target, share, rate_gbs, cpu_node, dirtying))

    def migrate(self, name: str, nodes: Sequence[int], now_s: float, rate_gbs: float = RATE_GBS) -> None:
        """Begin to migrate a domain to these nodes (rows) of its own host; its balloon and page moves stop, and it
        shares no page while it is on its way."""
        spec, ids = self._specs[name], tuple(self._ids[node] for node in nodes)
        self._moves = [move for move in self._moves if move.domain != name]
        self._balloons.halt(name, self._heap)
        if self._sharing is not None and not self._migrations.of(name):
            step = self._sharing.keep(self._ledger, name)
            self._pass_on(step)
            if step.refused_pages:
                need = step.refused_pages // PAGES_PER_MIB
                self._migrations.refuse(
                    spec, ids, now_s, NotEnoughMemory(name, need, self._heap.total_free // PAGES_PER_MIB)
                )
                return
            self._sharing.go(self._ledger, name)
        self._migrations.start(self._ledger, spec, nodes, ids, now_s, rate_gbs)
        if self._sharing is not None and not self._migrations.of(name):
            self._sharing.come(self._ledger, spec)

    def set_balloon(self, name: str, memory_mib: int, now_s: float) -> None:
        """Ask a domain to have so much memory (`xl mem-set`); one that is being migrated does not hear it."""
        self._balloons.ask(name, memory_mib, now_s, self._heap, self._beside(name), not self._migrations.of(name))

    def step(self, now_s: float, dt_s: float, ran: Mapping[str, Floats]) -> MemoryStep:
        """Let moves, migrations and balloons go on; `ran`: how many vCPUs' worth of time each domain had by node."""
        done = MemoryStep()
        done.changed.update(self._balloons.step(now_s, dt_s, self._heap, self._pages))
        self._step_moves(now_s, dt_s, done)
        busy = {name: float(by_node.sum()) for name, by_node in ran.items()}
        migrated = self._migrations.step(self._ledger, now_s, dt_s, busy, busy_node(ran.get(self._dom0)))
        done.charge(migrated.flows, self._heap.nodes)
        done.turns += migrated.turns
        done.changed.update(migrated.arrived)
        if self._sharing is not None:
            for name in migrated.arrived:
                self._sharing.come(self._ledger, self._specs[name])
            step = self._sharing.step(now_s, dt_s, self._ledger)
            self._pass_on(step)
            done.changed.update(step.reads)
        if self._pool is not None:
            self._step_pool(self._pool, now_s, dt_s, done)
        return done

    def _step_pool(self, pool: ColdPages, now_s: float, dt_s: float, done: MemoryStep) -> None:
        frozen = frozenset(name for name in self._specs if self._migrations.of(name))
        step = pool.step(now_s, dt_s, self._ledger, frozen)
        for name, pages in step.own.items():
            self._balloons.shift(name, pages)
        done.charge(step.flows, self._heap.nodes)
        done.changed.update(step.lost_s)
        done.lost_s.update(step.lost_s)

    def _pass_on(self, step: SharingStep) -> None:
        """What sharing has changed is known to the readers and to balloons."""
        for name, reads in step.reads.items():
            self._ledger.spread(name, reads)
        for name, own in step.own.items():
            self._balloons.shift(name, int(own.sum()))

    def _beside(self, name: str) -> int:
        """The pages that a domain has and shares."""
        return 0 if self._sharing is None else int(self._sharing.shared_pages(name, self._heap.nodes).sum())

    def _step_moves(self, now_s: float, dt_s: float, done: MemoryStep) -> None:
        running: set[str] = set()
        for move in self._moves:
            # one move of a domain at a time has the rate
            if move.domain in running:
                continue
            running.add(move.domain)
            move.left = min(move.left, int(self._ledger.own(move.domain)[move.source]))
            step = move.step(self._heap, now_s, dt_s)
            done.charge(step.flows, self._heap.nodes)
            for moved in step.moved:
                self._ledger.move(move.domain, moved.source, moved.target, moved.pages)
                done.changed.add(move.domain)
        self._moves = [move for move in self._moves if move.phase is Phase.COPYING]
        if self._sharing is not None:
            for name in sorted(running.difference(move.domain for move in self._moves)):
                self._sharing.moved(self._ledger, self._specs[name])
