"""Everything on one host at once: no page is lost, nothing is below 0, and the same again is the same again."""

from __future__ import annotations

import numpy as np
import pytest
from sim_machines import machine

from domicile.simulator.memory.balloon import Balloons, Manners
from domicile.simulator.memory.boot import DmaPolicy, XenPolicy, boot_dom0, boot_xen, place_dma_buffers
from domicile.simulator.memory.claims import ClaimRule
from domicile.simulator.memory.coldpool import ColdPool, Kind, PoolPolicy
from domicile.simulator.memory.heap import Heap
from domicile.simulator.memory.layout import ranges_of
from domicile.simulator.memory.migration import LiveMove, PageMove
from domicile.simulator.memory.pages import DomainPages
from domicile.simulator.memory.populate import Part, populate, take_overhead
from domicile.simulator.memory.precopy import Dirtying, Phase, Precopy
from domicile.simulator.memory.sharing import Sharing, SharingPolicy
from domicile.state.model import PAGES_PER_MIB, DomainType

MIB = PAGES_PER_MIB
GUESTS = ("a", "b", "c", "d")


class Host:
    """Four nodes, four guests, and something going on in each."""

    def __init__(self, rule: ClaimRule, policy: SharingPolicy) -> None:
        topology = machine([2048] * 4)
        ranges = ranges_of(topology)
        self.heap = Heap.of(ranges, rule=rule)
        self.total = self.heap.free_pages
        boot_xen(self.heap, ranges, topology, XenPolicy.LOCAL_STACKS)
        boot_dom0(self.heap, "Domain-0", 512 * MIB, vcpus=4)
        place_dma_buffers(self.heap, "Domain-0", 64 * MIB, DmaPolicy.LOW)
        self.table = DomainPages.empty(4)
        self.overhead = {}
        for index, name in enumerate(GUESTS):
            self.heap.add(name, [index])
            self.overhead[name] = take_overhead(self.heap, name, 2 * MIB)
            by_part = populate(self.heap, name, DomainType.PVH, [Part(600 * MIB)])
            self.table.add(by_part, 0.25, 0.9)
        self.heap.add("later", [0])
        self.heap.claim("later", 300 * MIB)
        self.balloons = Balloons()
        self.balloons.add("a", 0, 600 * MIB, Manners(delay_s=0.3, pages_per_s=50_000, kept_share=0.2))
        self.page_move = PageMove("b", 1, 3, 300 * MIB, 0.4, 0, Dirtying(1e5, 2e4))
        self.live_move = LiveMove.start(
            self.heap, "c", DomainType.PVH, [Part(600 * MIB)], [0], Precopy(600 * MIB, 1.0, Dirtying(2e4)), 0
        )
        self.pool = ColdPool.on(self.heap, PoolPolicy.NOT_OWN, spare_pages=MIB)
        self.sharing = Sharing.on(self.heap, policy, 20_000, 500)
        self.sharing.add_group({name: np.full(100, GUESTS.index(name), dtype=np.int16) for name in ("a", "d")})
        self.log: list[object] = []

    def step(self, epoch: int) -> None:
        now, dt = epoch * 0.1, 0.1
        if epoch % 20 == 0:
            self.balloons.set_target("a", (400 if epoch % 40 == 0 else 600) * MIB, now, self.heap)
        if epoch % 7 == 0:
            self.pool.put(self.heap, "d", 3, [3], 20 * MIB, Kind.PERSISTENT if epoch % 2 else Kind.EPHEMERAL)
        if epoch % 11 == 0:
            self.pool.get("d", 3, 10 * MIB, Kind.EPHEMERAL, self.heap)
        ballooned = self.balloons.step(now, dt, self.heap, self.table)
        page_move, live_move = self.page_move.step(self.heap, now, dt), self.live_move.step(self.heap, now, dt)
        for index, step in ((1, page_move), (2, live_move)):
            for moved in step.moved:
                assert self.table.move(index, moved.source, moved.target, moved.pages) == moved.pages
        if live_move.moved:
            self.overhead["c"] = np.zeros(4, dtype=np.int64)
        shared = self.sharing.step(now, dt, self.heap)
        for name, change in shared.reads.items():
            self.table.shift(GUESTS.index(name), change)
        steps = (ballooned, page_move, live_move, self.pool.step(now, dt), shared)
        self.log.append((repr(steps), self.heap.free_pages.tolist()))

    def check(self) -> None:
        owned = sum((self.heap.pages_of(owner) for owner in self.heap.owners), np.zeros(4, dtype=np.int64))
        assert (self.heap.free_pages + owned == self.total).all()
        assert self.heap.free_pages.min() >= 0
        assert all(self.heap.pages_of(owner).min() >= 0 for owner in self.heap.owners)
        assert self.heap.total_free >= self.heap.claims.outstanding == 300 * MIB
        for index, name in enumerate(GUESTS):
            reads = self.heap.pages_of(name) - self.overhead[name] + self.sharing.shared_pages(name, 4)
            assert self.table.by_node()[index].tolist() == reads.tolist()
        assert self.table.hot.min() >= 0
        assert self.table.cold.min() >= 0


@pytest.mark.parametrize("rule", ClaimRule)
@pytest.mark.parametrize("policy", SharingPolicy)
def test_no_page_is_lost_and_runs_repeat(rule: ClaimRule, policy: SharingPolicy) -> None:
    first, second = Host(rule, policy), Host(rule, policy)
    for epoch in range(60):
        first.step(epoch)
        second.step(epoch)
        first.check()
    assert first.log == second.log
    assert first.live_move.precopy.phase is Phase.DONE
    assert first.page_move.phase is Phase.DONE
    assert first.heap.pages_of("b")[3] >= 300 * MIB
    assert populate(first.heap, "later", DomainType.PVH, [Part(300 * MIB)]).sum() == 300 * MIB
