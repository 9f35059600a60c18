"""A pool of guests' cold pages, kept anywhere but on the guest's own nodes, or on far memory (roadmap item 6c).

Source: transcendent memory, xen/common/tmem.c as it was until Xen 4.12 (Magenheimer): a guest *puts* pages that it can
do without; ephemeral ones (clean page cache) may be dropped at any time, the oldest of all guests first, and a *get*
takes them out; persistent ones (its swap) stay until they are flushed, and a put that finds no room is refused. New
here is where the pool is: memory is taken only from nodes that the policy names, so that a guest's own nodes keep
their room for what is hot.

Pages are counted, not told apart: those of a guest and kind that were put first are got first. In an engine: `put`,
`get`, `flush` and `make_room` as events, `step(now_s, dt_s)` each epoch for the traffic since the last one; what a get
misses (was dropped) the guest has to read from its disk. `copy()` is a snapshot; the heap is copied apart.
Left out: compression and deduplication within the pool, and tmem's own overhead per page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from domicile.errors import Refused
from domicile.simulator.memory.flow import PAGE_BYTES, Flow
from domicile.simulator.memory.heap import Heap, Pages, Request

__all__ = ["POOL", "ColdPool", "Kind", "PoolPolicy", "PoolStats"]

MOST_BATCHES = 256
"""With more, neighbours of a guest, kind and node become one: how old a page is, is known to that."""

POOL = "Cold pool"
"""The heap's owner of what is in the pool."""


class Kind(StrEnum):
    """What may happen to a page in the pool."""

    EPHEMERAL = "ephemeral"
    PERSISTENT = "persistent"


class PoolPolicy(StrEnum):
    """Which nodes the pool may use."""

    ANY_NODE = "any-node"
    """Any, the guest's own too: as tmem did."""
    NOT_OWN = "not-own"
    """Any but those that the guest's memory prefers."""
    FAR = "far"
    """Only those named as far memory (CXL, persistent memory)."""


@dataclass(frozen=True, slots=True)
class _Batch:
    domain: str
    kind: Kind
    node: int
    pages: int


@dataclass(slots=True)
class PoolStats:
    """Pages so far: `put`, `refused`, `got`, `missed` (asked for and no longer there), `dropped`, `flushed`."""

    put: int = 0
    refused: int = 0
    got: int = 0
    missed: int = 0
    dropped: int = 0
    flushed: int = 0


