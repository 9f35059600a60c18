"""Whose memory is where: Xen's heap, the pages that each domain reads, and which row of them is whose.

What owns pages and what reads them differ where pages are shared (`memory.sharing`), and by Xen's overhead for a domain
(its HAP pool): the heap has the owner, the table has the readers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from domicile.simulator.memory.heap import Heap, Pages
from domicile.simulator.memory.pages import DomainPages

__all__ = ["Ledger"]


@dataclass(slots=True)
class Ledger:
    """The heap of N nodes, the domains' pages, and by name the domains' rows in these and Xen's overhead by node."""

    heap: Heap
    pages: DomainPages
    rows: dict[str, int] = field(default_factory=dict)
    overhead: dict[str, Pages] = field(default_factory=dict)

    def own(self, name: str) -> Pages:
        """The pages that a domain has to itself, without the overhead, by node (N)."""
        return self.heap.pages_of(name) - self.overhead[name]

    def read_by(self, name: str) -> Pages:
        """The pages that a domain reads, its own and shared, by node (N)."""
        parts = self.pages.parts_of(self.rows[name])
        return np.asarray((self.pages.hot + self.pages.cold)[parts].sum(axis=0), dtype=np.int64)

    def move(self, name: str, source: int, target: int, pages: int) -> None:
        """So many pages of a domain are on another node now, hot ones first."""
        left = pages
        for part in self.pages.parts_of(self.rows[name]):
            left -= self.pages.move(part, source, target, left)

    def shift(self, name: str, change: Pages) -> None:
        """The pages that a domain reads are elsewhere, as a change by node that adds up to 0 says."""
        self.pages.shift(self.rows[name], change)

    def spread(self, name: str, change: Pages) -> None:
        """As `shift`, of hot and cold pages alike: where nobody knows which ones it is."""
        rest = change.copy()
        parts = self.pages.parts_of(self.rows[name])
        for source in np.flatnonzero(change < 0).tolist():
            for target in np.flatnonzero(change > 0).tolist():
                for part in parts:
                    pages = int(min(-rest[source], rest[target]))
                    moved = self._move_alike(part, source, target, max(pages, 0))
                    rest[source] += moved
                    rest[target] -= moved
        if rest.any():
            raise ValueError(f"{name} does not have the pages that are to move: {rest.tolist()} are left")

    def _move_alike(self, part: int, source: int, target: int, pages: int) -> int:
        hot, cold = int(self.pages.hot[part, source]), int(self.pages.cold[part, source])
        pages = min(pages, hot + cold)
        of_hot = pages * hot // max(hot + cold, 1)
        # the odd page is a cold one, if there is any
        of_hot = max(of_hot, pages - cold)
        return self.pages.move(part, source, target, of_hot) + self.pages.move(
            part, source, target, pages - of_hot, hot_first=False
        )
