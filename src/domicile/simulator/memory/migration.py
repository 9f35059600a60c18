"""Moving a domain's memory to other nodes of the same host, in the two ways there are.

- `LiveMove`: live migration to the host itself, as `xl migrate` does it: a second domain is built where the memory is
  to be, copied to in rounds (`precopy`), and takes the first one's place. Needs all the memory twice while it runs.
- `PageMove`: page by page within the hypervisor, which no released Xen does (roadmap item 4): a new page on the other
  node, the old one write-protected, copied, replaced. Needs a batch of pages besides. A page written during its batch
  is copied again, so the copy costs 1 / (1 - p) of it, where p is the chance of that.

In an engine: `step(now_s, dt_s, granted_gbs)` each epoch, with the heap; a step's `flows` are to be charged to the
machine, `moved` (source, target, pages) passed on to `DomainPages.move`, `paused_s` taken from the domain's CPU time.
Left out: shattered superpages, log-dirty faults, TLB shoot-downs: give them as a lower rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from domicile.errors import NotEnoughMemory
from domicile.simulator.memory.flow import PAGE_BYTES, Flow, copy_flows, pages_per_s
from domicile.simulator.memory.heap import Heap, Pages, Request
from domicile.simulator.memory.populate import Part, populate
from domicile.simulator.memory.precopy import NO_WRITES, CopyStep, Dirtying, Phase, Precopy
from domicile.state.model import DomainType

__all__ = ["INCOMING", "LiveMove", "MoveStep", "Moved", "PageMove"]

INCOMING = "--incoming"
"""What xl appends to the name of a domain that is being received."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Pages of a domain that are on another node now."""

    source: int
    target: int
    pages: int


@dataclass(frozen=True, slots=True)
class MoveStep:
    """What a step did. `stalled`: the target has no free unclaimed memory, so nothing went on. `used_s`: how much of
    the step a live migration took."""

    moved: tuple[Moved, ...]
    flows: tuple[Flow, ...]
    paused_s: float
    phase: Phase
    stalled: bool = False
    used_s: float = 0.0


@dataclass(slots=True)
class LiveMove:
    """A live migration of a domain to its own host. Build it with `start`.

    `before` and `after` are its pages by node here and there; `cpu_node` is where the copying runs; each page is copied
    `copies` times over (2 through a pipe, as xl does, where the second copy is from and to the copier's node).
    """

    domain: str
    precopy: Precopy
    before: Pages
    after: Pages
    by_part: Pages
    cpu_node: int
    copies: int = 1

    @classmethod
    def start(
        cls,
        heap: Heap,
        domain: str,
        kind: DomainType,
        parts: Sequence[Part],
        affinity: Sequence[int],
        precopy: Precopy,
        cpu_node: int,
        copies: int = 1,
    ) -> LiveMove:
        """Build the second domain. Raises `NotEnoughMemory` where it does not fit beside the first; nothing is left."""
        incoming = domain + INCOMING
        heap.add(incoming, affinity)
        try:
            by_part = populate(heap, incoming, kind, parts)
        except NotEnoughMemory:
            heap.remove(incoming)
            raise
        return cls(domain, precopy, heap.pages_of(domain), heap.pages_of(incoming), by_part, cpu_node, copies)

    def copy(self) -> LiveMove:
        """An independent copy; the heap is copied apart."""
        return replace(self, precopy=self.precopy.copy())

    def step(self, heap: Heap, now_s: float, dt_s: float, granted_gbs: float | None = None) -> MoveStep:
        """Copy for `dt_s`; when it is done, the new domain has taken the old one's place and name."""
        running = self.precopy.phase in {Phase.COPYING, Phase.PAUSED}
        done = self.precopy.step(now_s, dt_s, granted_gbs)
        moved: tuple[Moved, ...] = ()
        if running and done.phase is Phase.DONE:
            heap.remove(self.domain)
            heap.rename(self.domain + INCOMING, self.domain)
            moved = _differences(self.before, self.after)
        return MoveStep(moved, self._flows(done, dt_s), done.paused_s, done.phase, used_s=done.used_s)

    def cancel(self, heap: Heap) -> None:
        """Give up: the second domain is gone, the first runs on. Once it is done there is nothing to cancel."""
        if self.precopy.phase in {Phase.COPYING, Phase.PAUSED}:
            self.precopy.cancel()
            heap.remove(self.domain + INCOMING)

    def _flows(self, done: CopyStep, dt_s: float) -> tuple[Flow, ...]:
        gbs = done.sent_pages * PAGE_BYTES / dt_s / 1e9
        if not gbs:
            return ()
        here = self.cpu_node
        flows = [Flow(here, int(n), gbs * self.before[n] / self.before.sum()) for n in np.flatnonzero(self.before)]
        flows += [Flow(here, int(n), gbs * self.after[n] / self.after.sum()) for n in np.flatnonzero(self.after)]
        if self.copies > 1:
            flows.append(Flow(here, here, gbs * 2 * (self.copies - 1)))
        return tuple(flows)


