"""The host's memory for the engine: boots Xen and Dom0, makes and ends domains, moves pages, tells where accesses go.

All of the work is done in `domicile.simulator.memory`; this keeps its pieces together and speaks of domains by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from domicile.errors import NotEnoughMemory
from domicile.simulator.guests import GuestSpec
from domicile.simulator.memory.balloon import Balloons
from domicile.simulator.memory.boot import XenPolicy, boot_dom0, boot_xen
from domicile.simulator.memory.flow import Flow
from domicile.simulator.memory.heap import XEN, Heap, Request
from domicile.simulator.memory.layout import ranges_of
from domicile.simulator.memory.migration import PageMove
from domicile.simulator.memory.pages import DomainPages
from domicile.simulator.memory.populate import Part, populate, take_overhead
from domicile.simulator.memory.precopy import Dirtying, Phase
from domicile.state.model import PAGES_PER_MIB
from domicile.topology.model import Topology

__all__ = ["MOVE_GBS", "HostMemory"]

MOVE_GBS = 1.0
"""Rate at which pages move, as a share of a controller's 10 to 80 GB/s that nobody minds: an assumption."""

SUPERPAGE_ORDER = 9

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class HostMemory:
    """The memory of a host of N nodes (rows of the topology).

    Without a policy for Xen's own memory the host is one that has booted already: `settle` says who has what.
    """

    def __init__(self, topology: Topology, xen: XenPolicy | None = XenPolicy.LOCAL_STACKS) -> None:
        ranges = ranges_of(topology)
        self._ids, self._nodes = topology.node_ids, topology.nodes
        self._heap = Heap.of(ranges, len(topology.nodes))
        if xen is not None:
            boot_xen(self._heap, ranges, topology, xen)
        self._pages = DomainPages.empty(len(topology.nodes))
        self._balloons = Balloons()
        self._index: dict[str, int] = {}
        self._moves: list[PageMove] = []
        self._dirty_pages_s: dict[str, float] = {}

    @property
    def free_mib(self) -> Floats:
        """Free memory of each node (N)."""
        return self._heap.free_pages / PAGES_PER_MIB

    @property
    def changing(self) -> bool:
        """Whether pages are on their way, or a balloon has something to do."""
        return bool(self._moves) or self._balloons.due_s() < float("inf")

    def boot_dom0(self, spec: GuestSpec) -> int:
        """Dom0's memory, taken as Xen does at boot. Its number of parts, 1."""
        held = boot_dom0(self._heap, spec.name, spec.memory_mib * PAGES_PER_MIB, vcpus=spec.vcpus)
        return self._keep(spec, held[None], False)

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
        self._heap.add(spec.name, sorted(nodes) or None)
        try:
            take_overhead(self._heap, spec.name, spec.overhead_mib * PAGES_PER_MIB)
            held = populate(self._heap, spec.name, spec.type, parts)
        except NotEnoughMemory:
            self._heap.remove(spec.name)
            raise
        return self._keep(spec, held, len(parts) > 1)

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
        self._index[spec.name] = self._pages.add(held, hot_share, workload.hot_accesses, sees_nodes)
        self._balloons.add(spec.name, self._index[spec.name], int(held.sum()))
        self._dirty_pages_s[spec.name] = workload.dirty_mib_s * PAGES_PER_MIB
        return len(held)

    def destroy(self, name: str) -> None:
        """Give a domain's memory back."""
        self._moves = [move for move in self._moves if move.domain != name]
        self._heap.remove(name)
        self._pages.drop(self._index.pop(name))
        self._balloons.remove(name)

    def by_node(self, name: str) -> Mapping[int, int]:
        """A domain's pages by node id, nodes without any left out."""
        held = self._heap.pages_of(name)
        return {self._ids[node]: int(pages) for node, pages in enumerate(held) if pages}

    def held(self, name: str) -> Counts:
        """A domain's own pages of each part on each node (parts x N), Xen's for it left out."""
        parts = self._pages.parts_of(self._index[name])
        return np.asarray(self._pages.hot[parts] + self._pages.cold[parts])

    def size_mib(self, name: str) -> int:
        """What a domain has now, without Xen's overhead for it."""
        return self._heap.size_of(name) // PAGES_PER_MIB

    def accesses(self, name: str) -> Floats:
        """The share of accesses of each of a domain's parts that goes to each node (parts x N)."""
        return self._pages.access_by_part()[self._pages.parts_of(self._index[name])]

    def move(self, name: str, nodes: Sequence[int], cpu_node: int, busy_vcpus: float) -> None:
        """Have a domain's pages on other nodes moved to these (rows), page by page, evenly."""
        self._moves = [move for move in self._moves if move.domain != name]
        held = self._heap.pages_of(name)
        away = [node for node in np.flatnonzero(held).tolist() if node not in nodes]
        dirtying = Dirtying(self._dirty_pages_s[name] * busy_vcpus, float(held.sum()))
        self._heap.set_affinity(name, sorted(nodes))
        for source in away:
            for number, target in enumerate(nodes):
                share = int(held[source]) * (number + 1) // len(nodes) - int(held[source]) * number // len(nodes)
                if share:
                    self._moves.append(PageMove(name, source, target, share, MOVE_GBS, cpu_node, dirtying))

    def set_balloon(self, name: str, memory_mib: int, now_s: float) -> None:
        """Ask a domain to have so much memory (`xl mem-set`)."""
        self._balloons.set_target(name, memory_mib * PAGES_PER_MIB, now_s, self._heap)

    def step(self, now_s: float, dt_s: float) -> tuple[set[str], Mapping[str, tuple[Flow, ...]]]:
        """Let moves and balloons go on. The domains whose pages moved, and the traffic of the copying by domain."""
        changed = {done.domain for done in self._balloons.step(now_s, dt_s, self._heap, self._pages)}
        flows: dict[str, tuple[Flow, ...]] = {}
        running: set[str] = set()
        for move in self._moves:
            # one move of a domain at a time has the rate
            if move.domain in running:
                continue
            running.add(move.domain)
            done = move.step(self._heap, now_s, dt_s)
            flows[move.domain] = done.flows
            for moved in done.moved:
                self._pass_on(move.domain, moved.source, moved.target, moved.pages)
                changed.add(move.domain)
        self._moves = [move for move in self._moves if move.phase is Phase.COPYING]
        return changed, flows

    def _pass_on(self, name: str, source: int, target: int, pages: int) -> None:
        left = pages
        for part in self._pages.parts_of(self._index[name]):
            left -= self._pages.move(part, source, target, left)
