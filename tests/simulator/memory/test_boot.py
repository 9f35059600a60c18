"""What Xen, Dom0 and its devices take, and from where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim_machines import machine

from domicile.errors import BadInput, NotEnoughMemory
from domicile.simulator.memory.boot import (
    DmaPolicy,
    XenPolicy,
    boot_dom0,
    boot_xen,
    default_dom0_pages,
    dma_remote_share,
    place_dma_buffers,
    policy_of,
    xen_accesses,
    xen_remote_share,
)
from domicile.simulator.memory.flow import apportion
from domicile.simulator.memory.heap import XEN, Heap, Request
from domicile.simulator.memory.layout import ranges_of
from domicile.state.model import PAGES_PER_MIB

GIB = 1024 * PAGES_PER_MIB
DOM0 = "Domain-0"


def booted(gib: int = 8, nodes: int = 4, cpus: int = 8, policy: XenPolicy = XenPolicy.LOCAL_STACKS) -> Heap:
    topology = machine([gib * 1024] * nodes, cpus)
    heap = Heap.of(ranges_of(topology))
    boot_xen(heap, ranges_of(topology), topology, policy)
    return heap


@pytest.mark.parametrize(
    ("version", "policy"),
    [
        ("4.5.5", XenPolicy.BOOT_NODE),
        ("4.6.0", XenPolicy.LOCAL_STACKS),
        ("4.17.7", XenPolicy.LOCAL_STACKS),
        ("4.20", XenPolicy.LOCAL_STACKS),
        ("4.21-rc1", XenPolicy.LOCAL),
        ("5.0", XenPolicy.LOCAL),
    ],
)
def test_the_version_tells_the_policy(version: str, policy: XenPolicy) -> None:
    assert policy_of(version) is policy


def test_a_version_that_is_none() -> None:
    with pytest.raises(BadInput, match=r"like 4\.17"):
        policy_of("unstable")


def test_the_remote_share_on_four_nodes_is_what_was_measured_on_417() -> None:
    topology = machine([2048] * 4, 2)
    assert 0.19 <= xen_remote_share(topology, XenPolicy.LOCAL_STACKS) <= 0.21
    # and everything on one node leaves three quarters of the CPUs without any of their own
    assert xen_remote_share(topology, XenPolicy.BOOT_NODE) == pytest.approx(0.75)


@given(activity=st.lists(st.floats(0.0, 100.0), min_size=1, max_size=8), boot_node=st.integers(0, 7))
def test_accesses_are_all_of_them_and_each_policy_is_no_worse(activity: list[float], boot_node: int) -> None:
    boot_node = min(boot_node, len(activity) - 1)
    remote = []
    for policy in XenPolicy:
        accesses = xen_accesses(activity, policy, boot_node)
        assert accesses.min() >= 0.0
        assert accesses.sum() == pytest.approx(1.0 if sum(activity) > 0 else 0.0)
        remote.append(accesses.sum() - accesses.trace())
    assert remote == sorted(remote, reverse=True)


def test_stacks_move_from_node_0_to_their_cpus() -> None:
    before, stacks, local = (booted(policy=policy).pages_of(XEN) for policy in XenPolicy)
    assert (before - stacks).tolist() == [24 * 8, -64, -64, -64]
    assert (stacks - local).tolist() == [24 * 8, -64, -64, -64]


def test_the_frame_table_is_on_the_last_node() -> None:
    heap = booted()
    # 32 GiB with 32 bytes a page: 256 MiB; the M2P takes 2 MiB a GiB on each node
    taken = heap.pages_of(XEN) // PAGES_PER_MIB
    assert taken[3] >= 256 + 16
    assert all(16 <= mib <= 24 for mib in taken[:3])


def test_dom0_is_spread_over_all_nodes_and_kept_to_its_own() -> None:
    heap = booted()
    # 128 MiB for the kernel on node 3, then three GiB from there on, and what is left in ever smaller blocks
    kernel = 1 << 15
    blocks = [GIB + (1 << 15), GIB, 1 << 17, GIB + kernel + (1 << 16)]
    assert boot_dom0(heap, DOM0, 4 * GIB, vcpus=4).tolist() == blocks
    heap = booted()
    assert boot_dom0(heap, DOM0, 4 * GIB, {2}).tolist() == [0, 0, 4 * GIB, 0]


def test_a_real_boot() -> None:
    """Xen 4.17.7, Debian's 6.1 as Dom0 (1 GiB, 8 vCPUs, a RAM disk of 8898 pages), four nodes of 2 GiB and 2 CPUs.

    `xl info -n` printed the free memory, debug key `u` Dom0's pages, and Xen "DMA width 29 bits".
    """
    heap = booted(2, 4, 2)
    dom0 = boot_dom0(heap, DOM0, 262_144, vcpus=8, initrd_pages=8898)
    assert heap.dma_zone == 29 - 12
    # some hundred pages have been exchanged by Dom0 since
    assert dom0 == pytest.approx(np.array([66153, 16725, 4768, 174498]), abs=700)
    free_mib = heap.free_pages / PAGES_PER_MIB
    # node 0 has Xen itself besides, and the holes below 1 MiB and below 2 GiB
    assert free_mib == pytest.approx(np.array([1780, 1978, 2025, 1298]), abs=12)
    assert free_mib[1:] == pytest.approx(np.array([1978, 2025, 1298]), abs=3)


def test_dom0_gets_no_more_than_its_nodes_have() -> None:
    heap = booted()
    free = int(heap.free_pages[2])
    assert default_dom0_pages(heap, {2}) == free - 128 * PAGES_PER_MIB
    # two pages are Xen's by then
    assert boot_dom0(heap, DOM0, 40 * GIB, {2}).tolist() == [0, 0, free - 2, 0]


def test_dom0_leaves_low_memory_alone_until_the_rest_is_gone() -> None:
    heap = booted(gib=8, nodes=2)
    low = heap.dma_zone
    boot_dom0(heap, DOM0, 12 * GIB)
    assert sum(1 << order for start, order in heap.free_blocks(0) if start.bit_length() <= low) > GIB


def test_buffers_are_where_the_policy_puts_them() -> None:
    pages = 64 * PAGES_PER_MIB
    shares = {}
    for policy in DmaPolicy:
        heap = booted()
        boot_dom0(heap, DOM0, 4 * GIB)
        free = heap.total_free
        buffers = place_dma_buffers(heap, DOM0, pages, policy, device_node=2)
        assert buffers.sum() == pages
        assert heap.pages_of(DOM0).sum() == 4 * GIB
        assert heap.total_free == free
        assert (heap.pages_of(DOM0) >= buffers).all()
        shares[policy] = dma_remote_share(buffers, 2)
    assert shares == {DmaPolicy.DOM0: 0.75, DmaPolicy.LOW: 1.0, DmaPolicy.NEAR_DEVICE: 0.0}


def test_buffers_stay_with_dom0_where_there_is_no_other_memory() -> None:
    heap = booted()
    boot_dom0(heap, DOM0, 4 * GIB)
    while heap.alloc(XEN, Request(0 if heap.supply(0, 6) == 0 else 6, address_bits=32)):
        pass
    buffers = place_dma_buffers(heap, DOM0, GIB // 16, DmaPolicy.LOW)
    assert buffers.tolist() == apportion(GIB // 16, heap.pages_of(DOM0)).tolist()


def test_a_machine_too_small_for_its_xen() -> None:
    topology = machine([4, 1], 64)
    heap = Heap.of(ranges_of(topology))
    with pytest.raises(NotEnoughMemory, match="Xen"):
        boot_xen(heap, ranges_of(topology), topology, XenPolicy.LOCAL)
