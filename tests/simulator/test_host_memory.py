"""The host's memory under whatever comes: no page is lost or made, and everybody reads what is theirs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sim_scheduling import numa_machine

from domicile.errors import NotEnoughMemory
from domicile.simulator.cold_pages import PoolOptions
from domicile.simulator.guests import ColdUse, GuestSpec
from domicile.simulator.host_memory import HostMemory, HostOptions
from domicile.simulator.memory.balloon import Manners
from domicile.simulator.memory.coldpool import PoolPolicy
from domicile.simulator.memory.sharing import SHARED, SharingPolicy
from domicile.simulator.page_sharing import SharingOptions
from domicile.simulator.workloads import WORKLOADS
from domicile.state.model import DomainType

MACHINE = numa_machine(3, 2, memory_mib=2048)
NAMES = ("a", "b", "c", "d")
KINDS = {"a": DomainType.PV, "b": DomainType.PVH, "c": DomainType.HVM, "d": DomainType.PVH}
EQUAL = {"a": 0.5, "b": 0.3, "c": 0.9, "d": 0.0}
MANNERS = Manners(0.5, 40_000.0, 20_000, 0.1)
NODES = st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True)


class Host(RuleBasedStateMachine):
    """Domains come and go, move, migrate, balloon, share and put pages into the pool, in any order."""

    @initialize(policy=st.sampled_from([None, *SharingPolicy]), pool=st.sampled_from([None, *PoolPolicy]))
    def boot(self, policy: SharingPolicy | None, pool: PoolPolicy | None) -> None:
        sharing = None if policy is None else SharingOptions(policy, 200.0, 5.0)
        pooling = None if pool is None else PoolOptions(pool, (2,), 10)
        self.memory = HostMemory(MACHINE, HostOptions(sharing=sharing, pool=pooling))
        self.heap = self.memory._heap
        self.ledger = self.memory._ledger
        self.memory.boot_dom0(GuestSpec("Domain-0", 2, 256, WORKLOADS["idle"]))
        self.total = self.heap.free_pages + self.owned()
        self.now_s, self.went = 0.0, 0

    def owned(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        return sum((self.heap.pages_of(owner) for owner in self.heap.owners), np.zeros(3, dtype=np.int64))

    def there(self, data: st.DataObject) -> str | None:
        names = sorted(set(self.ledger.rows) - {"Domain-0"})
        return data.draw(st.sampled_from(names)) if names else None

    @rule(name=st.sampled_from(NAMES), mib=st.integers(1, 1500), nodes=NODES, sees=st.booleans())
    def create(self, name: str, mib: int, nodes: list[int], sees: bool) -> None:
        if name in self.ledger.rows:
            return
        free = self.heap.free_pages
        spec = GuestSpec(name, 2, mib, WORKLOADS["specjbb"], type=KINDS[name], balloon=MANNERS, overhead_mib=3)
        spec = replace(spec, equal_pages=EQUAL[name], cold=ColdUse(0.2, 0.1, 300.0, 30.0))
        try:
            self.memory.create(replace(spec, sees_nodes=sees), nodes, nodes if sees else ())
        except NotEnoughMemory:
            assert (self.heap.free_pages == free).all()

    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        if name := self.there(data):
            self.went += self.memory._beside(name) // 256
            self.memory.destroy(name)

    @rule(data=st.data(), nodes=NODES)
    def move(self, data: st.DataObject, nodes: list[int]) -> None:
        if name := self.there(data):
            self.memory.move(name, nodes, nodes[0], 2.0, 0.3)

    @rule(data=st.data(), nodes=NODES, rate=st.sampled_from([0.05, 0.5, 50.0]))
    def migrate(self, data: st.DataObject, nodes: list[int], rate: float) -> None:
        if name := self.there(data):
            self.memory.migrate(name, nodes, self.now_s, rate)

    @rule(data=st.data(), mib=st.integers(1, 2000))
    def balloon(self, data: st.DataObject, mib: int) -> None:
        if name := self.there(data):
            self.memory.set_balloon(name, mib, self.now_s)

    @rule(dt_s=st.sampled_from([0.1, 1.0, 3.0]))
    def step(self, dt_s: float) -> None:
        done = self.memory.step(self.now_s, dt_s, {name: np.array([0.0, 1.0, 0.5]) for name in self.ledger.rows})
        assert done.traffic is None or (done.traffic >= 0).all()
        self.now_s += dt_s

    @invariant()
    def every_page_is_somewhere(self) -> None:
        assert (self.heap.free_pages + self.owned() == self.total).all()
        assert self.heap.free_pages.min() >= 0

    @invariant()
    def everybody_reads_what_is_theirs(self) -> None:
        for name in self.ledger.rows:
            shared = self.memory._sharing.shared_pages(name, 3) if self.memory._sharing else 0
            assert (self.ledger.read_by(name) == self.ledger.own(name) + shared).all()
            assert self.ledger.own(name).min() >= 0
            shares = self.memory.accesses(name).sum(axis=1)
            assert np.allclose(shares, 1.0) or not self.ledger.read_by(name).any()

    @invariant()
    def what_they_come_to_adds_up(self) -> None:
        if (sharing := self.memory.sharing) is not None:
            assert sharing.saved_mib == sharing.freed_mib - sharing.taken_mib - self.went
            assert sharing.saved_mib >= 0
            assert int(self.heap.pages_of(SHARED).sum()) == sharing.frames_mib * 256
        if (pool := self.memory.pool) is not None:
            held = sum(pool.mib_by_node.values())
            by_domain = sum(each.ephemeral_mib + each.persistent_mib for each in pool.domains)
            assert held == pytest.approx(by_domain, abs=8)


TestHost = Host.TestCase
TestHost.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
