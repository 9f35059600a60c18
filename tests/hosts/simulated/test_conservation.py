"""Whatever is done to a simulated host, memory is neither made nor lost, and nothing is kept for the dead."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule
from sim_machines import config, machine, read_guest

from domicile.errors import Refused
from domicile.hosts.actions import CreatePaused, Destroy, Release, Reserve, SetAffinity, Unpause
from domicile.hosts.simulated import SimulatedHost, create_simulated, open_simulated
from domicile.local.paths import STATE_VARIABLE
from domicile.state.model import PAGES_PER_MIB, Reservation

NODES = 4
cpus = st.none() | st.frozensets(st.integers(0, 2 * NODES - 1), min_size=1)
names = st.sampled_from([f"d{i}" for i in range(6)])


class Life(RuleBasedStateMachine):
    """Two connections to one host, closed and opened again now and then, and the domains that should be there."""

    tokens: Bundle[str] = Bundle("tokens")

    @initialize()
    def boot(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.before = os.environ.get(STATE_VARIABLE)
        os.environ[STATE_VARIABLE] = self.folder
        self.hosts = [create_simulated("box", machine([512] * NODES), read_guest=read_guest), self.connect()]
        self.memory: dict[str, tuple[int, int]] = {}
        self.paused: dict[str, int] = {}
        self.promised: dict[str, int] = {}
        self.capacity = self.total_pages()

    def connect(self) -> SimulatedHost:
        return open_simulated("sim:///box", presets={}, read_guest=read_guest)

    def total_pages(self) -> dict[int, int]:
        """Free and used together."""
        state = self.hosts[0]._store.read()
        return {
            node: free + sum(resident.pages_on(node) for resident in state.residents)
            for node, free in state.free_pages.items()
        }

    @rule(
        name=names,
        memory=st.integers(1, 900),
        overhead=st.integers(0, 9),
        soft=cpus,
        hard=cpus,
        which=st.integers(0, 1),
    )
    def create(
        self,
        name: str,
        memory: int,
        overhead: int,
        soft: frozenset[int] | None,
        hard: frozenset[int] | None,
        which: int,
    ) -> None:
        free = self.hosts[which]._store.read().free_pages
        more = {"cpus_soft": soft and [sorted(soft)], "cpus": hard and [sorted(hard)]}
        text = config(name, memory, 1, overhead=overhead, **{key: value for key, value in more.items() if value})
        fits = sum(free.values()) >= (memory + overhead) * PAGES_PER_MIB and name not in self.memory
        assert self.accepted(lambda: self.hosts[which].perform(CreatePaused(name, text))) == fits
        if fits:
            self.memory[name] = (memory, overhead)
            self.paused[name] = which

    @rule(name=names, which=st.integers(0, 1))
    def unpause(self, name: str, which: int) -> None:
        assert self.accepted(lambda: self.hosts[which].perform(Unpause(name))) == (name in self.memory)
        self.paused.pop(name, None)

    @rule(name=names, which=st.integers(0, 1))
    def destroy(self, name: str, which: int) -> None:
        self.hosts[which].perform(Destroy(name))
        self.memory.pop(name, None)
        self.paused.pop(name, None)

    @rule(name=names, soft=cpus, hard=cpus)
    def pin(self, name: str, soft: frozenset[int] | None, hard: frozenset[int] | None) -> None:
        done = self.accepted(lambda: self.hosts[0].perform(SetAffinity(name, 0, hard, soft)))
        assert done == (name in self.memory)

    @rule(target=tokens, token=st.uuids().map(str), node=st.integers(0, NODES - 1), which=st.integers(0, 1))
    def reserve(self, token: str, node: int, which: int) -> str:
        generation = self.hosts[which].snapshot().reservations_generation
        self.hosts[which].perform(Reserve(Reservation(token, "x", {node: 9}, 1, "tests", 0.0), generation))
        self.promised[token] = which
        return token

    @rule(token=tokens, which=st.integers(0, 1))
    def release(self, token: str, which: int) -> None:
        self.hosts[which].perform(Release(token))
        self.promised.pop(token, None)

    @rule(which=st.integers(0, 1), quanta=st.integers(1, 150))
    def wait(self, which: int, quanta: int) -> None:
        before = self.hosts[0].snapshot()
        self.hosts[which].wait(quanta / 100)
        after = self.hosts[0].snapshot()
        assert round((after.taken_at - before.taken_at) * 100) == quanta
        for domain in after.domains:
            assert domain.paused or all((vcpu.time_ns or 0) >= 0 for vcpu in domain.vcpus)
            assert not domain.paused or domain == before.domain(domain.name)

    @precondition(lambda self: self.paused or self.promised)
    @rule(which=st.integers(0, 1))
    def reconnect(self, which: int) -> None:
        self.hosts[which].close()
        self.hosts[which] = self.connect()
        for name in [name for name, owner in self.paused.items() if owner == which]:
            del self.paused[name], self.memory[name]
        self.promised = {token: owner for token, owner in self.promised.items() if owner != which}

    def accepted(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except Refused:
            return False
        return True

    @invariant()
    def nothing_is_made_or_lost(self) -> None:
        assert self.total_pages() == self.capacity
        snapshot = self.hosts[1].snapshot()
        assert all((node.free_mib or 0) >= 0 for node in snapshot.topology.nodes)
        domains = {domain.name: domain for domain in snapshot.domains if domain.id}
        assert domains.keys() == self.memory.keys()
        for name, (memory, _) in self.memory.items():
            assert sum((domains[name].pages_by_node or {}).values()) == memory * PAGES_PER_MIB
            assert domains[name].paused == (name in self.paused)
        used = sum(memory + overhead for memory, overhead in self.memory.values())
        assert sum(self.capacity.values()) - self.sum_free() == (used + self.dom0_mib()) * PAGES_PER_MIB
        assert {each.token for each in snapshot.reservations} == self.promised.keys()

    def sum_free(self) -> int:
        return sum(self.hosts[0]._store.read().free_pages.values())

    def dom0_mib(self) -> int:
        dom0 = self.hosts[0].snapshot().domain("Domain-0")
        assert dom0 is not None
        return dom0.memory_mib

    def teardown(self) -> None:
        for host in getattr(self, "hosts", []):
            host.close()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)
            if self.before is None:
                del os.environ[STATE_VARIABLE]
            else:
                os.environ[STATE_VARIABLE] = self.before


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