@dataclass(slots=True)
class ColdPool:
    """The pool. `spare_pages` of every node are left free; `far_nodes` are read under FAR.

    Its batches are in the order they were put.
    """

    policy: PoolPolicy
    far_nodes: frozenset[int] = frozenset()
    spare_pages: int = 0
    stats: PoolStats = field(default_factory=PoolStats)
    _batches: list[_Batch] = field(default_factory=list)
    _copied: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    _most: int = MOST_BATCHES

    @classmethod
    def on(cls, heap: Heap, policy: PoolPolicy, far_nodes: Collection[int] = (), spare_pages: int = 0) -> ColdPool:
        """An empty pool on a heap. Raises `Refused` for far memory on a machine without any."""
        if policy is PoolPolicy.FAR and not far_nodes:
            raise Refused("a cold-page pool on far memory needs nodes with far memory")
        heap.add(POOL)
        return cls(policy, frozenset(far_nodes), spare_pages)

    def copy(self) -> ColdPool:
        """An independent copy."""
        copied: dict[tuple[int, int], int] = defaultdict(int, self._copied)
        return replace(self, stats=replace(self.stats), _batches=self._batches.copy(), _copied=copied)

    def pages_of(self, domain: str, kind: Kind | None = None) -> int:
        """How many pages of a domain are in the pool."""
        kinds = set(Kind) if kind is None else {kind}
        return sum(each.pages for each in self._batches if each.domain == domain and each.kind in kinds)

    def nodes_of(self, domain: str, nodes: int) -> Pages:
        """A domain's pages in the pool by node (N)."""
        counts = np.zeros(nodes, dtype=np.int64)
        for each in self._batches:
            if each.domain == domain:
                counts[each.node] += each.pages
        return counts

    def nodes_for(self, heap: Heap, own: Collection[int], policy: PoolPolicy | None = None) -> list[int]:
        """Nodes that may hold pages of a guest whose own nodes are these, those with most free memory first. `policy`:
        the guest's own, None for the pool's."""
        policy = policy or self.policy
        nodes: Collection[int] = range(heap.nodes)
        if policy is PoolPolicy.FAR:
            nodes = self.far_nodes
        elif policy is PoolPolicy.NOT_OWN:
            nodes = set(range(heap.nodes)) - set(own)
        free = heap.free_pages
        return sorted(nodes, key=lambda node: (-int(free[node]), node))

    def put(
        self,
        heap: Heap,
        domain: str,
        home: int,
        own: Collection[int],
        pages: int,
        kind: Kind,
        policy: PoolPolicy | None = None,
    ) -> int:
        """Take up to so many of a guest's pages, copied from node `home`; how many were taken.

        The guest gives back the pages themselves (as a balloon does). Where there is no room, ephemeral pages on the
        allowed nodes make some, whoever's they are, the oldest first. `policy`: as in `nodes_for`.
        """
        nodes = self.nodes_for(heap, own, policy)
        left = pages - self._store(heap, domain, home, nodes, pages, kind)
        if left:
            for node in nodes:
                self._drop(heap, node, left - self._room(heap, node))
            left -= self._store(heap, domain, home, nodes, left, kind)
        self.stats.put += pages - left
        self.stats.refused += left
        return pages - left

    def get(self, domain: str, home: int, pages: int, kind: Kind, heap: Heap) -> int:
        """Give up to so many pages back to a guest, which copies them to node `home`; how many were there.

        Ephemeral pages leave the pool; persistent ones stay until they are flushed.
        """
        got = 0
        keep: list[_Batch] = []
        for batch in self._batches:
            if batch.domain != domain or batch.kind is not kind or got == pages:
                keep.append(batch)
                continue
            part = min(batch.pages, pages - got)
            got += part
            self._copied[home, batch.node] += part
            if kind is Kind.PERSISTENT:
                keep.append(batch)
                continue
            heap.give_back(POOL, batch.node, part)
            if part < batch.pages:
                keep.append(replace(batch, pages=batch.pages - part))
        self._batches = keep
        self.stats.got += got
        self.stats.missed += pages - got
        return got

    def flush(self, heap: Heap, domain: str, pages: int | None = None, kind: Kind | None = None) -> int:
        """Forget so many of a domain's pages, the oldest first (None: all of them); how many it was."""
        wanted = self.pages_of(domain, kind) if pages is None else pages
        gone = self._remove(heap, wanted, lambda each: each.domain == domain and kind in {None, each.kind})
        self.stats.flushed += gone
        return gone

    def make_room(self, heap: Heap, node: int, pages: int) -> int:
        """Drop ephemeral pages of a node, the oldest first, as Xen does when it runs short; how many it was."""
        return self._drop(heap, node, pages)

    def by_node(self, heap: Heap) -> Pages:
        """The pool's pages by node, N."""
        return heap.pages_of(POOL)

    def step(self, now_s: float, dt_s: float) -> tuple[Flow, ...]:  # noqa: ARG002
        """The traffic of what was put and got since the last step, spread over this one: CPUs of the guest's node."""
        flows = [
            Flow(home, memory, pages * PAGE_BYTES / dt_s / 1e9)
            for (home, node), pages in sorted(self._copied.items())
            for memory in (home, node)
        ]
        self._copied.clear()
        return tuple(flows)

    def _room(self, heap: Heap, node: int) -> int:
        return max(int(heap.free_pages[node]) - self.spare_pages, 0)

    def _store(self, heap: Heap, domain: str, home: int, nodes: list[int], pages: int, kind: Kind) -> int:
        stored = 0
        for node in nodes:
            wanted = min(pages - stored, self._room(heap, node))
            if wanted <= 0:
                continue
            taken = heap.alloc_many(POOL, wanted, Request(node=node, exact=True))
            got = sum(each.pages for each in taken)
            if got:
                self._batches.append(_Batch(domain, kind, node, got))
                if len(self._batches) > self._most:
                    self._batches = _merged(self._batches)
                    self._most = max(MOST_BATCHES, 2 * len(self._batches))
                self._copied[home, node] += got
                stored += got
        return stored

    def _drop(self, heap: Heap, node: int, pages: int) -> int:
        gone = self._remove(heap, pages, lambda each: each.kind is Kind.EPHEMERAL and each.node == node)
        self.stats.dropped += gone
        return gone

    def _remove(self, heap: Heap, pages: int, which: Callable[[_Batch], bool]) -> int:
        gone = np.zeros(heap.nodes, dtype=np.int64)
        keep: list[_Batch] = []
        for batch in self._batches:
            part = min(batch.pages, max(pages - int(gone.sum()), 0)) if which(batch) else 0
            gone[batch.node] += part
            if part < batch.pages:
                keep.append(replace(batch, pages=batch.pages - part))
        self._batches = keep
        for node in np.flatnonzero(gone):
            heap.give_back(POOL, int(node), int(gone[node]))
        return int(gone.sum())


def _merged(batches: list[_Batch]) -> list[_Batch]:
    """The batches with every second one of a guest, kind and node put to the one before."""
    merged: list[_Batch] = []
    open_at: dict[tuple[str, Kind, int], int] = {}
    for batch in batches:
        key = (batch.domain, batch.kind, batch.node)
        at = open_at.pop(key, None)
        if at is None:
            open_at[key] = len(merged)
            merged.append(batch)
        else:
            merged[at] = replace(batch, pages=merged[at].pages + batch.pages)
    return merged
