"""Time on a simulated host: it passes when asked, as the simulator says, and is kept."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sim_machines import machine, read_guest
from sim_time import busy_s, idle_s, node_of, start, the

from domicile.errors import HostFailed, Refused
from domicile.hosts.actions import CreatePaused, Destroy, SetAffinity
from domicile.hosts.simulated import SimulatedHost, create_simulated, open_simulated
from domicile.hosts.simulated.advance import advance
from domicile.hosts.simulated.state import SimulatedState
from domicile.state.load import load_between
from domicile.state.model import Cpupool, Domain, Snapshot

ALL = frozenset(range(8))


pytestmark = pytest.mark.usefixtures("state")


def new(scheduler: str = "credit2", name: str = "box") -> SimulatedHost:
    pools = (Cpupool("Pool-0", ALL, scheduler),)
    return create_simulated(name, machine(), read_guest=read_guest, cpupools=pools)


@pytest.fixture
def host() -> Iterator[SimulatedHost]:
    with new() as opened:
        yield opened


def times(snapshot: Snapshot) -> list[tuple[str, int, int | None, int | None]]:
    return [(d.name, vcpu.id, vcpu.pcpu, vcpu.time_ns) for d in snapshot.domains for vcpu in d.vcpus]


def in_another_process(script: str) -> subprocess.CompletedProcess[str]:
    """Python of its own, with the tests' support."""
    support = str(Path(__file__).parents[2] / "support")
    path = os.pathsep.join([support, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, env=environment)


class TestTheClock:
    def test_stands_still_unless_asked(self, host: SimulatedHost) -> None:
        before = host.snapshot()
        start(host, "web1")
        assert host.snapshot().taken_at == before.taken_at
        host.wait(0)
        assert host.snapshot().taken_at == before.taken_at

    def test_passes_as_long_as_asked_in_whole_quanta(self, host: SimulatedHost) -> None:
        passed: list[float] = []
        before = host.snapshot().taken_at
        host.wait(7.5, passed.append)
        assert host.snapshot().taken_at - before == pytest.approx(7.5)
        assert passed[-1] == pytest.approx(7.5)
        assert passed == sorted(passed)
        host.wait(0.001)
        assert host.snapshot().taken_at - before == pytest.approx(7.51)

    @pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
    def test_cannot_pass_so(self, host: SimulatedHost, seconds: float) -> None:
        with pytest.raises(ValueError, match="cannot pass"):
            host.wait(seconds)

    def test_an_interrupt_keeps_what_has_passed(self, host: SimulatedHost) -> None:
        before = host.snapshot()

        def interrupt(passed_s: float) -> None:
            if passed_s >= 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            host.wait(100, interrupt)
        after = host.snapshot()
        assert 3 <= after.taken_at - before.taken_at < 100
        assert idle_s(after) + busy_s(after) == pytest.approx(8 * (after.taken_at - before.taken_at))

    def test_survives_the_process(self, host: SimulatedHost, state: Path) -> None:
        start(host, "web1")
        host.wait(2)
        host.close()
        script = (
            "import json, sys\n"
            "from sim_machines import read_guest\n"
            "from domicile.hosts.simulated import open_simulated\n"
            "with open_simulated('sim:///box', presets={}, read_guest=read_guest) as host:\n"
            "    host.wait(3)\n"
            "    snapshot = host.snapshot()\n"
            "    vcpus = [v for d in snapshot.domains for v in d.vcpus]\n"
            "    print(json.dumps([snapshot.taken_at, [[v.pcpu, v.time_ns] for v in vcpus]]))\n"
        )
        run = in_another_process(script)
        assert run.returncode == 0
        taken_at, vcpus = json.loads(run.stdout)
        with open_simulated("sim:///box", presets={}, read_guest=read_guest) as again:
            snapshot = again.snapshot()
            assert snapshot.taken_at == taken_at
            assert [[pcpu, time_ns] for _, _, pcpu, time_ns in times(snapshot)] == vcpus
        # as if one process had done it all
        with new(name="other") as whole:
            start(whole, "web1")
            whole.wait(5)
            assert times(whole.snapshot()) == times(snapshot)
            assert whole.snapshot().pcpu_idle_ns == snapshot.pcpu_idle_ns

    def test_two_at_once_let_both_pass(self, host: SimulatedHost) -> None:
        before, pieces = host.snapshot().taken_at, 0
        with open_simulated("sim:///box", presets={}, read_guest=read_guest) as other:

            def meanwhile(_: float) -> None:
                nonlocal pieces
                pieces += 1
                other.wait(1)

            host.wait(3, meanwhile)
        # how many pieces it passes in depends on how fast they are; after each, a second of the other's
        assert pieces >= 2
        assert host.snapshot().taken_at - before == pytest.approx(3 + pieces)

    def test_others_may_use_it_meanwhile(self, host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
        """What they change is there afterwards, and the time passes with it."""
        started: list[str] = []

        def disturbed(state: SimulatedState, seconds: float) -> SimulatedState:
            if len(started) < 2:
                name = f"web{len(started)}"
                started.append(name)
                with open_simulated("sim:///box", presets={}, read_guest=read_guest) as other:
                    start(other, name)
            return advance(state, seconds)

        monkeypatch.setattr("domicile.hosts.simulated.host.advance", disturbed)
        before = host.snapshot().taken_at
        host.wait(1)
        snapshot = host.snapshot()
        assert snapshot.taken_at - before == pytest.approx(1)
        assert [domain.name for domain in snapshot.domains] == ["Domain-0", "web0", "web1"]
        assert all((domain.time_ns or 0) > 1.5e9 for domain in snapshot.domains[1:])


class TestWhatHappens:
    @pytest.mark.parametrize("scheduler", ["credit2", "credit", "numa"])
    def test_a_busy_guest_computes_all_the_time(self, scheduler: str) -> None:
        with new(scheduler) as host:
            start(host, "web1", "busy=1", vcpus=2)
            before = host.snapshot()
            host.wait(10)
            after = host.snapshot()
        load = load_between(before, after)
        assert load.window_s == pytest.approx(10)
        assert load.domains["web1"] == pytest.approx(1.0, abs=0.05)
        assert load.domains["Domain-0"] == pytest.approx(0.4, abs=0.35)
        assert sum(load.nodes.values()) == pytest.approx(sum(load.domains.values()))
        assert load.slowdowns["web1"] >= 0.99

    def test_nothing_is_lost(self, host: SimulatedHost) -> None:
        start(host, "web1", vcpus=8)
        start(host, "web2", vcpus=8, cap=100)
        host.wait(4.37)
        snapshot = host.snapshot()
        assert idle_s(snapshot) + busy_s(snapshot) == pytest.approx(8 * 4.37)
        assert (the(snapshot, "web2").time_ns or 0) / 1e9 == pytest.approx(4.37, rel=0.05)

    def test_weights(self, host: SimulatedHost) -> None:
        """Credit2 shares by weight within a run queue: that of one node, here."""
        cpus = [sorted(host.snapshot().topology.cpus_by_node[0])] * 8
        start(host, "light", vcpus=8, cpu_weight=256, cpus=cpus)
        start(host, "heavy", vcpus=8, cpu_weight=768, cpus=cpus)
        host.wait(20)
        light, heavy = (the(host.snapshot(), name).time_ns or 0 for name in ("light", "heavy"))
        assert heavy / light == pytest.approx(3.0, rel=0.2)

    def test_a_domain_that_is_paused_does_not_run(self, host: SimulatedHost) -> None:
        host.perform(CreatePaused("web1", "name = 'web1'\nmemory = 256\nvcpus = 2\n"))
        host.wait(2)
        assert [vcpu.time_ns for vcpu in the(host.snapshot(), "web1").vcpus] == [0, 0]
        assert [vcpu.pcpu for vcpu in the(host.snapshot(), "web1").vcpus] == [None, None]

    def test_pausing_and_letting_run_again(self, host: SimulatedHost) -> None:
        start(host, "web1")
        host.wait(2)
        ran = the(host.snapshot(), "web1")
        host.alter("web1", lambda domain: replace(domain, paused=True))
        host.wait(3)
        paused = the(host.snapshot(), "web1")
        assert replace(paused, paused=False, vcpus=()) == replace(ran, vcpus=())
        assert [(v.pcpu, v.time_ns) for v in paused.vcpus] == [(v.pcpu, v.time_ns) for v in ran.vcpus]
        host.alter("web1", lambda domain: replace(domain, paused=False))
        host.wait(2)
        assert (the(host.snapshot(), "web1").time_ns or 0) / 1e9 == pytest.approx(8, rel=0.05)

    def test_offline_vcpus_do_not_run(self, host: SimulatedHost) -> None:
        start(host, "web1", vcpus=1, maxvcpus=3)
        host.wait(2)
        vcpus = the(host.snapshot(), "web1").vcpus
        assert [vcpu.time_ns for vcpu in vcpus[1:]] == [0, 0]
        assert [vcpu.pcpu for vcpu in vcpus[1:]] == [None, None]
        host.alter("web1", lambda domain: replace(domain, vcpus=tuple(replace(v, online=True) for v in domain.vcpus)))
        host.wait(2)
        assert all((vcpu.time_ns or 0) > 1.5e9 for vcpu in the(host.snapshot(), "web1").vcpus)

    def test_who_comes_between_starts_where_the_scheduler_says(self, host: SimulatedHost) -> None:
        start(host, "first", vcpus=6, memory=512)
        host.wait(5)
        start(host, "second", vcpus=2, cpus=[[6, 7], [6, 7]])
        host.wait(5)
        second = the(host.snapshot(), "second")
        assert {vcpu.pcpu for vcpu in second.vcpus} <= {6, 7}
        assert (second.time_ns or 0) / 1e9 > 7

    def test_who_goes_leaves_its_pcpus(self, host: SimulatedHost) -> None:
        start(host, "stays", vcpus=8)
        start(host, "goes", vcpus=8)
        host.wait(5)
        host.perform(Destroy("goes"))
        before = host.snapshot()
        host.wait(5)
        assert load_between(before, host.snapshot()).domains["stays"] == pytest.approx(8, rel=0.1)

    def test_hard_affinity_is_obeyed_at_once_and_memory_stays(self, host: SimulatedHost) -> None:
        start(host, "web1", cpus_soft=[[0, 1]] * 2)
        host.wait(2)
        memory = the(host.snapshot(), "web1").pages_by_node
        for vcpu in range(2):
            host.perform(SetAffinity("web1", vcpu, hard=frozenset({6 + vcpu})))
        assert [vcpu.pcpu for vcpu in the(host.snapshot(), "web1").vcpus] == [6, 7]
        before = host.snapshot()
        host.wait(3)
        after = host.snapshot()
        assert [vcpu.pcpu for vcpu in the(after, "web1").vcpus] == [6, 7]
        assert the(after, "web1").pages_by_node == memory == {0: 256 * 256}
        load = load_between(before, after)
        assert load.nodes[3] == pytest.approx(2, abs=0.05)
        assert load.slowdowns["web1"] > 1.2  # all of its accesses are remote

    def test_memory_that_is_far_slows_down(self) -> None:
        found = []
        for name, cpus in (("near", [0, 1]), ("far", [6, 7])):
            with new(name=name) as host:
                start(host, "web1", "workload=sysbench-memory", cpus=[[0, 1]] * 2)
                for vcpu in range(2):
                    host.perform(SetAffinity("web1", vcpu, hard=frozenset(cpus)))
                before = host.snapshot()
                host.wait(5)
                found.append(load_between(before, host.snapshot()).slowdowns["web1"])
        near, far = found
        assert far / near > 1.15

    def test_soft_affinity_holds_under_credit_and_not_under_credit2(self) -> None:
        """The point of the roadmap's first item: under credit2 busy guests leave the nodes of their memory."""
        away: dict[str, int] = {}
        for scheduler in ("credit2", "credit"):
            with new(scheduler, name=scheduler) as host:
                for node in range(3):
                    start(host, f"g{node}", cpus_soft=[[2 * node, 2 * node + 1]] * 2)
                seen = 0
                for _ in range(6):
                    host.wait(10)
                    snapshot = host.snapshot()
                    seen += sum(
                        node_of(snapshot, vcpu.pcpu) != node
                        for node in range(3)
                        for vcpu in the(snapshot, f"g{node}").vcpus
                    )
                away[scheduler] = seen
        assert away["credit"] == 0
        assert away["credit2"] > 0

    def test_a_guest_that_sees_its_nodes_loses_less(self) -> None:
        slowdowns = []
        for name, vnodes in (("sees", ((0, 256), (3, 256))), ("blind", ())):
            with new("credit", name) as host:
                affinity = [[0, 1], [6, 7]]
                start(
                    host,
                    "wide",
                    "workload=sysbench-memory",
                    memory=512,
                    vcpus=2,
                    cpus=affinity,
                    vnuma=vnodes,
                    type="hvm",
                )
                # the configuration language of the tests says nothing of which vCPU is in which vnode
                host.alter("wide", lambda domain: seeing(domain) if domain.vnodes else domain)
                before = host.snapshot()
                host.wait(3)
                assert the(host.snapshot(), "wide").pages_by_node == {0: 65536, 3: 65536}
                slowdowns.append(load_between(before, host.snapshot()).slowdowns["wide"])
        sees, blind = slowdowns
        assert blind > 1.05 * sees > 1.05


def seeing(domain: Domain) -> Domain:
    return replace(
        domain, vnodes=tuple(replace(v, vcpus=frozenset({number})) for number, v in enumerate(domain.vnodes))
    )


class TestRefusals:
    def test_a_scheduler_that_is_not_simulated(self) -> None:
        with new("rtds") as host:
            with pytest.raises(Refused, match="time cannot pass under rtds: credit2, credit, numa can be simulated"):
                host.wait(1)
            host.snapshot()

    def test_unlike_schedulers(self) -> None:
        pools = (Cpupool("Pool-0", frozenset({0, 1}), "credit2"), Cpupool("other", ALL - {0, 1}, "credit"))
        with (
            create_simulated("pools", machine(), read_guest=read_guest, cpupools=pools) as host,
            pytest.raises(Refused, match="unlike schedulers: credit, credit2"),
        ):
            host.wait(1)

    @pytest.mark.parametrize(
        "damage",
        [
            "UPDATE clock SET record = x'00'",
            "UPDATE clock SET record = x'91ff'",
            "DELETE FROM clock",
            "UPDATE clock SET idle_ns = '[]'",
        ],
    )
    def test_a_damaged_clock(self, host: SimulatedHost, state: Path, damage: str) -> None:
        host.wait(1)
        host.close()
        with sqlite3.connect(state / "simulated/box/host.sqlite") as connection:
            connection.execute(damage)
        connection.close()
        with (
            pytest.raises(HostFailed, match=r"remove it with: rm -f ") as caught,
            open_simulated("sim:///box", presets={}, read_guest=read_guest) as again,
        ):
            again.wait(1)
        assert "\n" not in str(caught.value)

    def test_a_record_of_another_machine(self, host: SimulatedHost) -> None:
        host.wait(1)
        one = host._store.read()
        with create_simulated("big", machine([1024] * 6), read_guest=read_guest) as big:
            other = big._store.read()
        with pytest.raises(ValueError, match="not of this host"):
            advance(replace(other, clock=one.clock), 1.0)


def test_cpupools_hold_their_domains() -> None:
    pools = (Cpupool("Pool-0", frozenset({0, 1}), "credit2"), Cpupool("other", ALL - {0, 1}, "credit2"))
    with create_simulated("pools", machine(), read_guest=read_guest, cpupools=pools) as host:
        start(host, "here", vcpus=4)
        start(host, "there", vcpus=4, pool="other")
        host.wait(5)
        snapshot = host.snapshot()
    assert {vcpu.pcpu for vcpu in the(snapshot, "here").vcpus} <= {0, 1}
    assert {vcpu.pcpu for vcpu in the(snapshot, "there").vcpus} <= set(range(2, 8))
    assert (the(snapshot, "there").time_ns or 0) / 1e9 == pytest.approx(20, rel=0.05)


def test_a_host_of_format_1_is_taken_over(host: SimulatedHost, state: Path) -> None:
    start(host, "web1")
    before = host.snapshot()
    host.close()
    with sqlite3.connect(state / "simulated/box/host.sqlite") as connection:
        connection.execute("DROP TABLE clock")
        connection.execute("DROP TABLE owned")
        # as it was written then: residents without a workload, vCPUs without a time
        connection.execute("UPDATE residents SET record = json_remove(record, '$.workload', '$.busy_vcpus')")
        connection.execute(
            "UPDATE residents SET record = json_remove(record, '$.domain.waited_ns', '$.domain.work_ns')"
        )
        connection.execute("UPDATE machine SET record = json_remove(record, '$.preset')")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with open_simulated("sim:///box", presets={}, read_guest=read_guest) as again:
        after = again.snapshot()
        assert after.domains == before.domains
        again.wait(1)
        assert (the(again.snapshot(), "web1").time_ns or 0) / 1e9 == pytest.approx(2, rel=0.15)


def test_looking_and_creating_need_no_compiler(state: Path) -> None:
    script = (
        "import sys\n"
        "from sim_machines import read_guest, machine\n"
        "from sim_time import start\n"
        "from domicile.hosts.simulated import create_simulated\n"
        "with create_simulated('box', machine(), read_guest=read_guest) as host:\n"
        "    start(host, 'web1', 'workload=web')\n"
        "    host.snapshot()\n"
        "sys.exit('numba' in sys.modules or 'numpy' in sys.modules)\n"
    )
    assert in_another_process(script).returncode == 0
