"""Saving a domain and restoring it with another node-affinity: what moves the memory of a PV domain.

Source: tools/xl/xl_saverestore.c and tools/libs/light/libxl_domain.c, Xen 4.17: `xl save` suspends the domain, writes
its pages to a file and destroys it; `xl restore` builds it anew and reads them back. The domain is paused from the
first page written to the last one read, and its memory is never there twice. Seen on 4.17: all 65,536 pages of a PV
guest of 256 MiB moved so.

In an engine: as `migration.LiveMove`. Left out: the file's own memory in Dom0's page cache, and a disk slower than the
rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domicile.simulator.memory.flow import PAGE_BYTES, Flow
from domicile.simulator.memory.heap import Heap, Pages
from domicile.simulator.memory.migration import MoveStep
from domicile.simulator.memory.populate import Part, populate, take_overhead
from domicile.simulator.memory.precopy import CopyLimits, Phase, Precopy
from domicile.state.model import DomainType

__all__ = ["SaveRestore"]


@dataclass(slots=True)
class SaveRestore:
    """A domain that is saved and restored; `precopy` copies its pages twice, all of it paused. Build it with `start`.

    `affinity`: the nodes that its memory is to be on (rows); `cpu_node`: where the copying runs; `by_part`: its
    pages by part and node, where they came to be once it is done.
    """

    domain: str
    kind: DomainType
    parts: Sequence[Part]
    affinity: Sequence[int]
    precopy: Precopy
    before: Pages
    cpu_node: int
    by_part: Pages
    overhead_pages: int = 0

    @classmethod
    def start(
        cls,
        heap: Heap,
        domain: str,
        kind: DomainType,
        parts: Sequence[Part],
        affinity: Sequence[int],
        rate_gbs: float,
        cpu_node: int,
        overhead_pages: int = 0,
    ) -> SaveRestore:
        """Suspend the domain and begin to write. ValueError without a rate."""
        whole = sum(part.pages for part in parts)
        copy = Precopy(2 * whole, rate_gbs, limits=CopyLimits(rounds=0))
        before = heap.pages_of(domain)
        return cls(domain, kind, parts, affinity, copy, before, cpu_node, before[None], overhead_pages)

    def step(self, heap: Heap, now_s: float, dt_s: float) -> MoveStep:
        """Go on for `dt_s`; when all is read back, the domain's memory is by its new affinity."""
        running = self.precopy.phase is Phase.PAUSED
        done = self.precopy.step(now_s, dt_s)
        if running and done.phase is Phase.DONE:
            heap.remove(self.domain)
            heap.add(self.domain, self.affinity)
            take_overhead(heap, self.domain, self.overhead_pages)
            # it gave back as much just now, and falls back to other nodes and smaller blocks
            self.by_part = populate(heap, self.domain, self.kind, self.parts)
        return MoveStep((), self._flows(done.sent_pages, dt_s), done.paused_s, done.phase, used_s=done.used_s)

    def cancel(self, heap: Heap) -> None:
        """The domain is destroyed meanwhile."""
        del heap
        self.precopy.cancel()

    def _flows(self, sent_pages: float, dt_s: float) -> tuple[Flow, ...]:
        gbs = sent_pages * PAGE_BYTES / dt_s / 1e9
        if not gbs:
            return ()
        shares = self.before / max(int(self.before.sum()), 1)
        memory = [Flow(self.cpu_node, int(node), gbs * float(shares[node])) for node in np.flatnonzero(shares)]
        return (*memory, Flow(self.cpu_node, self.cpu_node, gbs))
