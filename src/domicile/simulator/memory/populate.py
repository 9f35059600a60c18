"""A guest's memory as libxc's domain builder asks for it.

Source: tools/libs/guest/xg_dom_x86.c `meminit_pv` and `meminit_hvm`, Xen 4.17. PV: 2 MiB blocks, then single pages.
HVM and PVH: 1 GiB blocks wherever a whole aligned GiB of the guest's addresses is memory, else 2 MiB, else pages;
HVM's first 2 MiB are pages around the VGA hole, which gets none. A size that fails is followed by the next smaller one,
on all nodes. Each vnode's memory is asked for from exactly its pnode, but for HVM's 160 pages below the hole: they go
by node-affinity even then (seen on 4.17: 40 pages of such a guest on every node of four).

libxc asks in batches and repeats the larger size after each; as free memory only shrinks meanwhile, that finds nothing
that the first failure did not exclude, and all requests of a size can be made at once. Left out: populate on demand,
and what the guest gets beside its memory (video memory, start info: a few pages).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from domicile.errors import NotEnoughMemory
from domicile.simulator.memory.heap import Heap, Request, Taken
from domicile.state.model import PAGES_PER_MIB, DomainType

__all__ = ["Part", "addressed", "blocks_of_guest", "populate", "take_overhead"]

GIB_ORDER, SUPERPAGE_ORDER = 18, 9
SMALLER = {GIB_ORDER: SUPERPAGE_ORDER, SUPERPAGE_ORDER: 0}

FOUR_GIB = 1 << 20
HOLE_START = {DomainType.HVM: 0xF0000, DomainType.PVH: 0xFEE00}
"""First page without memory below 4 GiB: libxl's default for HVM (HVM_BELOW_4G_MMIO_START), the local APIC for PVH."""

VGA_HOLE = (0xA0, 0xC0)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a guest's memory: a vnode, or all of it. `pnode`: the node it must be of, None for any."""

    pages: int
    pnode: int | None = None


def populate(heap: Heap, domain: str, kind: DomainType, parts: Sequence[Part]) -> npt.NDArray[np.int64]:
    """Take a new guest's memory from the heap. Returns pages by part and node (len(parts) x N).

    The domain has to be in the heap, with its node-affinity. Raises `NotEnoughMemory`; nothing is taken then, and its
    claims are as before.
    """
    by_part = np.zeros((len(parts), heap.nodes), dtype=np.int64)
    taken: list[Taken] = []
    claims = heap.claims.copy()
    for index, order, count, anywhere in blocks_of_guest(kind, [part.pages for part in parts]):
        pnode = None if anywhere else parts[index].pnode
        short = count << order
        for got in _take(heap, domain, order, count, pnode):
            taken.append(got)
            by_part[index, got.node] += got.pages
            short -= got.pages
        if short:
            for each in taken:
                heap.free(domain, each.start, each.pages)
            heap.claims = claims
            raise NotEnoughMemory(domain, _mib(sum(part.pages for part in parts)), _available(heap, pnode), pnode)
    return by_part


def take_overhead(heap: Heap, domain: str, pages: int) -> npt.NDArray[np.int64]:
    """Take a domain's shadow or HAP pool: single pages by its node-affinity that do not count as its memory.

    Returns pages by node (N). Raises `NotEnoughMemory`; nothing is taken then. libxl does this before the guest's own
    memory (`libxl__arch_domain_create`, and with it before any claim).
    """
    by_node = np.zeros(heap.nodes, dtype=np.int64)
    taken = heap.alloc_many(domain, pages, Request(refcounted=False))
    for each in taken:
        by_node[each.node] += each.pages
    if by_node.sum() < pages:
        for each in taken:
            heap.free(domain, each.start, each.pages, refcounted=False)
        raise NotEnoughMemory(domain, _mib(pages), _available(heap, None))
    return by_node


def addressed(kind: DomainType, pages: int) -> int:
    """How large a guest is asked for that comes to have so many pages: HVM's VGA hole counts, and gets none."""
    hole = VGA_HOLE[1] - VGA_HOLE[0]
    return pages + hole if kind is DomainType.HVM and pages + hole > VGA_HOLE[1] else pages


def blocks_of_guest(kind: DomainType, parts: Sequence[int]) -> Iterator[tuple[int, int, int, bool]]:
    """(part, order, count, anywhere): the blocks of a guest whose memory is in parts of so many pages, in the order
    asked for; `anywhere` where even a vnode's come by node-affinity.
    """
    hole = HOLE_START.get(kind, FOUR_GIB)
    start = 0
    for part, pages in enumerate(parts):
        left = pages
        if kind is DomainType.HVM and start == 0 and left > VGA_HOLE[1]:
            yield part, 0, VGA_HOLE[0], True
            start, left = VGA_HOLE[1], left - VGA_HOLE[1]
        while left:
            if hole <= start < FOUR_GIB:
                start = FOUR_GIB
            length = min(left, hole - start) if start < hole else left
            for order, count in _range(start, start + length, GIB_ORDER if kind is not DomainType.PV else 9):
                yield part, order, count, False
            start += length
            left -= length


def _range(start: int, end: int, order: int) -> Iterator[tuple[int, int]]:
    """(order, count) of an address range: the smaller blocks up to where a larger one is aligned, and behind it."""
    size = 1 << order
    first, last = -(-start // size) * size, end // size * size
    if order == 0 or first >= last:
        if order:
            yield from _range(start, end, SMALLER[order])
        elif end > start:
            yield 0, end - start
        return
    yield from _range(start, first, SMALLER[order])
    yield order, (last - first) >> order
    yield from _range(last, end, SMALLER[order])


def _take(heap: Heap, domain: str, order: int, count: int, pnode: int | None) -> Iterator[Taken]:
    """So many blocks, or the same in smaller ones, as far as there are any."""
    got = heap.alloc_many(domain, count, Request(order, node=pnode, exact=pnode is not None))
    yield from got
    left = (count << order) - sum(each.pages for each in got)
    if left and order:
        smaller = SMALLER[order]
        yield from _take(heap, domain, smaller, left >> smaller, pnode)


def _available(heap: Heap, node: int | None) -> int:
    """MiB free and not claimed, of the host or of a node."""
    if node is None:
        return max(heap.total_free - heap.claims.outstanding, 0) // PAGES_PER_MIB
    return max(int(heap.free_pages[node]) - heap.claims.on_node[node], 0) // PAGES_PER_MIB


def _mib(pages: int) -> int:
    return -(-pages // PAGES_PER_MIB)
