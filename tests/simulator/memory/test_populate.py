"""libxc's builder: which blocks a guest asks for, and what it gets on small, known hosts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.errors import NotEnoughMemory
from domicile.simulator.memory.heap import Heap, Request
from domicile.simulator.memory.layout import HOLE_END, HOLE_START, Range, dma_bits, lay_out
from domicile.simulator.memory.populate import Part, blocks_of_guest, populate, take_overhead
from domicile.state.model import PAGES_PER_MIB, DomainType

GIB = 1024 * PAGES_PER_MIB


def host(*gib: float, keep_for_dma: bool = True) -> Heap:
    return Heap.of(lay_out([int(each * GIB) for each in gib]), keep_for_dma=keep_for_dma)


def asked(kind: DomainType, *parts: int) -> list[tuple[int, int, int]]:
    return [(part, order, count) for part, order, count, _ in blocks_of_guest(kind, parts)]


def as_libxc_goes(kind: DomainType, pages: int) -> dict[int, int]:
    """Order to blocks, by meminit_hvm's and meminit_pv's own loops, every request granted."""
    count = {18: 0, 9: 0, 0: 0}
    if kind is DomainType.PV:
        return {18: 0, 9: pages >> 9, 0: pages & 511}
    hole = 0xF0000 if kind is DomainType.HVM else 0xFEE00
    ranges = [(0, min(pages, hole))] + ([(1 << 20, (1 << 20) + pages - hole)] if pages > hole else [])
    if kind is DomainType.HVM:
        count[0] += 0xA0
    for start, end in ranges:
        at = 0xC0 if start == 0 and kind is DomainType.HVM else start
        while at < end:
            left = min(end - at, 1 << 18)
            if at & 0x3FFFF and left > -at & 0x3FFFF:
                left = -at & 0x3FFFF
            if not (left | at) & 0x3FFFF and not at < 1 << 20 < at + left + (1 << 20) - hole:
                count[18] += 1
                at += left
                continue
            left = min(left, 2048)
            if at & 511 and left > -at & 511:
                left = -at & 511
            elif left & 511 and left > 512:
                left &= ~511
            order = 9 if not (left | at) & 511 else 0
            count[order] += left >> order
            at += left
    return count


@given(kind=st.sampled_from(DomainType), mib=st.integers(2, 9000), odd=st.integers(0, 511))
def test_the_blocks_are_those_that_libxc_asks_for(kind: DomainType, mib: int, odd: int) -> None:
    pages = mib * PAGES_PER_MIB + odd
    found = {18: 0, 9: 0, 0: 0}
    for _, order, count, _ in blocks_of_guest(kind, [pages]):
        found[order] += count
    assert found == as_libxc_goes(kind, pages)


def test_a_pvh_guest_of_5_gib_has_a_gap_below_4_gib() -> None:
    # 3 GiB whole, then up to the local APIC: 1006 MiB in 2 MiB blocks, and the rest above 4 GiB
    assert asked(DomainType.PVH, 5 * GIB) == [(0, 18, 3), (0, 9, 503), (0, 18, 1), (0, 9, 9)]


def test_a_pv_guest_takes_2_mib_blocks() -> None:
    assert asked(DomainType.PV, 3 * GIB + 5) == [(0, 9, 1536), (0, 0, 5)]


def test_vnodes_follow_each_other_in_the_guests_addresses() -> None:
    # the second begins at 1.5 GiB: 2 MiB blocks up to the next whole GiB
    assert asked(DomainType.PVH, GIB * 3 // 2, GIB * 3 // 2) == [(0, 18, 1), (0, 9, 256), (1, 9, 256), (1, 18, 1)]


def test_round_robin_begins_after_the_last_node_that_gave() -> None:
    heap = host(8, 8, 8, keep_for_dma=False)
    heap.add("a")
    by_part = populate(heap, "a", DomainType.PVH, [Part(2 * GIB)])
    # cycle_node() begins with the node after `last_alloc_node`, which is 0 in a new domain
    assert by_part.tolist() == [[0, GIB, GIB]]


def test_a_large_block_elsewhere_comes_before_small_blocks_at_home() -> None:
    heap = host(8, 8, keep_for_dma=False)
    heap.add("crumbs", [1])
    assert len(heap.alloc_many("crumbs", 8, Request(17, node=1, exact=True))) > 0
    for start, _ in heap.runs_of("crumbs", 1):
        heap.free("crumbs", start, 1 << 16)
    left = heap.free_pages[1]
    while heap.supply(1, 18):
        heap.alloc("crumbs", Request(18, node=1, exact=True))
    assert 0 < heap.free_pages[1] <= left
    heap.add("guest", [1])
    assert populate(heap, "guest", DomainType.PVH, [Part(GIB)]).tolist() == [[GIB, 0]]


def test_memory_kept_for_dma_comes_after_that_of_all_other_nodes() -> None:
    heap = host(8, 4)
    low = 1 << 19  # the quarter of node 0's 10 GiB, rounded up to a power of two, is 4 GiB: all of 0 to 2 GiB
    assert dma_bits(lay_out([8 * GIB, 4 * GIB])) == 32
    heap.add("guest", [0])
    by_part = populate(heap, "guest", DomainType.PV, [Part(8 * GIB)])
    assert by_part.tolist() == [[8 * GIB - low, low]]


def test_one_node_keeps_nothing_for_dma() -> None:
    assert dma_bits(lay_out([8 * GIB])) == 0
    assert dma_bits([Range(0, HOLE_END, GIB), Range(1, HOLE_END + GIB, GIB)]) == 0


def test_the_hole_belongs_to_nobody() -> None:
    ranges = lay_out([GIB, 2 * GIB, GIB])
    assert ranges == (
        Range(0, 0, GIB),
        Range(1, GIB, GIB),
        Range(1, HOLE_END, GIB),
        Range(2, HOLE_END + GIB, GIB),
    )
    assert not any(each.start < HOLE_END and each.end > HOLE_START for each in ranges)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    guests=st.lists(
        st.tuples(st.sampled_from(DomainType), st.integers(3, 6000), st.none() | st.integers(0, 1)), max_size=6
    ),
)
def test_pages_are_conserved_and_a_refusal_takes_nothing(
    sizes: list[int], guests: list[tuple[DomainType, int, int | None]]
) -> None:
    heap = host(*sizes)
    total = heap.free_pages.copy()
    for index, (kind, mib, pnode) in enumerate(guests):
        name = f"guest{index}"
        heap.add(name, None if pnode is None else [pnode])
        before = heap.free_pages
        try:
            by_part = populate(heap, name, kind, [Part(mib * PAGES_PER_MIB, pnode)])
        except NotEnoughMemory:
            assert (heap.free_pages == before).all()
            assert not heap.pages_of(name).any()
            continue
        missing = 32 if kind is DomainType.HVM else 0
        assert by_part.sum() == mib * PAGES_PER_MIB - missing
        assert (heap.pages_of(name) == by_part.sum(axis=0)).all()
        assert pnode is None or by_part[0, pnode] >= by_part.sum() - 160
        assert pnode is None or kind is DomainType.HVM or by_part[0, pnode] == by_part.sum()
    owned = sum((heap.pages_of(owner) for owner in heap.owners), np.zeros(len(sizes), dtype=np.int64))
    assert (heap.free_pages + owned == total).all()
    for owner in heap.owners[1:]:
        heap.remove(owner)
    assert (heap.free_pages == total).all()
    assert all(heap.free_blocks(node) for node in range(len(sizes)))


def test_a_refusal_keeps_the_claim() -> None:
    heap = host(2, 2, keep_for_dma=False)
    heap.add("a")
    heap.claim("a", 3 * GIB)
    with pytest.raises(NotEnoughMemory, match="node 1"):
        populate(heap, "a", DomainType.PV, [Part(3 * GIB, 1)])
    assert heap.claims.of("a") == 3 * GIB


def test_a_real_guest_with_two_vnodes() -> None:
    """Xen 4.17.7, four nodes of 2 GiB, HVM, two vnodes of 256 MiB on nodes 1 and 2; debug key `u` printed these."""
    seen = np.array([43, 65394, 65586, 44])
    heap = host(2, 2, 2, 2)
    heap.add("guest")
    found = populate(heap, "guest", DomainType.HVM, [Part(65536, 1), Part(65536, 2)]).sum(axis=0)
    assert found.tolist() == [40, 65384, 65576, 40]
    # the rest are the 27 pages that are left out: special pages, 131,067 in all
    assert (seen - found).min() >= 0
    assert (seen - found).sum() == 27


def test_claimed_memory_is_not_for_others() -> None:
    heap = host(4, 4, keep_for_dma=False)
    heap.add("first", [0])
    heap.add("second", [1])
    heap.claim("first", 5 * GIB)
    with pytest.raises(NotEnoughMemory):
        populate(heap, "second", DomainType.PV, [Part(4 * GIB)])
    populate(heap, "second", DomainType.PV, [Part(2 * GIB)])
    # the claim is on the host: it is kept, and yet a GiB of it is on the other node
    assert populate(heap, "first", DomainType.PV, [Part(5 * GIB)])[0, 1] >= GIB
    assert heap.claims.outstanding == 0


def test_overhead_does_not_redeem_a_claim() -> None:
    heap = host(4, 4, keep_for_dma=False)
    heap.add("a", [1])
    heap.claim("a", GIB)
    assert take_overhead(heap, "a", 100).tolist() == [0, 100]
    assert heap.claims.of("a") == GIB
    with pytest.raises(NotEnoughMemory):
        take_overhead(heap, "a", 8 * GIB)
    assert heap.pages_of("a").tolist() == [0, 100]


def test_a_terabyte_of_64_nodes_is_small() -> None:
    heap = Heap.of(lay_out([16 * GIB] * 64))
    assert sum(len(heap.free_blocks(node)) for node in range(64)) < 1200
    for index in range(1000):
        heap.add(f"g{index}", [index % 64])
        populate(heap, f"g{index}", DomainType.PV, [Part(GIB + 7)])
    runs = sum(len(heap.runs_of(f"g{index}", node)) for index in range(1000) for node in range(64))
    assert runs < 10_000
    assert heap.copy().free_pages.tolist() == heap.free_pages.tolist()
