"""What is taken before the first guest comes: Xen's own memory, Dom0's, and that of Dom0's devices.

Sources: Xen 4.5, 4.17 and 4.21.
- Frame table: `init_frametable_chunk` (xen/arch/x86/mm.c) and `alloc_boot_pages`: from the top of the highest memory
  down, in 2 MiB steps, so all of it is on the last node. 32 bytes for each page that there is.
- Machine-to-physical table: `paging_init` (xen/arch/x86/x86_64/mm.c): 2 MiB for each GiB, on that GiB's node.
- Per-CPU stacks: order 3; until 4.5 from the boot CPU's node (`alloc_xenheap_pages(STACK_ORDER, 0)`), from 4.6 on each
  CPU's own. Per-CPU data: from the boot CPU's node until 4.20, local from 4.21 (`init_percpu_area`,
  xen/common/percpu.c). Descriptor tables: local since before 4.5.
- Dom0: `dom0_construct_pv` and `alloc_chunk` (xen/arch/x86/pv/dom0_build.c): a block for its kernel, then blocks as
  large as they come, only from `dom0_nodes` and not from what is kept for DMA; when that is exhausted, 2 MiB blocks
  from anywhere. The initial RAM disk stays where the boot loader's modules are moved to: at the top of memory.
- DMA buffers: Linux's swiotlb-xen exchanges 256 KiB pieces of Dom0's memory for contiguous ones below 4 GiB
  (`xen_swiotlb_fixup`, `XENMEM_exchange`); a driver with 64-bit DMA uses Dom0's pages wherever they are.

Assumed, as no source tells: what parts of Xen's own accesses go to which of its memory. One measurement fixes the sum:
on Xen 4.17 with four nodes and all CPUs alike, 19 to 21 % of Xen's data accesses were remote. Three quarters of what is
on one node is remote there, so 27 % of the accesses go to memory of one node, and the rest to what was local: stacks.
That 27 % is divided evenly between per-CPU data and everything else. And inferred from where a real 4.17 put Dom0's
kernel and its first block: that two pages are taken in Dom0's name before the kernel, and one for each further vCPU
before the blocks, since every one moves the turn to the next node.

In an engine: call these once, on a new heap, in the order frame table, own memory, Dom0, DMA buffers. Left out: Xen's
image and its smaller structures, a PVH Dom0's pools, and that Dom0's builder swaps its last blocks for higher ones.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from domicile.errors import BadInput, NotEnoughMemory
from domicile.simulator.memory.flow import apportion
from domicile.simulator.memory.heap import XEN, Heap, Pages, Request
from domicile.simulator.memory.layout import Range
from domicile.state.model import PAGES_PER_MIB
from domicile.topology.model import Topology

__all__ = [
    "DmaPolicy",
    "XenAccesses",
    "XenPolicy",
    "boot_dom0",
    "boot_xen",
    "default_dom0_pages",
    "dma_remote_share",
    "place_dma_buffers",
    "policy_of",
    "xen_accesses",
    "xen_remote_share",
]

Shares = npt.NDArray[np.float64]

STACK_ORDER = 3
PER_CPU_ORDER = 3  # get_order_from_bytes of a linker section: about 20 to 30 KiB in builds of 4.17
TABLES_PER_CPU = 3  # GDT, compat GDT and IDT, a page each
FRAME_BYTES = 32
M2P_ORDER = 9
CONTIGUOUS_ORDER = 6  # IO_TLB_SEGSIZE (128) slabs of 2 KiB


class XenPolicy(StrEnum):
    """Where Xen puts what each CPU uses of its own."""

    BOOT_NODE = "boot-node"
    """Stacks and per-CPU data on the boot CPU's node: until 4.5."""
    LOCAL_STACKS = "local-stacks"
    """Stacks local, per-CPU data on the boot CPU's node: 4.6 to 4.20."""
    LOCAL = "local"
    """Both local: from 4.21."""


class DmaPolicy(StrEnum):
    """Where the buffers are that a device of Dom0 reads and writes."""

    DOM0 = "dom0"
    """Anywhere in Dom0's memory: 64-bit DMA, and no say."""
    LOW = "low"
    """Below 4 GiB: swiotlb-xen's bounce buffers, as 32-bit DMA needs them."""
    NEAR_DEVICE = "near-device"
    """On the device's node as far as it has memory: what no Xen does."""


@dataclass(frozen=True, slots=True)
class XenAccesses:
    """Parts of Xen's own data accesses, which add up to 1. `elsewhere`: what is on one node under every policy."""

    stacks: float = 0.73
    per_cpu: float = 0.135
    elsewhere: float = 0.135


