"""The cold-page pool: where it is, what it keeps, and that it keeps count."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domicile.errors import Refused
from domicile.simulator.memory.coldpool import POOL, ColdPool, Kind, PoolPolicy
from domicile.simulator.memory.heap import XEN, Heap, Request
from domicile.simulator.memory.layout import lay_out

OWN = {"a": 0, "b": 1}


def host(pages: int = 1000, nodes: int = 3) -> Heap:
    return Heap.of(lay_out([pages] * nodes), keep_for_dma=False)


def test_far_memory_needs_some() -> None:
    with pytest.raises(Refused, match="far memory"):
        ColdPool.on(host(), PoolPolicy.FAR)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(PoolPolicy.ANY_NODE, [0, 100, 0]), (PoolPolicy.NOT_OWN, [0, 0, 100]), (PoolPolicy.FAR, [100, 0, 0])],
)
def test_the_policy_says_where(policy: PoolPolicy, expected: list[int]) -> None:
    heap = host()
    pool = ColdPool.on(heap, policy, far_nodes=[0])
    heap.alloc_many(XEN, 10, Request(node=0, exact=True))
    assert pool.put(heap, "b", 1, [1], 100, Kind.PERSISTENT) == 100
    assert pool.by_node(heap).tolist() == expected


def test_ephemeral_pages_make_room_and_a_get_takes_them_out() -> None:
    heap = host(100, 2)
    pool = ColdPool.on(heap, PoolPolicy.NOT_OWN, spare_pages=20)
    # more than there is room for: what was put first is the first to be dropped
    assert pool.put(heap, "a", 0, [0], 90, Kind.EPHEMERAL) == 90
    assert pool.pages_of("a") == 80
    assert pool.put(heap, "a", 0, [0], 50, Kind.PERSISTENT) == 50
    assert pool.stats.dropped == 60
    assert pool.put(heap, "a", 0, [0], 50, Kind.PERSISTENT) == 30
    assert pool.get("a", 0, 10, Kind.EPHEMERAL, heap) == 0
    assert pool.get("a", 0, 80, Kind.PERSISTENT, heap) == 80
    assert pool.get("a", 0, 80, Kind.PERSISTENT, heap) == 80
    assert pool.flush(heap, "a") == 80
    assert heap.free_pages.tolist() == [99, 100]


def test_traffic_is_what_was_copied() -> None:
    heap = host()
    pool = ColdPool.on(heap, PoolPolicy.FAR, far_nodes=[2])
    pool.put(heap, "a", 0, [0], 500, Kind.PERSISTENT)
    pool.get("a", 0, 100, Kind.PERSISTENT, heap)
    flows = {(each.cpu_node, each.memory_node): each.gbs for each in pool.step(0.0, 0.5)}
    assert flows == {(0, 0): pytest.approx(600 * 4096 / 0.5e9), (0, 2): pytest.approx(600 * 4096 / 0.5e9)}
    assert pool.step(0.5, 0.5) == ()


class PoolMachine(RuleBasedStateMachine):
    """Random use, against counters for each guest and kind."""

    @initialize(policy=st.sampled_from(PoolPolicy), spare=st.integers(0, 40))
    def boot(self, policy: PoolPolicy, spare: int) -> None:
        self.heap = host(150)
        self.total = self.heap.free_pages.copy()
        self.policy, self.spare = policy, spare
        self.pool = ColdPool.on(self.heap, policy, far_nodes=[2], spare_pages=spare)
        self.counts = {(name, kind): 0 for name in OWN for kind in Kind}

    def refresh(self) -> None:
        """Ephemeral pages may have been dropped; persistent ones never."""
        for (name, kind), count in self.counts.items():
            now = self.pool.pages_of(name, kind)
            assert now == count if kind is Kind.PERSISTENT else now <= count
            self.counts[name, kind] = now

    @rule(name=st.sampled_from(sorted(OWN)), kind=st.sampled_from(Kind), pages=st.integers(0, 200))
    def put(self, name: str, kind: Kind, pages: int) -> None:
        if self.policy is PoolPolicy.NOT_OWN:
            on_own = self.heap.pages_of(POOL)[OWN[name]]
        taken = self.pool.put(self.heap, name, OWN[name], [OWN[name]], pages, kind)
        assert 0 <= taken <= pages
        if self.policy is PoolPolicy.NOT_OWN:
            assert self.heap.pages_of(POOL)[OWN[name]] == on_own
        self.counts[name, kind] += taken
        if taken < pages and kind is Kind.PERSISTENT:
            for node in self.pool.nodes_for(self.heap, [OWN[name]]):
                assert self.heap.free_pages[node] <= self.spare
        self.refresh()

    @rule(name=st.sampled_from(sorted(OWN)), kind=st.sampled_from(Kind), pages=st.integers(0, 200))
    def get(self, name: str, kind: Kind, pages: int) -> None:
        got = self.pool.get(name, OWN[name], pages, kind, self.heap)
        assert got == min(pages, self.counts[name, kind])
        self.counts[name, kind] -= got if kind is Kind.EPHEMERAL else 0
        self.refresh()

    @rule(name=st.sampled_from(sorted(OWN)), kind=st.none() | st.sampled_from(Kind), pages=st.integers(0, 99))
    def flush(self, name: str, kind: Kind | None, pages: int) -> None:
        held = sum(count for (who, what), count in self.counts.items() if who == name and kind in {None, what})
        assert self.pool.flush(self.heap, name, pages, kind) == min(pages, held)
        for each in Kind:
            self.counts[name, each] = self.pool.pages_of(name, each)

    @rule(node=st.integers(0, 2), pages=st.integers(0, 99))
    def make_room(self, node: int, pages: int) -> None:
        free = int(self.heap.free_pages[node])
        gone = self.pool.make_room(self.heap, node, pages)
        assert self.heap.free_pages[node] == free + gone <= free + pages
        self.refresh()

    @invariant()
    def agrees(self) -> None:
        held = self.heap.pages_of(POOL)
        assert (self.heap.free_pages + held == self.total).all()
        assert held.sum() == sum(self.counts.values())
        if self.policy is PoolPolicy.FAR:
            assert not held[:2].any()


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
