"""Sharing: what each policy saves and costs, and that every frame is somebody's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domicile.simulator.memory.heap import XEN, Heap, Request
from domicile.simulator.memory.layout import lay_out
from domicile.simulator.memory.sharing import PRIVATE, SHARED, Sharing, SharingPolicy

UNIT = 4
HOMES = {"a": 0, "b": 0, "c": 1}


def scene(policy: SharingPolicy, units: int = 10, scan: float = 1e9, broken: float = 0.0) -> tuple[Heap, Sharing]:
    """Three guests with the same content, two of them on node 0."""
    heap = Heap.of(lay_out([200, 200]), keep_for_dma=False)
    for name, home in HOMES.items():
        heap.add(name, [home])
        heap.alloc_many(name, units * UNIT, Request(exact=True))
    sharing = Sharing.on(heap, policy, scan, broken, UNIT)
    sharing.add_group({name: np.full(units, home, dtype=np.int16) for name, home in HOMES.items()})
    return heap, sharing


@pytest.mark.parametrize(
    ("policy", "freed", "remote"), [(SharingPolicy.ANY_NODE, 80, 40), (SharingPolicy.SAME_NODE, 40, 0)]
)
def test_sharing_anywhere_saves_more_and_makes_accesses_remote(policy: SharingPolicy, freed: int, remote: int) -> None:
    heap, sharing = scene(policy)
    free = heap.total_free
    assert sharing.step(0.0, 1.0, heap).freed_pages == freed
    assert heap.total_free == free + freed
    assert sharing.shared_pages("c", 2)[0] == remote


def test_the_scanner_and_the_writers_have_their_rates() -> None:
    heap, sharing = scene(SharingPolicy.ANY_NODE, scan=UNIT * 2.5)
    assert [sharing.step(0.0, 1.0, heap).freed_pages for _ in range(5)] == [16, 24, 16, 24, 0]
    sharing.writes["c"] = UNIT * 2.0
    step = sharing.step(0.0, 2.0, heap)
    assert step.taken_pages == 16
    assert step.own["c"].tolist() == [0, 16]
    assert sharing.shared_pages("c", 2).tolist() == [24, 0]


def test_the_last_one_keeps_the_frame() -> None:
    heap, sharing = scene(SharingPolicy.SAME_NODE, units=1)
    sharing.step(0.0, 1.0, heap)
    assert heap.pages_of(SHARED).tolist() == [UNIT, 0]
    sharing.unshare("a", heap)
    assert not heap.pages_of(SHARED).any()
    assert [heap.pages_of(name)[0] for name in "ab"] == [UNIT, UNIT]


def test_a_full_host_makes_writers_wait() -> None:
    heap, sharing = scene(SharingPolicy.ANY_NODE)
    sharing.step(0.0, 1.0, heap)
    heap.alloc_many(XEN, 10_000)
    step = sharing.unshare("c", heap)
    assert (step.taken_pages, step.refused_pages) == (0, 40)
    assert sharing.shared_pages("c", 2).tolist() == [40, 0]


class SharingMachine(RuleBasedStateMachine):
    """Random groups, against frames counted one by one."""

    @initialize(policy=st.sampled_from(SharingPolicy), data=st.data())
    def boot(self, policy: SharingPolicy, data: st.DataObject) -> None:
        self.heap = Heap.of(lay_out([150, 150, 150]), keep_for_dma=False)
        self.sharing = Sharing.on(self.heap, policy, 10.0, 6.0, UNIT)
        self.units = data.draw(st.integers(1, 6))
        self.total = self.heap.free_pages.copy()
        nodes = {}
        for name in "abcd":
            self.heap.add(name)
            where = data.draw(st.lists(st.integers(0, 2), min_size=self.units, max_size=self.units))
            for node in where:
                assert len(self.heap.alloc_many(name, UNIT, Request(node=node, exact=True)))
            nodes[name] = np.array(where, dtype=np.int16)
        self.sharing.add_group(nodes)
        own = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(SharingPolicy))
        self.sharing.policies.update(data.draw(own))
        self.policy = policy

    @rule(dt=st.sampled_from([0.3, 1.0, 2.0]))
    def step(self, dt: float) -> None:
        before = {name: self.heap.pages_of(name) for name in self.sharing.groups[0].members}
        read = {name: pages + self.sharing.shared_pages(name, 3) for name, pages in before.items()}
        free = self.heap.total_free
        done = self.sharing.step(0.0, dt, self.heap)
        assert self.heap.total_free == free + done.freed_pages - done.taken_pages
        for name, pages in before.items():
            assert (self.heap.pages_of(name) == pages + done.own.get(name, 0)).all()
            now_read = self.heap.pages_of(name) + self.sharing.shared_pages(name, 3)
            assert (now_read == read[name] + done.reads.get(name, 0)).all()

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        members = self.sharing.groups[0].members
        if members:
            name = data.draw(st.sampled_from(members))
            self.sharing.leave(name, self.heap)
            self.heap.remove(name)

    @rule(data=st.data())
    def balloon(self, data: st.DataObject) -> None:
        members = self.sharing.groups[0].members
        if members:
            self.heap.give_back(data.draw(st.sampled_from(members)), data.draw(st.integers(0, 2)), 3)

    @rule()
    def snapshot(self) -> None:
        """What is done to a copy of both is the same, and not done to the original."""
        heap, sharing = self.heap.copy(), self.sharing.copy()
        frames = self.sharing.groups[0].frame.copy()
        first = sharing.step(0.0, 1.0, heap)
        assert (self.sharing.groups[0].frame == frames).all()
        again = self.sharing.copy().step(0.0, 1.0, self.heap.copy())
        assert (first.freed_pages, first.taken_pages) == (again.freed_pages, again.taken_pages)

    @invariant()
    def agrees(self) -> None:
        owned = sum((self.heap.pages_of(owner) for owner in self.heap.owners), np.zeros(3, dtype=np.int64))
        assert (self.heap.free_pages + owned == self.total).all()
        group = self.sharing.groups[0]
        frames = set()
        for unit in range(self.units):
            for row in range(len(group.members)):
                if group.frame[row, unit] == PRIVATE:
                    continue
                sharers = np.flatnonzero(group.frame[:, unit] == group.frame[row, unit])
                assert len(sharers) > 1
                assert len(set(group.node[sharers, unit].tolist())) == 1
                frames.add((unit, int(group.frame[row, unit]), int(group.node[row, unit])))
        counted = np.zeros(3, dtype=np.int64)
        for _, _, node in frames:
            counted[node] += UNIT
        assert self.heap.pages_of(SHARED).tolist() == counted.tolist()


TestSharing = SharingMachine.TestCase
TestSharing.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