def policy_of(version: str) -> XenPolicy:
    """The policy of a Xen by its version, such as "4.17.7". Raises `BadInput` if there is none in it."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if not found:
        raise BadInput("Xen version", f"{version!r} is not like 4.17")
    number = (int(found[1]), int(found[2]))
    if number < (4, 6):
        return XenPolicy.BOOT_NODE
    return XenPolicy.LOCAL_STACKS if number < (4, 21) else XenPolicy.LOCAL


def xen_accesses(
    activity: Sequence[float] | Shares, policy: XenPolicy, boot_node: int = 0, parts: XenAccesses = XenAccesses()
) -> Shares:
    """Shares of Xen's own data accesses, N x N: row = the node of the CPU, column = the node of the memory.

    `activity` (N) is how much of Xen's work each node's CPUs do, in any unit. All zero where there is none.
    """
    work = np.asarray(activity, dtype=np.float64)
    work = work / work.sum() if work.sum() > 0 else np.zeros_like(work)
    local = {
        XenPolicy.BOOT_NODE: 0.0,
        XenPolicy.LOCAL_STACKS: parts.stacks,
        XenPolicy.LOCAL: parts.stacks + parts.per_cpu,
    }[policy]
    accesses = np.diag(work * local)
    accesses[:, boot_node] += work * (1.0 - local)
    return accesses


def xen_remote_share(topology: Topology, policy: XenPolicy, activity: Sequence[float] | None = None) -> float:
    """Share of Xen's own data accesses that go to another node; without `activity`, every CPU is as active."""
    work = [len(topology.cpus_by_node[node]) for node in topology.node_ids] if activity is None else activity
    boot_node = next((at for at, node in enumerate(topology.node_ids) if topology.cpus_by_node[node]), 0)
    accesses = xen_accesses(work, policy, boot_node)
    return float(accesses.sum() - np.trace(accesses))


