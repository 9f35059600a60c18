"""The heap against a brute model: an array with one owner for every page, and Xen's search written out naively."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domicile.errors import NotEnoughMemory, Refused
from domicile.simulator.memory.claims import ClaimRule
from domicile.simulator.memory.heap import XEN, Heap, Request, Taken
from domicile.simulator.memory.layout import Range

MAX_ORDER = 5
DOMAINS = ("a", "b", "c")
RESERVED, NOBODY = -2, -1
NUMBER = {owner: index for index, owner in enumerate((*DOMAINS, XEN))}

requests = st.builds(
    Request,
    order=st.integers(0, 4),
    node=st.none() | st.integers(0, 2),
    exact=st.booleans(),
    no_dma=st.booleans(),
    address_bits=st.sampled_from([0, 0, 0, 17, 19]),
    refcounted=st.sampled_from([True, True, True, False]),
)


class Brute:
    """Every page of a host: its node (-1: none) and its owner."""

    def __init__(self, ranges: list[Range], nodes: int, dma_zone: int) -> None:
        end = max(each.end for each in ranges)
        self.node = np.full(end, -1)
        for each in ranges:
            self.node[each.start : each.end] = each.node
        self.owner = np.full(end, NOBODY)
        self.owner[0] = RESERVED
        self.nodes = nodes
        self.dma_zone = dma_zone
        self.last: dict[str, int] = {}

    def free_blocks(self, node: int) -> set[tuple[int, int]]:
        """Free blocks that are not half of a larger one: every order's aligned blocks without an owner."""
        free = np.zeros(-(-len(self.node) // (2 << MAX_ORDER)) * (2 << MAX_ORDER), dtype=bool)
        free[: len(self.node)] = (self.node == node) & (self.owner == NOBODY)
        whole = [free.reshape(-1, 1 << order).all(axis=1) for order in range(MAX_ORDER + 1)]
        blocks = set()
        for order, mine in enumerate(whole):
            merged = np.repeat(whole[order + 1], 2) if order < MAX_ORDER else np.zeros_like(mine)
            blocks |= {(int(index) << order, order) for index in np.flatnonzero(mine & ~merged)}
        return blocks

    def search(self, owner: str, affinity: tuple[int, ...], request: Request) -> list[int]:
        """Every node that is asked, with repetitions, as the loop in get_free_buddy goes."""
        mask = set(affinity)
        node = request.node
        if node is None:
            node = 0 if owner == XEN else self.last.get(owner, 0) + 1
            while node not in mask:
                node = (node + 1) % self.nodes if node < self.nodes else 0
        asked = [node]
        if request.exact and request.node is not None:
            return asked
        if node not in mask:
            node = min(mask)
            asked.append(node)
        first = node
        while (node := (node + 1) % self.nodes) != first:
            if node in mask:
                asked.append(node)
        if not request.exact:
            asked += sorted(set(range(self.nodes)) - mask)
        return asked

    def possible(self, owner: str, affinity: tuple[int, ...], request: Request, allowed: list[bool]) -> set[int]:
        """The first pages of the blocks that may be given: equals of the first node and zone that have any."""
        top = request.address_bits - 12 if request.address_bits else 40
        passes = [(self.dma_zone + 1, top)] if 0 < self.dma_zone < top else []
        if not (request.no_dma and self.dma_zone):
            passes.append((1, top))
        for low, high in passes:
            for node in self.search(owner, affinity, request):
                if not allowed[node]:
                    continue
                blocks = self.free_blocks(node)
                for zone in range(high, low - 1, -1):
                    fits = [b for b in blocks if int(b[0]).bit_length() == zone and b[1] >= request.order]
                    smallest = min((order for _, order in fits), default=None)
                    if smallest is not None:
                        size = 1 << smallest
                        return {s + size - (1 << request.order) for s, order in fits if order == smallest}
        return set()


class HeapAgainstBrute(RuleBasedStateMachine):
    @initialize(
        sizes=st.lists(st.integers(0, 90), min_size=3, max_size=3).filter(sum),
        start=st.integers(0, 40),
        gap=st.integers(0, 9),
        claim_rule=st.sampled_from(ClaimRule),
        keep=st.booleans(),
    )
    def boot(self, sizes: list[int], start: int, gap: int, claim_rule: ClaimRule, keep: bool) -> None:
        ranges = []
        for node, pages in enumerate(sizes):
            if pages:
                ranges.append(Range(node, start, pages))
            start += pages + gap
        self.heap = Heap.of(ranges, 3, claim_rule, keep, MAX_ORDER)
        self.brute = Brute(ranges, 3, self.heap.dma_zone)
        self.claimed = {domain: dict.fromkeys((None, 0, 1, 2), 0) for domain in DOMAINS}
        self.uncounted = dict.fromkeys(DOMAINS, 0)
        for domain in DOMAINS:
            self.heap.add(domain)

    def free_on(self, node: int) -> int:
        return sum(1 << order for _, order in self.brute.free_blocks(node))

    def claims_permit(self, owner: str, request: Request, node: int | None) -> bool:
        """Whether a request leaves the others what was promised to them, as each rule puts it."""
        size = 1 << request.order
        counts = owner != XEN and request.refcounted
        own = self.claimed[owner] if counts else dict.fromkeys((None, 0, 1, 2), 0)
        if node is not None:
            others = sum(each[node] for each in self.claimed.values()) - own[node]
            return size <= self.free_on(node) - others
        total = sum(self.free_on(each) for each in range(3))
        promised = sum(sum(each.values()) for each in self.claimed.values())
        if self.heap.claims.rule is ClaimRule.NODE:
            return size <= total - promised + sum(own.values())
        return promised + size <= total or sum(own.values()) >= size

    def redeem(self, owner: str, taken: Taken) -> None:
        left = taken.pages
        for place in (taken.node, None, 0, 1, 2):
            part = min(left, self.claimed[owner][place])
            self.claimed[owner][place] -= part
            left -= part

    @rule(owner=st.sampled_from((*DOMAINS, XEN)), request=requests)
    def alloc(self, owner: str, request: Request) -> None:
        allowed = [self.claims_permit(owner, request, node) for node in range(3)]
        possible: set[int] = set()
        if self.claims_permit(owner, request, None):
            affinity = self.heap.affinity_of(owner)
            possible = self.brute.possible(owner, affinity, request, allowed)
        got = self.heap.alloc(owner, request)
        if got is None:
            assert not possible
            return
        assert got.start in possible
        assert got.pages == 1 << request.order
        if request.exact and request.node is not None:
            assert got.node == request.node
        self.brute.owner[got.start : got.start + got.pages] = NUMBER[owner]
        self.brute.last[owner] = got.node
        if owner != XEN and request.refcounted:
            self.redeem(owner, got)
        elif owner != XEN:
            self.uncounted[owner] += got.pages

    @rule(owner=st.sampled_from((*DOMAINS, XEN)), request=requests, count=st.integers(0, 60))
    def many_are_many_times_one(self, owner: str, request: Request, count: int) -> None:
        one_by_one, at_once = self.heap.copy(), self.heap.copy()
        single = [one_by_one.alloc(owner, request) for _ in range(count)]
        together = at_once.alloc_many(owner, count, request)
        assert pages_of_each([each for each in single if each]) == pages_of_each(together)
        follower = replace(request, refcounted=False, node=None, exact=False)
        for node in range(3):
            assert one_by_one.free_blocks(node) == at_once.free_blocks(node)
        assert one_by_one.claims == at_once.claims
        assert one_by_one.alloc(owner, follower) == at_once.alloc(owner, follower)

    @rule(domain=st.sampled_from(DOMAINS), nodes=st.sets(st.integers(0, 2), min_size=1))
    def affinity(self, domain: str, nodes: set[int]) -> None:
        self.heap.set_affinity(domain, sorted(nodes))

    @rule(domain=st.sampled_from(DOMAINS), data=st.data())
    def free_some(self, domain: str, data: st.DataObject) -> None:
        runs = [run for node in range(3) for run in self.heap.runs_of(domain, node)]
        if not runs:
            return
        first, held = data.draw(st.sampled_from(runs))
        start = data.draw(st.integers(first, first + held - 1))
        pages = data.draw(st.integers(1, first + held - start))
        self.heap.free(domain, start, pages)
        self.brute.owner[start : start + pages] = NOBODY

    @rule(domain=st.sampled_from(DOMAINS), node=st.integers(0, 2), pages=st.integers(0, 40))
    def give_back(self, domain: str, node: int, pages: int) -> None:
        has = int(self.heap.pages_of(domain)[node])
        assert self.heap.give_back(domain, node, pages) == min(has, pages)
        held = np.zeros(len(self.brute.owner), dtype=bool)
        for start, length in self.heap.runs_of(domain, node):
            held[start : start + length] = True
        mine = (self.brute.owner == NUMBER[domain]) & (self.brute.node == node)
        assert not (held & ~mine).any()
        self.brute.owner[mine & ~held] = NOBODY

    @rule(owner=st.sampled_from((*DOMAINS, XEN)), data=st.data())
    def take_at(self, owner: str, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(self.brute.node) - 1))
        pages = data.draw(st.integers(1, 20))
        here = slice(start, start + pages)
        node = self.brute.node[start]
        free = start + pages <= len(self.brute.node) and bool(
            ((self.brute.owner[here] == NOBODY) & (self.brute.node[here] == node)).all()
        )
        # the heap hands out named pages at boot, before there are claims
        if self.heap.claims.outstanding or node < 0:
            return
        try:
            self.heap.take_at(owner, start, pages)
        except ValueError:
            assert not free
            return
        assert free
        self.brute.owner[here] = NUMBER[owner]
        self.brute.last[owner] = int(node)

    @rule(
        domain=st.sampled_from(DOMAINS), heir=st.sampled_from(DOMAINS), node=st.integers(0, 2), pages=st.integers(0, 9)
    )
    def transfer(self, domain: str, heir: str, node: int, pages: int) -> None:
        if domain == heir:
            return
        expected = min(pages, int(self.heap.pages_of(domain)[node]))
        assert self.heap.transfer(domain, heir, node, pages) == expected
        for start, length in self.heap.runs_of(heir, node):
            here = self.brute.owner[start : start + length]
            assert set(here.tolist()) <= {NUMBER[domain], NUMBER[heir]}
            here[:] = NUMBER[heir]

    @rule(domain=st.sampled_from(DOMAINS))
    def destroy(self, domain: str) -> None:
        self.heap.remove(domain)
        self.heap.add(domain)
        self.brute.owner[self.brute.owner == NUMBER[domain]] = NOBODY
        self.brute.last.pop(domain, None)
        self.claimed[domain] = dict.fromkeys((None, 0, 1, 2), 0)
        self.uncounted[domain] = 0

    @rule(domain=st.sampled_from(DOMAINS), pages=st.integers(0, 120))
    def claim_of_the_host(self, domain: str, pages: int) -> None:
        has = int(self.heap.pages_of(domain).sum()) - self.uncounted[domain]
        own = sum(self.claimed[domain].values())
        unclaimed = sum(self.free_on(node) for node in range(3)) - self.heap.claims.outstanding
        try:
            self.heap.claim(domain, pages)
        except NotEnoughMemory:
            assert not own
            assert pages - has > unclaimed
            return
        except Refused:
            assert pages
            assert own or pages <= has
            return
        assert pages == 0 or pages - has <= unclaimed
        self.claimed[domain] = dict.fromkeys((None, 0, 1, 2), 0)
        if pages:
            self.claimed[domain][None] = pages - has

    @precondition(lambda self: self.heap.claims.rule is ClaimRule.NODE)
    @rule(domain=st.sampled_from(DOMAINS), pages=st.lists(st.integers(0, 50), min_size=3, max_size=3).filter(sum))
    def claim_of_nodes(self, domain: str, pages: list[int]) -> None:
        fits = (
            all(
                pages[node] <= self.free_on(node) - sum(each[node] for each in self.claimed.values())
                for node in range(3)
            )
            and sum(pages) <= sum(self.free_on(node) for node in range(3)) - self.heap.claims.outstanding
        )
        own = sum(self.claimed[domain].values())
        try:
            self.heap.claim(domain, 0, dict(enumerate(pages)))
        except Refused:
            assert own or not fits
            return
        assert fits
        assert not own
        self.claimed[domain] = {None: 0, **dict(enumerate(pages))}

    @invariant()
    def agrees(self) -> None:
        for node in range(3):
            blocks = self.heap.free_blocks(node)
            assert len(set(blocks)) == len(blocks)
            assert set(blocks) == self.brute.free_blocks(node)
            assert self.heap.free_pages[node] == self.free_on(node) >= 0
            assert self.heap.claims.on_node[node] == sum(each[node] for each in self.claimed.values())
            # the promise itself: what is claimed is there
            assert self.heap.claims.on_node[node] <= self.free_on(node)
        assert self.heap.claims.outstanding == sum(sum(each.values()) for each in self.claimed.values())
        assert self.heap.claims.outstanding <= self.heap.total_free
        for owner in self.heap.owners:
            here = self.brute.node[self.brute.owner == NUMBER[owner]]
            assert self.heap.pages_of(owner).tolist() == np.bincount(here, minlength=3).tolist()
            for node in range(3):
                assert sum(held for _, held in self.heap.runs_of(owner, node)) == self.heap.pages_of(owner)[node]


def pages_of_each(taken: list[Taken]) -> list[tuple[int, list[int]]]:
    """By node, the single pages in the order taken within it."""
    by_node: dict[int, list[int]] = {}
    for each in taken:
        by_node.setdefault(each.node, []).extend(range(each.start + each.pages - 1, each.start - 1, -1))
    return sorted(by_node.items())


TestHeapAgainstBrute = HeapAgainstBrute.TestCase
TestHeapAgainstBrute.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
