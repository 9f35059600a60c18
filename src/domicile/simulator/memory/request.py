"""What is asked of the heap, and what it gives.

Source: the MEMF flags of xen/include/xen/mm.h, Xen 4.17.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ONE_PAGE", "Request", "Taken"]


@dataclass(frozen=True, slots=True)
class Request:
    """One block of 2^`order` pages, as memflags would say it.

    `node`: where to look first (MEMF_node); `exact`: nowhere else than there, or than the node-affinity where no node
    is named (MEMF_exact_node); `no_dma`: leave the memory kept for DMA alone (MEMF_no_dma); `address_bits`: no page
    that needs more (MEMF_bits), 0 for any; `refcounted` is false for what does not count as the domain's memory, such
    as its shadow or HAP pool (MEMF_no_refcount).
    """

    order: int = 0
    node: int | None = None
    exact: bool = False
    no_dma: bool = False
    address_bits: int = 0
    refcounted: bool = True


ONE_PAGE = Request()


@dataclass(frozen=True, slots=True)
class Taken:
    """Consecutive pages of one node that somebody got."""

    node: int
    start: int
    pages: int