def boot_xen(heap: Heap, ranges: Sequence[Range], topology: Topology, policy: XenPolicy) -> Pages:
    """Take Xen's own memory. Returns pages by node (N). Raises `NotEnoughMemory` (for Xen) on a tiny machine."""
    _frame_table(heap, ranges)
    for each in ranges:
        gibibytes = -(-each.pages // (1024 * PAGES_PER_MIB))
        _must_have(heap, gibibytes, Request(M2P_ORDER, node=each.node))
    for index, node in enumerate(topology.node_ids):
        cpus = len(topology.cpus_by_node[node])
        stack_node = None if policy is XenPolicy.BOOT_NODE else index
        data_node = index if policy is XenPolicy.LOCAL else None
        _must_have(heap, cpus, Request(STACK_ORDER, node=stack_node))
        _must_have(heap, cpus, Request(PER_CPU_ORDER, node=data_node))
        _must_have(heap, cpus * TABLES_PER_CPU, Request(0, node=index))
    return heap.pages_of(XEN)


def default_dom0_pages(heap: Heap, nodes: Collection[int] | None = None) -> int:
    """Dom0's memory without `dom0_mem`: all that its nodes have but a sixteenth, or 128 MiB where that is less.

    Source: `default_nr_pages` and `dom0_compute_nr_pages`, xen/arch/x86/dom0_build.c, Xen 4.17.
    """
    available = int(sum(heap.free_pages[node] for node in (range(heap.nodes) if nodes is None else nodes)))
    return available - min(available // 16, 128 * PAGES_PER_MIB)


def boot_dom0(
    heap: Heap,
    name: str,
    pages: int,
    nodes: Collection[int] | None = None,
    vcpus: int = 1,
    initrd_pages: int = 0,
    kernel_order: int = 15,
) -> Pages:
    """Build Dom0 (PV) with `dom0_mem` and `dom0_nodes` (None: all). Returns its memory by node (N).

    As in Xen it gets no more than its nodes have free (`dom0_compute_nr_pages`). `kernel_order` is the block for its
    kernel and first page tables: 128 MiB for Debian's 6.1. Raises `NotEnoughMemory` where even that cannot be had.
    """
    heap.add(name, None if nodes is None else sorted(nodes))
    _turn(heap, name, 2)
    left = min(pages, int(sum(heap.free_pages[node] for node in heap.affinity_of(name))) - vcpus + 1)
    if left:
        kernel = heap.alloc(name, Request(min(kernel_order, left.bit_length() - 1)))
        left -= kernel.pages if kernel else 0
    left -= _initrd(heap, name, min(initrd_pages, left))
    _turn(heap, name, vcpus - 1)
    strict = True
    order = left.bit_length()
    while left:
        order = min(order, left.bit_length() - 1)
        taken = heap.alloc(name, Request(order, exact=strict, no_dma=strict))
        if taken is not None:
            left -= taken.pages
        elif order:
            order -= 1
        elif strict:
            strict, order = False, 9
        else:
            heap.remove(name)
            raise NotEnoughMemory(name, -(-pages // PAGES_PER_MIB), heap.total_free // PAGES_PER_MIB)
    return heap.pages_of(name)


def _turn(heap: Heap, name: str, times: int) -> None:
    """Pages that Xen takes in a domain's name and gives back or keeps for itself: they move its turn on."""
    for _ in range(times):
        taken = heap.alloc(name, Request(refcounted=False))
        if taken is not None:
            heap.transfer(name, XEN, taken.node, 1, refcounted=False)


def _initrd(heap: Heap, name: str, pages: int) -> int:
    """The RAM disk's pages, from the last node that has memory; how many they are. They do not move the turn."""
    last = max((node for node in range(heap.nodes) if heap.free_pages[node]), default=0)
    got = sum(taken.pages for taken in heap.alloc_many(XEN, pages, Request(node=last, exact=True)))
    return heap.transfer(XEN, name, last, got)


def place_dma_buffers(heap: Heap, dom0: str, pages: int, policy: DmaPolicy, device_node: int | None = None) -> Pages:
    """Where so many pages of DMA buffers of Dom0 come to be: pages by node (N).

    Under LOW and NEAR_DEVICE Dom0 exchanges memory for them, in contiguous pieces of 256 KiB; what cannot be had so
    stays where Dom0's memory is. A device that no node is known for is served as under DOM0.
    """
    held = heap.pages_of(dom0)
    if policy is DmaPolicy.DOM0 or (policy is DmaPolicy.NEAR_DEVICE and device_node is None):
        return apportion(min(pages, int(held.sum())), held)
    request = (
        Request(CONTIGUOUS_ORDER, address_bits=32)
        if policy is DmaPolicy.LOW
        else Request(CONTIGUOUS_ORDER, node=device_node)
    )
    got = np.zeros(heap.nodes, dtype=np.int64)
    given = apportion(min(pages, int(held.sum())), held)
    # Xen hands out the new piece before the old one is free
    for _ in range(min(pages, int(held.sum())) >> CONTIGUOUS_ORDER):
        source = int(np.argmax(given))
        piece = min(int(given[source]), 1 << CONTIGUOUS_ORDER)
        taken = heap.alloc(dom0, request) if piece == 1 << CONTIGUOUS_ORDER else None
        if taken is None:
            break
        _give_old(heap, dom0, source, piece, (taken.start, taken.pages))
        got[taken.node] += taken.pages
        given[source] -= piece
    return got + given


def dma_remote_share(buffers: Pages, device_node: int) -> float:
    """Share of a device's DMA that goes to another node than its own; 0.0 without buffers."""
    total = int(buffers.sum())
    return 1.0 - int(buffers[device_node]) / total if total else 0.0


def _give_old(heap: Heap, owner: str, node: int, pages: int, new: tuple[int, int]) -> None:
    """Give back pages of a node that are not those just taken: the first that it ever got."""
    for start, held in heap.runs_of(owner, node):
        for first, length in _without((start, held), new):
            part = min(pages, length)
            # blocks are taken from the upper end down, so the upper end came first
            heap.free(owner, first + length - part, part)
            pages -= part
            if not pages:
                return


def _without(run: tuple[int, int], new: tuple[int, int]) -> list[tuple[int, int]]:
    start, end = run[0], run[0] + run[1]
    first, last = max(start, new[0]), min(end, new[0] + new[1])
    if first >= last:
        return [run]
    return [(at, upto - at) for at, upto in ((last, end), (start, first)) if upto > at]


def _frame_table(heap: Heap, ranges: Sequence[Range]) -> None:
    left = -(-sum(each.pages for each in ranges) * FRAME_BYTES // (2 << 20)) * 512
    for each in sorted(ranges, key=lambda each: -each.end):
        part = min(left, each.pages - (each.start == 0))
        if part:
            heap.take_at(XEN, each.end - part, part)
        left -= part
    if left:
        raise NotEnoughMemory(XEN, left // PAGES_PER_MIB, 0)


def _must_have(heap: Heap, count: int, request: Request) -> None:
    got = sum(taken.pages for taken in heap.alloc_many(XEN, count, request))
    if got < count << request.order:
        need = (count << request.order) // PAGES_PER_MIB
        raise NotEnoughMemory(XEN, need, heap.total_free // PAGES_PER_MIB)
