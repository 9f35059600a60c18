"""Where the memory of all domains is, and what share of their accesses goes to which node, as arrays.

A part is a vnode of a domain, or all of a domain that has none; arrays over parts are P x N. A part's pages are hot
(the working set) or cold; `hot_access` of its domain's accesses go to the hot ones, evenly. Among a domain's parts:

- a guest that sees its nodes keeps `own_share` of the accesses of a vnode's vCPUs within that vnode, as an operating
  system with first-touch does; the rest goes to all parts as their pages are;
- a guest that does not see them spreads its accesses over all its pages, whichever vCPU makes them.

In an engine: fill it from `populate` (pages by part and node are its rows), read `traffic_share` each epoch with where
the vCPUs ran, and pass on to it what balloon, migration, sharing and pool report as moved. `copy()` is a snapshot.
Left out: pages hot to different degrees, and that a guest's own NUMA balancing moves pages between its vnodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import DEFAULT
from domicile.simulator.memory.flow import apportion

__all__ = ["OWN_SHARE", "DomainPages"]

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]
Number = TypeVar("Number", np.int64, np.float64)

OWN_SHARE = DEFAULT.own_share
"""What a guest that sees its nodes keeps within a vnode where nobody says else."""


@dataclass(eq=False)
class DomainPages:
    """Pages of D domains in P parts on N nodes.

    `domain` (P): whose part; `hot`, `cold`: P x N pages; `hot_access` (D): share of accesses to hot pages; `own_share`
    (D): as above, read where `sees_nodes` (D) is true.
    """

    domain: npt.NDArray[np.intp]
    hot: Counts
    cold: Counts
    hot_access: Shares
    own_share: Shares
    sees_nodes: npt.NDArray[np.bool_]

    @classmethod
    def empty(cls, nodes: int) -> DomainPages:
        """No domains on N nodes."""
        none = np.zeros((0, nodes), dtype=np.int64)
        no_shares = np.zeros(0)
        return cls(np.zeros(0, dtype=np.intp), none, none.copy(), no_shares, no_shares.copy(), np.zeros(0, dtype=bool))

    def copy(self) -> DomainPages:
        """An independent copy."""
        return DomainPages(
            self.domain.copy(),
            self.hot.copy(),
            self.cold.copy(),
            self.hot_access.copy(),
            self.own_share.copy(),
            self.sees_nodes.copy(),
        )

    def add(
        self,
        pages: Counts,
        hot_share: float,
        hot_access: float,
        sees_nodes: bool = False,
        own_share: float = OWN_SHARE,
    ) -> int:
        """A domain with these pages by part and node, `hot_share` of them hot. Returns its index."""
        index = len(self.hot_access)
        self.domain = np.append(self.domain, np.full(len(pages), index, dtype=np.intp))
        self.hot = np.vstack((self.hot, np.zeros_like(pages)))
        self.cold = np.vstack((self.cold, pages))
        self.hot_access = np.append(self.hot_access, hot_access)
        self.own_share = np.append(self.own_share, own_share)
        self.sees_nodes = np.append(self.sees_nodes, sees_nodes)
        for part in self.parts_of(index):
            self.set_hot(part, round(hot_share * int(self.cold[part].sum())))
        return index

    def drop(self, domain: int) -> None:
        """A domain has gone: its parts stay, without pages, so that no index changes."""
        self.hot[self.domain == domain] = 0
        self.cold[self.domain == domain] = 0

    # -- what is where

    def parts_of(self, domain: int) -> list[int]:
        """The parts of a domain."""
        return [int(part) for part in np.flatnonzero(self.domain == domain)]

    def by_node(self) -> Counts:
        """Pages of every domain by node, D x N."""
        return self._by_domain(self.hot + self.cold)

    def memory_share(self) -> Shares:
        """Share of every domain's accesses by the node of the memory, as if all its parts were as busy as they are
        large: D x N. Rows add up to 1, or to 0 without pages.
        """
        return self._access(self._by_domain(self.hot), self._by_domain(self.cold), self.hot_access)

    def access_by_part(self) -> Shares:
        """Where the accesses of each part's vCPUs go, by the node of the memory: P x N, rows add up to 1 or 0.

        It changes only when pages do: an engine keeps it from epoch to epoch until something has moved.
        """
        everywhere = self.memory_share()[self.domain]
        keeps = np.where(self.sees_nodes, self.own_share, 0.0)[self.domain]
        if not keeps.any():
            return everywhere
        own = self._access(self.hot, self.cold, self.hot_access[self.domain])
        # a vnode without pages leaves its vCPUs nothing of their own
        keeps = keeps * (own.sum(axis=1) > 0)
        return np.asarray(keeps[:, None] * own + (1.0 - keeps)[:, None] * everywhere, dtype=np.float64)

    def traffic_share(self, vcpus: Shares, access: Shares | None = None) -> Shares:
        """Share of every domain's accesses by the node of the CPU and of the memory: D x N x N.

        `vcpus` (P x N): where the vCPUs of each part were running, in any unit that is the same within a domain;
        `access`: what `access_by_part` gave. A domain's N x N adds up to 1, or to 0 without vCPUs running or pages.
        """
        access = self.access_by_part() if access is None else access
        total = self._by_domain(vcpus).sum(axis=1)
        scale = np.divide(1.0, total, out=np.zeros(len(total)), where=total > 0)
        parts = (vcpus * scale[self.domain][:, None])[:, :, None] * access[:, None, :]
        return self._by_domain(parts)

    def local_share(self, vcpus: Shares) -> Shares:
        """Share of every domain's accesses that stay on the node of the CPU, D."""
        return np.asarray(np.trace(self.traffic_share(vcpus), axis1=1, axis2=2), dtype=np.float64)

    # -- changes

    def set_hot(self, part: int, pages: int) -> None:
        """Let so many of a part's pages be hot, on all its nodes alike; as many as it has at most."""
        hot, cold = int(self.hot[part].sum()), int(self.cold[part].sum())
        wanted = min(max(pages, 0), hot + cold)
        change = apportion(max(wanted - hot, 0), self.cold[part]) - apportion(max(hot - wanted, 0), self.hot[part])
        self.hot[part] += change
        self.cold[part] -= change

    def put(self, part: int, pages: Counts) -> None:
        """New pages by node (N): they are cold until `set_hot` says else."""
        self.cold[part] += pages

    def take(self, part: int, pages: int) -> Counts:
        """Give up to so many pages, cold before hot, from all nodes alike: by node (N)."""
        cold = apportion(min(pages, int(self.cold[part].sum())), self.cold[part])
        self.cold[part] -= cold
        hot = apportion(min(pages - int(cold.sum()), int(self.hot[part].sum())), self.hot[part])
        self.hot[part] -= hot
        return cold + hot

    def take_from(self, part: int, node: int, pages: int) -> int:
        """Give up to so many pages of one node, cold before hot; how many it was."""
        cold = min(pages, int(self.cold[part, node]))
        hot = min(pages - cold, int(self.hot[part, node]))
        self.cold[part, node] -= cold
        self.hot[part, node] -= hot
        return cold + hot

    def move(self, part: int, source: int, target: int, pages: int, hot_first: bool = True) -> int:
        """Let up to so many pages be on another node; what is hot stays hot. Returns how many it was."""
        left = pages
        for counts in (self.hot, self.cold) if hot_first else (self.cold, self.hot):
            moved = min(left, int(counts[part, source]))
            counts[part, source] -= moved
            counts[part, target] += moved
            left -= moved
        return pages - left

    def shift(self, domain: int, change: Counts) -> None:
        """Let a domain's pages be elsewhere, as a change by node (N) that adds up to 0 says; cold ones first."""
        rest = change.copy()
        for source in np.flatnonzero(change < 0):
            for target in np.flatnonzero(change > 0):
                for part in self.parts_of(domain):
                    wanted = int(min(-rest[source], rest[target]))
                    moved = self.move(part, int(source), int(target), max(wanted, 0), hot_first=False)
                    rest[source] += moved
                    rest[target] -= moved
        if rest.any():
            raise ValueError(f"domain {domain} does not have the pages that are to move: {rest.tolist()} are left")

    # -- within

    def _by_domain(self, rows: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Sums of rows by part; the parts of a domain lie together, and every domain has one."""
        if len(self.domain) == len(self.hot_access):
            return rows
        starts = np.flatnonzero(np.diff(self.domain, prepend=-1))
        return np.add.reduceat(rows, starts, axis=0)

    @staticmethod
    def _access(hot: Counts, cold: Counts, hot_access: Shares) -> Shares:
        """Shares by node of what is accessed, one row for each of hot and cold. Who has only one kind accesses that."""
        hot_pages, cold_pages = hot.sum(axis=1), cold.sum(axis=1)
        to_hot = np.where(cold_pages == 0, 1.0, np.where(hot_pages == 0, 0.0, hot_access))
        rows = to_hot[:, None] * hot / np.maximum(hot_pages, 1)[:, None]
        return np.asarray(rows + (1.0 - to_hot)[:, None] * cold / np.maximum(cold_pages, 1)[:, None], dtype=np.float64)