@dataclass(slots=True)
class PageMove:
    """A move of `left` pages of a domain from one node to another at `rate_gbs`, in batches of `batch_pages`."""

    domain: str
    source: int
    target: int
    left: int
    rate_gbs: float
    cpu_node: int
    dirtying: Dirtying = NO_WRITES
    batch_pages: int = 512
    phase: Phase = Phase.COPYING
    carry: float = 0.0

    def __post_init__(self) -> None:
        if not self.rate_gbs > 0.0:
            raise ValueError(f"a move at {self.rate_gbs} GB/s never ends")
        if self.batch_pages < 1 or self.source == self.target:
            raise ValueError("a move needs batches of a page at least, and two nodes")

    def copy(self) -> PageMove:
        """An independent copy."""
        return replace(self)

    def cancel(self) -> None:
        """Stop where it is: what has moved has moved."""
        if self.phase is Phase.COPYING:
            self.phase = Phase.CANCELLED

    def step(self, heap: Heap, now_s: float, dt_s: float, granted_gbs: float | None = None) -> MoveStep:  # noqa: ARG002
        """Move what fits into `dt_s`, at most what the domain has on the node; a stalled move goes on later."""
        granted = max(min(self.rate_gbs if granted_gbs is None else granted_gbs, self.rate_gbs), 0.0)
        if self.phase is not Phase.COPYING or not granted:
            return MoveStep((), (), 0.0, self.phase)
        useful = 1.0 - self.again(granted)
        can = self.carry + pages_per_s(granted) * dt_s * useful
        wanted = min(math.floor(can), self.left, int(heap.pages_of(self.domain)[self.source]))
        moved = self._move(heap, wanted)
        self.left -= moved
        stalled = moved < wanted
        # time that found nothing to do is not saved up
        self.carry = can - math.floor(can) if moved == math.floor(can) else 0.0
        if not self.left or not heap.pages_of(self.domain)[self.source]:
            self.phase = Phase.DONE
        records = (Moved(self.source, self.target, moved),) if moved else ()
        flows = copy_flows(moved / useful, self.source, self.target, self.cpu_node, dt_s)
        return MoveStep(records, flows, 0.0, self.phase, stalled)

    def again(self, granted_gbs: float) -> float:
        """The chance that a page is written while its batch is copied, and has to be copied again; below 1."""
        if self.dirtying.pages_per_s <= 0.0 or math.isinf(self.dirtying.writable_pages):
            return 0.0
        batch_s = self.batch_pages / pages_per_s(granted_gbs)
        writes_of_a_page = self.dirtying.pages_per_s / max(self.dirtying.writable_pages, 1.0)
        # a page that is never left alone long enough is stopped from being written: no more than 20 tries
        return min(-math.expm1(-writes_of_a_page * batch_s), 0.95)

    def _move(self, heap: Heap, pages: int) -> int:
        moved = 0
        while moved < pages:
            left = pages - moved
            taken = heap.alloc_many(self.domain, left, Request(node=self.target, exact=True))
            got = sum(each.pages for each in taken)
            heap.give_back(self.domain, self.source, got)
            moved += got
            # promised memory lets no more than a batch be held twice: what was given back lets the next one go
            if got < min(left, self.batch_pages):
                break
        return moved


def _differences(before: Pages, after: Pages) -> tuple[Moved, ...]:
    """Which moves lead from one spread to the other: the first node with too many to the first with too few."""
    excess = (before - after).astype(np.int64)
    moves = []
    for source in np.flatnonzero(excess > 0):
        for target in np.flatnonzero(excess < 0):
            pages = int(min(excess[source], -excess[target]))
            if pages:
                moves.append(Moved(int(source), int(target), pages))
                excess[source] -= pages
                excess[target] += pages
    return tuple(moves)
