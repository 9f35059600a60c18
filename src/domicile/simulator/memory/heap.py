"""Xen's heap: who gets which pages of which node.

Source: xen/common/page_alloc.c, Xen 4.17 (`alloc_domheap_pages`, `alloc_heap_pages`, `get_free_buddy`). A domain's
node-affinity is a preference: requests go round its nodes, from the one after the last that gave; when none of them
has a block of the size, the other nodes are asked in ascending order, and nobody is told. An exact request fails
instead. Two things follow that surprise people, and are modelled because they happen:

- A 1 GiB block on a foreign node comes before 2 MiB blocks at home: the size is the caller's, and he falls back last.
- The low memory kept for DMA (`layout.dma_bits`) comes after all other memory of *all* nodes.

`alloc` follows Xen request by request. `alloc_many` gives the same pages for a row of equal requests without going
through them; a test holds the two together.

In an engine: `copy()` is a snapshot and costs as much as there are free blocks and runs; `free_pages` and `pages_of`
are arrays to be read each epoch. Nothing here takes time.

Left out: scrubbing, page offlining, static and colored memory, the low-memory interrupt, and the interruptions of long
hypercalls, in which several builders' requests alternate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from domicile.errors import NotEnoughMemory, Refused
from domicile.simulator.memory.buddy import MAX_ORDER, ZONES, Buddy, Run
from domicile.simulator.memory.claims import ClaimRule, Claims
from domicile.simulator.memory.layout import PAGE_SHIFT, Range, dma_bits
from domicile.simulator.memory.request import ONE_PAGE, Request, Taken
from domicile.simulator.memory.turns import cycle, in_order, in_turn
from domicile.state.model import PAGES_PER_MIB

__all__ = ["XEN", "Heap", "Pages", "Request", "Taken"]

Pages = npt.NDArray[np.int64]
"""Pages by node, N."""

XEN = "Xen"
"""The owner of what Xen takes for itself; no domain may be called so here."""


@dataclass(slots=True)
class _Owner:
    """`last` is the node that gave last; `runs` are by node, the latest at the end; `uncounted`: not its memory."""

    affinity: tuple[int, ...]
    pages: Pages
    runs: dict[int, list[Run]]
    last: int = 0
    uncounted: int = 0

    def copy(self) -> _Owner:
        return replace(self, pages=self.pages.copy(), runs={n: runs.copy() for n, runs in self.runs.items()})


@dataclass(slots=True)
class Heap:
    """The heap of N nodes. `boot_node` is where Xen itself looks first: the node of the CPU that it boots on.

    Build it with `Heap.of`. Owners are domains' names, and XEN.
    """

    claims: Claims
    boot_node: int
    dma_zone: int
    _nodes: list[Buddy]
    _range_of: tuple[Range, ...]
    _owners: dict[str, _Owner] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        ranges: Sequence[Range],
        nodes: int | None = None,
        rule: ClaimRule = ClaimRule.HOST,
        keep_for_dma: bool = True,
        max_order: int = MAX_ORDER,
        boot_node: int = 0,
    ) -> Heap:
        """A heap where everything is free, for `nodes` nodes (by default, those that the ranges name).

        `keep_for_dma` false is Xen with `dma_bits=` wider than memory: low memory is like all other.
        """
        count = nodes if nodes is not None else 1 + max((each.node for each in ranges), default=boot_node)
        bits = dma_bits(ranges) if keep_for_dma else 0
        heap = cls(
            claims=Claims.none(count, rule),
            boot_node=boot_node,
            dma_zone=bits - PAGE_SHIFT if bits > PAGE_SHIFT else 0,
            _nodes=[Buddy(max_order) for _ in range(count)],
            _range_of=tuple(sorted(ranges, key=lambda each: each.start)),
        )
        for each in heap._range_of:
            start = max(each.start, 1)  # Xen keeps page 0 back
            if each.end > start:
                heap._nodes[each.node].put(start, each.end - start)
        heap._owners[XEN] = heap._new_owner(range(count))
        return heap

    def copy(self) -> Heap:
        """An independent copy."""
        owners = {name: owner.copy() for name, owner in self._owners.items()}
        return replace(self, claims=self.claims.copy(), _nodes=[node.copy() for node in self._nodes], _owners=owners)

    # -- what is where

    @property
    def nodes(self) -> int:
        """How many nodes there are, N."""
        return len(self._nodes)

    @property
    def free_pages(self) -> Pages:
        """Free pages by node, claimed or not."""
        return np.array([node.free_pages for node in self._nodes], dtype=np.int64)

    @property
    def total_free(self) -> int:
        """Free pages of the host."""
        return sum(node.free_pages for node in self._nodes)

    @property
    def owners(self) -> tuple[str, ...]:
        """XEN and the domains, in the order they came."""
        return tuple(self._owners)

    def pages_of(self, owner: str) -> Pages:
        """The owner's pages by node; a copy."""
        return self._owners[owner].pages.copy()

    def size_of(self, domain: str) -> int:
        """The pages that count as the domain's memory, without its shadow or HAP pool (`domain_tot_pages`)."""
        return int(self._owners[domain].pages.sum()) - self._owners[domain].uncounted

    def runs_of(self, owner: str, node: int) -> tuple[Run, ...]:
        """The owner's pages on a node, as runs in the order they came."""
        return tuple(self._owners[owner].runs.get(node, ()))

    def free_blocks(self, node: int) -> tuple[tuple[int, int], ...]:
        """(first page, order) of a node's free blocks."""
        return tuple(self._nodes[node].blocks())

    def supply(self, node: int, order: int) -> int:
        """How many blocks of an order a node could give."""
        return self._nodes[node].supply(order)

    def affinity_of(self, domain: str) -> tuple[int, ...]:
        """A domain's node-affinity, ascending."""
        return self._owners[domain].affinity

    # -- domains

    def add(self, domain: str, affinity: Sequence[int] | None = None) -> None:
        """A domain without memory; without affinity it prefers all nodes (NODE_MASK_ALL). ValueError if it exists."""
        if domain in self._owners:
            raise ValueError(f"{domain} is there already")
        self._owners[domain] = self._new_owner(range(self.nodes))
        if affinity is not None:
            self.set_affinity(domain, affinity)

    def set_affinity(self, domain: str, affinity: Sequence[int]) -> None:
        """New node-affinity: where *new* memory goes. ValueError if it names no node of the host."""
        nodes = tuple(sorted({node for node in affinity if 0 <= node < self.nodes}))
        if not nodes:
            raise ValueError(f"{domain}: node-affinity {list(affinity)} names no node")
        self._owners[domain].affinity = nodes

    def remove(self, domain: str) -> None:
        """Destroy a domain: its pages are free, its claims void."""
        owner = self._owners.pop(domain)
        self.claims.cancel(domain)
        for node, runs in owner.runs.items():
            for start, pages in runs:
                self._nodes[node].put(start, pages)

    def claim(self, domain: str, pages: int, on_nodes: Mapping[int, int] | None = None) -> None:
        """Claim memory for a domain: `pages` is what it shall have in all, with what it has already; 0 for no claim.

        `on_nodes` are pages still to come of single nodes (rule NODE only); `pages` then are what it may come to have
        anywhere besides. Raises `NotEnoughMemory` where as much is not free and unclaimed, `Refused` for a claim on top
        of another or below what the domain has (EINVAL in Xen).
        """
        if pages == 0 and not on_nodes:
            self.claims.cancel(domain)
            return
        has = self.size_of(domain)
        if self.claims.of(domain):
            raise Refused(f"{domain}: has a claim already; cancel it first")
        if not on_nodes and pages <= has:
            raise Refused(f"{domain}: has {has} pages already, so claiming {pages} claims nothing")
        anywhere = pages - has if pages else 0
        if anywhere < 0:
            raise Refused(f"{domain}: has {has} pages already, more than the {pages} to claim")
        claimed = dict(on_nodes or {})
        for node, wanted in claimed.items():
            unclaimed = self._nodes[node].free_pages - self.claims.on_node[node]
            if wanted > unclaimed:
                raise NotEnoughMemory(domain, _mib(wanted), unclaimed // PAGES_PER_MIB, node)
        wanted = anywhere + sum(claimed.values())
        unclaimed = self.total_free - self.claims.outstanding
        if wanted > unclaimed:
            raise NotEnoughMemory(domain, _mib(wanted), unclaimed // PAGES_PER_MIB)
        self.claims.stake(domain, anywhere, claimed)

    # -- taking

    def alloc(self, owner: str, request: Request = ONE_PAGE) -> Taken | None:
        """One block, as Xen finds it; None where it finds none or may not touch it."""
        claimant = self._claimant(owner, request)
        pages = 1 << request.order
        for zones in self._passes(request):
            if self.claims.host_allows(claimant, self.total_free, pages) < 1:
                continue
            near, far = self._search(owner, request)
            for node in (*near, *far):
                buddy = self._nodes[node]
                if self.claims.node_allows(claimant, node, buddy.free_pages, pages) < 1:
                    continue
                start = buddy.take(request.order, *zones)
                if start is not None:
                    taken = Taken(node, start, pages)
                    self._give(owner, taken, request)
                    return taken
        return None

    def alloc_many(self, owner: str, count: int, request: Request = ONE_PAGE) -> list[Taken]:
        """Up to `count` blocks: the same pages as `alloc` called as often, as runs, each from its upper end down."""
        got: list[Taken] = []
        for zones in self._passes(request):
            left = count - (sum(taken.pages for taken in got) >> request.order)
            left = min(
                left, self.claims.host_allows(self._claimant(owner, request), self.total_free, 1 << request.order)
            )
            if left <= 0:
                continue
            near, far = self._search(owner, request)
            near_limits = {node: self._limit(owner, node, request, zones) for node in near}
            if request.node is not None or owner == XEN:
                shares, last = in_order(near, near_limits, left)
            else:
                shares, last = in_turn(near, near_limits, left)
            if (left := left - sum(shares.values())) and far:
                far_limits = {node: self._limit(owner, node, request, zones) for node in far}
                beyond, last_beyond = in_order(far, far_limits, left)
                shares |= beyond
                last = last_beyond if last_beyond is not None else last
            for node, share in shares.items():
                for start, pages in self._nodes[node].take_many(share, request.order, *zones):
                    got.append(Taken(node, start, pages))
                    self._give(owner, got[-1], request)
            if last is not None:
                self._owners[owner].last = last
        return got

    def take_at(self, owner: str, start: int, pages: int) -> None:
        """Take these very pages, as early boot does (and who restores a heap). ValueError if they are not free."""
        node = self.node_of(start)
        self._nodes[node].take_at(start, pages)
        self._give(owner, Taken(node, start, pages), Request(refcounted=owner != XEN))

    # -- giving back

    def free(self, owner: str, start: int, pages: int, refcounted: bool = True) -> None:
        """Give back these very pages of one run. ValueError if the owner does not have them in one run."""
        node = self.node_of(start)
        runs = self._owners[owner].runs.setdefault(node, [])
        for index, (first, held) in enumerate(runs):
            if first <= start and start + pages <= first + held:
                parts = [(first, start - first), (start + pages, first + held - start - pages)]
                runs[index : index + 1] = [part for part in parts if part[1]]
                self._owners[owner].pages[node] -= pages
                self._owners[owner].uncounted -= 0 if refcounted else pages
                self._nodes[node].put(start, pages)
                return
        raise ValueError(f"{owner} does not have pages {start} to {start + pages - 1}")

    def give_back(self, owner: str, node: int, pages: int) -> int:
        """Give back up to so many pages of a node, those that came last first; how many it was."""
        runs = self._owners[owner].runs.setdefault(node, [])
        given = 0
        while runs and given < pages:
            start, held = runs.pop()
            part = min(held, pages - given)
            # blocks are taken from the upper end down, so the lower end came last
            if part < held:
                runs.append((start + part, held - part))
            self._nodes[node].put(start, part)
            given += part
        self._owners[owner].pages[node] -= given
        return given

    def transfer(self, owner: str, heir: str, node: int, pages: int, refcounted: bool = True) -> int:
        """Let up to so many pages of a node, those that came last first, be another's; how many it was.

        `refcounted` false: of those that do not count as the owner's memory.
        """
        runs = self._owners[owner].runs.setdefault(node, [])
        theirs = self._owners[heir].runs.setdefault(node, [])
        given = 0
        while runs and given < pages:
            start, held = runs.pop()
            part = min(held, pages - given)
            if part < held:
                runs.append((start + part, held - part))
            theirs.append((start, part))
            given += part
        self._owners[owner].pages[node] -= given
        self._owners[owner].uncounted -= 0 if refcounted else given
        self._owners[heir].pages[node] += given
        return given

    def rename(self, domain: str, name: str) -> None:
        """Give a domain another name. ValueError if it is taken, or claims are outstanding."""
        if name in self._owners or self.claims.of(domain):
            raise ValueError(f"{domain} cannot become {name}")
        self._owners[name] = self._owners.pop(domain)

    def node_of(self, page: int) -> int:
        """The node that a page is of. ValueError if it is of none."""
        for each in self._range_of:
            if each.start <= page < each.end:
                return each.node
        raise ValueError(f"page {page} is of no node")

    # -- within

    def _new_owner(self, affinity: Sequence[int]) -> _Owner:
        return _Owner(tuple(affinity), np.zeros(self.nodes, dtype=np.int64), {})

    def _claimant(self, owner: str, request: Request) -> str | None:
        return owner if request.refcounted and owner != XEN else None

    def _passes(self, request: Request) -> Iterator[tuple[int, int]]:
        """Zones to search, one search over all nodes after the other (`alloc_domheap_pages`)."""
        highest = min(request.address_bits - PAGE_SHIFT, ZONES - 1) if request.address_bits else ZONES - 1
        spare = 0 < self.dma_zone < highest
        if spare:
            yield self.dma_zone + 1, highest
        if not (request.no_dma and self.dma_zone):
            yield 1, highest

    def _search(self, owner: str, request: Request) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The nodes in the order that `get_free_buddy` asks them: the preferred ones, and then the others."""
        preferred = self._owners[owner].affinity
        named = request.node
        if named is not None and request.exact:
            return (named,), ()
        others = tuple(node for node in range(self.nodes) if node not in preferred and node != named)
        if named is not None and named not in preferred:
            near = (named, *preferred)
        elif named is not None:
            near = cycle(preferred, named)
        elif owner == XEN:
            near = cycle(preferred, self.boot_node)
        else:
            near = cycle(preferred, self._owners[owner].last + 1)
        return near, () if request.exact else others

    def _limit(self, owner: str, node: int, request: Request, zones: tuple[int, int]) -> int:
        buddy = self._nodes[node]
        allowed = self.claims.node_allows(self._claimant(owner, request), node, buddy.free_pages, 1 << request.order)
        return min(buddy.supply(request.order, *zones), max(allowed, 0))

    def _give(self, owner: str, taken: Taken, request: Request) -> None:
        record = self._owners[owner]
        record.pages[taken.node] += taken.pages
        record.last = taken.node
        runs = record.runs.setdefault(taken.node, [])
        if runs and taken.start + taken.pages == runs[-1][0]:
            runs[-1] = (taken.start, taken.pages + runs[-1][1])
        else:
            runs.append((taken.start, taken.pages))
        if request.refcounted:
            if owner != XEN:
                self.claims.redeem(owner, taken.node, taken.pages)
        else:
            record.uncounted += taken.pages


def _mib(pages: int) -> int:
    return -(-pages // PAGES_PER_MIB)
