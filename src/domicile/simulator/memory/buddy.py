"""The free memory of one node, as Xen keeps it: lists of free blocks by zone and order.

Source: xen/common/page_alloc.c (`get_free_buddy`, `alloc_heap_pages`, `free_heap_pages`), Xen 4.17. A block of order k
is 2^k pages, aligned to its size. A zone holds the pages whose number has the same highest bit, so that a search from
the highest zone down keeps low memory for who needs it. Within a list the block freed last is taken first; a larger
block is split from its upper end.

Only free blocks are kept: a terabyte in one piece is 1024 of them. `take_many` is `take` repeated, without the
repetition: as long as one block lasts, nobody looks at another, so n blocks are its upper end.

Left out: scrubbing (Xen hands out scrubbed blocks before dirty ones of the same order), offlined and colored pages.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["MAX_ORDER", "ZONES", "Buddy", "Run", "blocks_of", "zone_of"]

MAX_ORDER = 18
"""The largest block on x86, 1 GiB: CONFIG_PAGEALLOC_MAX_ORDER in xen/arch/x86/include/asm/config.h, Xen 4.17."""

ZONES = 52 - 12 + 1
"""NR_ZONES on x86-64 (PADDR_BITS 52). Zone 0 is Xen's own heap where that is separate, which it is not here."""

Run = tuple[int, int]
"""Consecutive pages: the first, and how many."""


def zone_of(page: int) -> int:
    """The zone of a page."""
    return page.bit_length() or 1


def blocks_of(start: int, pages: int, max_order: int = MAX_ORDER) -> Iterator[tuple[int, int]]:
    """(first page, order) of the aligned blocks that a run consists of, ascending."""
    end = start + pages
    while start < end:
        order = min(max_order, (end - start).bit_length() - 1)
        if start:
            order = min(order, (start & -start).bit_length() - 1)
        yield start, order
        start += 1 << order


class Buddy:
    """Free blocks of one node. `free_pages` is their sum."""

    __slots__ = ("_free", "_lists", "free_pages", "max_order")

    def __init__(self, max_order: int = MAX_ORDER) -> None:
        self.max_order = max_order
        self.free_pages = 0
        # zone -> free pages; zone -> order -> the blocks' first pages, the one to be taken next at the end
        self._free: dict[int, int] = {}
        self._lists: dict[int, list[dict[int, None]]] = {}

    def copy(self) -> Buddy:
        """An independent copy; costs as much as there are free blocks."""
        other = Buddy(self.max_order)
        other.free_pages = self.free_pages
        other._free = self._free.copy()
        other._lists = {zone: [blocks.copy() for blocks in lists] for zone, lists in self._lists.items()}
        return other

    def blocks(self) -> Iterator[tuple[int, int]]:
        """(first page, order) of every free block, by zone and order, the oldest in its list first."""
        for zone in sorted(self._lists):
            for order, blocks in enumerate(self._lists[zone]):
                for start in blocks:
                    yield start, order

    def put(self, start: int, pages: int) -> None:
        """Make a run free, merged with what is free beside it. The caller knows that it is not free already.

        Page 0 must not be among them: Xen keeps it back so that no block ever crosses zones.
        """
        if start == 0:
            raise ValueError("page 0 is not the heap's")
        for first, order in blocks_of(start, pages, self.max_order):
            self._put_block(first, order)

    def _put_block(self, start: int, order: int) -> None:
        zone = zone_of(start)
        lists = self._lists.get(zone)
        if lists is None:
            lists = self._lists[zone] = [{} for _ in range(self.max_order + 1)]
            self._free[zone] = 0
        self._free[zone] += 1 << order
        self.free_pages += 1 << order
        while order < self.max_order:
            neighbour = start ^ (1 << order)
            if neighbour not in lists[order]:
                break
            del lists[order][neighbour]
            start = min(start, neighbour)
            order += 1
        lists[order][start] = None

    def take(self, order: int, zone_lo: int = 1, zone_hi: int = ZONES - 1) -> int | None:
        """The first page of a block, taken from the highest zone that has one; None where none has."""
        runs = self.take_many(1, order, zone_lo, zone_hi)
        return runs[0][0] if runs else None

    def take_many(self, count: int, order: int, zone_lo: int = 1, zone_hi: int = ZONES - 1) -> list[Run]:
        """Up to `count` blocks, as runs in the order taken (each run from its upper end down)."""
        runs: list[Run] = []
        for zone in sorted(self._lists, reverse=True):
            if not zone_lo <= zone <= zone_hi:
                continue
            lists = self._lists[zone]
            while count > 0 and self._free[zone] >= 1 << order:
                found = next((j for j in range(order, self.max_order + 1) if lists[j]), None)
                if found is None:
                    break
                start, _ = lists[found].popitem()
                taken = min(count, 1 << (found - order)) << order
                rest = (1 << found) - taken
                self._free[zone] -= taken
                self.free_pages -= taken
                runs.append((start + rest, taken))
                count -= taken >> order
                # the rest is the block's lower end: one block for each bit of its length, the larger the lower
                for part in range(found - 1, -1, -1):
                    if rest >> part & 1:
                        lists[part][start] = None
                        start += 1 << part
        return runs

    def take_at(self, start: int, pages: int) -> None:
        """Take these very pages. ValueError if they are not all free; nothing is taken then."""
        holders = [
            (block, order, self._holder(block, order)) for block, order in blocks_of(start, pages, self.max_order)
        ]
        for block, order, holder in holders:
            if holder is None:
                raise ValueError(f"pages {block} to {block + (1 << order) - 1} are not free")
        for block, order, _ in holders:
            held = self._holder(block, order)
            if held is None:
                raise RuntimeError("a free block has vanished")
            first, size = held
            lists = self._lists[zone_of(first)]
            del lists[size][first]
            while size > order:
                size -= 1
                half = first + (1 << size)
                lists[size][first if block >= half else half] = None
                first = half if block >= half else first
            self._free[zone_of(block)] -= 1 << order
            self.free_pages -= 1 << order

    def _holder(self, start: int, order: int) -> tuple[int, int] | None:
        """The free block that a block lies in."""
        lists = self._lists.get(zone_of(start), [])
        for size in range(order, len(lists)):
            first = start >> size << size
            if first in lists[size]:
                return first, size
        return None

    def supply(self, order: int, zone_lo: int = 1, zone_hi: int = ZONES - 1) -> int:
        """How many blocks of this order could be taken."""
        return sum(
            len(blocks) << (j - order)
            for zone, lists in self._lists.items()
            if zone_lo <= zone <= zone_hi and self._free[zone] >= 1 << order
            for j, blocks in enumerate(lists[order:], order)
        )
