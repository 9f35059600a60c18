"""The simulated host does as Xen does, and keeps what it is told."""

from __future__ import annotations

import os
import shlex
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sim_machines import config, machine, read_guest

from domicile.errors import BadInput, Halted, HostFailed, NotEnoughMemory, Refused, ReservationConflict
from domicile.hosts.actions import (
    Action,
    CreatePaused,
    Destroy,
    Halt,
    Hold,
    LetGo,
    Manage,
    Release,
    Reserve,
    SetAffinity,
    Unpause,
)
from domicile.hosts.protocol import Host
from domicile.hosts.simulated import SimulatedHost, create_simulated, open_simulated, remove_simulated
from domicile.local.paths import STATE_VARIABLE
from domicile.state.model import Cpupool, Domain, DomainType, Reservation, Snapshot
from domicile.topology.model import Topology

NIC = "0000:41:00.0"


pytestmark = pytest.mark.usefixtures("state")


def new(name: str = "box", topology: Topology | None = None, **more: object) -> SimulatedHost:
    topology = topology or machine(devices={NIC: 1})
    return create_simulated(name, topology, read_guest=read_guest, **more)  # type: ignore[arg-type]


@pytest.fixture
def host() -> Iterator[SimulatedHost]:
    with new() as opened:
        yield opened


def again(name: str = "box") -> SimulatedHost:
    return open_simulated(f"sim:///{name}", presets={}, read_guest=read_guest)


def start(host: Host, name: str, memory: int = 256, **more: object) -> Domain:
    host.perform(CreatePaused(name, config(name, memory, **more)))  # type: ignore[arg-type]
    host.perform(Unpause(name))
    return the(host.snapshot(), name)


def the(snapshot: Snapshot, name: str) -> Domain:
    domain = snapshot.domain(name)
    assert domain is not None
    return domain


def in_child(act: Callable[[], None]) -> None:
    """Carry something out in a process of its own that is killed right afterwards."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


class TestOpening:
    def test_a_preset_creates_it_and_it_stays(self) -> None:
        with open_simulated("sim:///four", presets={"four": machine}, read_guest=read_guest) as host:
            assert isinstance(host, Host)
            start(host, "web1")
            first = host.snapshot()
        with again("four") as host:
            later = host.snapshot()
        assert the(later, "web1") == the(first, "web1")
        assert later.host_id == first.host_id
        assert replace(later.topology, source="") == replace(first.topology, source="")

    def test_an_unknown_name_lists_the_presets(self) -> None:
        with pytest.raises(BadInput, match=r"sim:///nosuch: .*'nosuch'; presets: big, four"):
            open_simulated("sim:///nosuch", presets={"four": machine, "big": machine}, read_guest=read_guest)

    @pytest.mark.parametrize(
        "uri",
        ["sim://box", "sim:///", "sim:///../x", "sim:///a/b", "sim:///a?b", "sim:///%2e%2e", "sim:///[", "sim://[/"],
    )
    def test_a_bad_uri_is_bad_input(self, uri: str) -> None:
        with pytest.raises(BadInput):
            open_simulated(uri, presets={}, read_guest=read_guest)

    def test_files_are_the_users_alone(self, host: SimulatedHost, state: Path) -> None:
        made = [path for path in state.rglob("*") if path != state]
        assert len(made) >= 3
        assert all(path.stat().st_mode & 0o077 == 0 for path in made)

    def test_a_name_that_is_taken(self, host: SimulatedHost) -> None:
        with pytest.raises(BadInput, match="is there already"):
            new("box")

    def test_removed_and_made_again_it_is_another_host(self, host: SimulatedHost) -> None:
        before = host.snapshot().host_id
        host.close()
        remove_simulated("box")
        remove_simulated("box")
        with new() as other:
            assert other.snapshot().host_id != before

    @pytest.mark.parametrize("damage", ["garbage", "cut", "record", "machine", "foreign"])
    def test_a_damaged_file_says_how_to_remove_it(self, host: SimulatedHost, state: Path, damage: str) -> None:
        start(host, "web1")
        host.close()
        path = state / "simulated/box/host.sqlite"
        if damage == "garbage":
            path.write_bytes(b"not a database" * 1000)
        elif damage == "cut":
            path.write_bytes(path.read_bytes()[:5000])
        else:
            statement = {
                "record": "UPDATE residents SET record = '{\"domain\": 3}'",
                "machine": "UPDATE machine SET record = replace(record, '\"node\":1', '\"node\":77')",
                "foreign": "PRAGMA application_id = 7",
            }[damage]
            with sqlite3.connect(path) as connection:
                connection.execute(statement)
            connection.close()
        with pytest.raises(HostFailed, match=r"remove it with: rm -f ") as caught:
            again()
        assert "\n" not in str(caught.value)
        remedy = str(caught.value).partition("remove it with: ")[2]
        subprocess.run(shlex.split(remedy), check=True)
        assert not path.exists()

    def test_a_file_from_a_newer_domicile(self, host: SimulatedHost, state: Path) -> None:
        host.close()
        with sqlite3.connect(state / "simulated/box/host.sqlite") as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(HostFailed, match=r"newer domicile.*format 99.*update domicile, or remove it"):
            again()

    def test_a_state_folder_that_cannot_be(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (state / "file").write_text("")
        monkeypatch.setenv(STATE_VARIABLE, str(state / "file" / "below"))
        with pytest.raises(HostFailed, match=STATE_VARIABLE):
            new()

    def test_a_closed_connection_says_so(self, host: SimulatedHost) -> None:
        host.close()
        host.close()
        with pytest.raises(HostFailed, match="closed"):
            host.snapshot()


class TestFirstState:
    def test_dom0_has_memory_on_every_node(self, host: SimulatedHost) -> None:
        snapshot = host.snapshot()
        (dom0,) = snapshot.domains
        assert (dom0.id, dom0.name, dom0.memory_mib) == (0, "Domain-0", 252)
        assert dom0.memory_by_node_mib == {0: 63, 1: 63, 2: 63, 3: 63}
        assert [node.free_mib for node in snapshot.topology.nodes] == [953, 953, 953, 953]
        assert len(dom0.vcpus) == 8

    def test_nodes_without_memory_or_cpus(self) -> None:
        topology = machine((1024, 0, 512))
        cpuless = replace(topology, cpus=topology.cpus[:4])
        with new("odd", cpuless) as host:
            snapshot = host.snapshot()
            assert the(snapshot, "Domain-0").memory_by_node_mib == {0: 64}
            assert snapshot.topology.node(1).free_mib == 0
            # Xen gives a CPU-less node's memory only when the others are full
            assert start(host, "big", 1000).memory_by_node_mib == {0: 952, 2: 48}


class TestCreation:
    def test_soft_affinity_decides_where_memory_goes(self, host: SimulatedHost) -> None:
        domain = start(host, "web1", 256, cpus_soft=[[4, 5], [4, 5]])
        assert domain.memory_by_node_mib == {2: 256}
        assert domain.node_affinity == frozenset({2})
        assert [vcpu.pcpu for vcpu in domain.vcpus] == [4, 5]

    def test_memory_falls_back_silently(self, host: SimulatedHost) -> None:
        domain = start(host, "big", 1200, cpus_soft=[[4, 5], [4, 5]])
        assert domain.memory_by_node_mib == {2: 953, 0: 247}

    def test_overhead_is_taken_but_not_in_the_map(self, host: SimulatedHost) -> None:
        domain = start(host, "web1", 256, overhead=8, cpus_soft=[[4], [5]])
        assert domain.memory_by_node_mib == {2: 256}
        assert host.snapshot().topology.node(2).free_mib == 953 - 264

    def test_without_affinity_xen_places_it_itself(self, host: SimulatedHost) -> None:
        first = start(host, "a", 256, vcpus=1)
        second = start(host, "b", 256, vcpus=1)
        assert first.memory_by_node_mib == {0: 256}
        assert {vcpu.soft_affinity for vcpu in first.vcpus} == {frozenset({0, 1})}
        assert second.memory_by_node_mib == {1: 256}

    def test_a_wide_guest_gets_the_nodes_it_needs(self, host: SimulatedHost) -> None:
        domain = start(host, "wide", 1200, vcpus=4)
        assert domain.node_affinity == frozenset({0, 1})
        assert domain.memory_by_node_mib == {0: 600, 1: 600}

    def test_the_choice_can_be_another_function(self) -> None:
        with new("other", choose_nodes=lambda snapshot, request: frozenset({3})) as host:
            assert start(host, "web1").memory_by_node_mib == {3: 256}

    def test_what_libxl_placed_keeps_its_node_affinity_and_what_the_config_placed_does_not(
        self, host: SimulatedHost
    ) -> None:
        start(host, "own", vcpus=1)
        start(host, "ours", vcpus=1, cpus_soft=[[0]])
        for name in ("own", "ours"):
            host.perform(SetAffinity(name, 0, soft=frozenset({6, 7})))
        assert the(host.snapshot(), "own").node_affinity == frozenset({0})
        assert the(host.snapshot(), "ours").node_affinity == frozenset({3})
        assert the(host.snapshot(), "ours").memory_by_node_mib == {0: 256}

    def test_vnuma_is_strict(self, host: SimulatedHost) -> None:
        domain = start(host, "v", 512, type="hvm", vnuma=[(1, 256), (2, 256)])
        assert domain.memory_by_node_mib == {1: 256, 2: 256}
        with pytest.raises(NotEnoughMemory, match="node 1 has 697"):
            start(host, "w", 1000, type="hvm", vnuma=[(1, 800), (2, 200)])

    def test_only_the_first_vcpus_are_online(self, host: SimulatedHost) -> None:
        domain = start(host, "web1", vcpus=1, maxvcpus=3)
        assert [vcpu.online for vcpu in domain.vcpus] == [True, False, False]
        assert [vcpu.pcpu is None for vcpu in domain.vcpus] == [False, True, True]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            (config("there"), "is there already"),
            (config("x", uuid="11111111-2222-3333-4444-555555555555"), "there has its UUID"),
            (config("x", memory=100_000), "the host has 3556 MiB free"),
            (config("x", pci=["0000:99:00.0"]), "0000:99:00.0 is not there"),
            (config("x", pci=[NIC]), "in use by there"),
            (config("x", pool="nosuch"), "no cpupool 'nosuch'; there are Pool-0"),
            (config("x", cpus=[[99], [99]]), "vCPU 0 may run on no CPU"),
            (config("x", type="pvh", vnuma=[(0, 256)]), "PVH vNUMA is not supported"),
            (config("x", type="hvm", vnuma=[(0, 64)]), "vnodes have 64 MiB together, memory= says 256"),
            (config("y"), "its configuration is for y"),
        ],
    )
    def test_what_xl_refuses_is_refused_and_changes_nothing(self, host: SimulatedHost, text: str, says: str) -> None:
        start(host, "there", pci=[NIC], uuid="11111111-2222-3333-4444-555555555555")
        before = host.snapshot()
        name = "there" if "'there'" in text else "x"
        with pytest.raises(Refused, match=says):
            host.perform(CreatePaused(name, text))
        assert replace(host.snapshot(), taken_at=before.taken_at) == before

    def test_a_bad_configuration_is_bad_input(self, host: SimulatedHost) -> None:
        with pytest.raises(BadInput, match="configuration of x"):
            host.perform(CreatePaused("x", "name = ["))

    @pytest.mark.parametrize(
        "action",
        [
            Unpause("nosuch"),
            SetAffinity("nosuch", 0),
            SetAffinity("Domain-0", 99),
            SetAffinity("Domain-0", 0, hard=frozenset({99})),
            SetAffinity("Domain-0", 0, soft=frozenset()),
            Destroy("Domain-0"),
            Reserve(Reservation("t", "x", {9: 1}, 1, "", 0.0), "0"),
        ],
    )
    def test_what_cannot_be_is_refused(self, host: SimulatedHost, action: Action) -> None:
        before = host.snapshot()
        with pytest.raises(Refused):
            host.perform(action)
        assert replace(host.snapshot(), taken_at=before.taken_at) == before

    def test_destroy_gives_everything_back(self, host: SimulatedHost) -> None:
        before = host.snapshot().topology
        domain = start(host, "web1", pci=[NIC], overhead=4)
        host.perform(Destroy("web1", uuid="another's"))
        assert host.snapshot().domain("web1")
        host.perform(Destroy("web1", uuid=domain.uuid))
        host.perform(Destroy("web1"))
        assert host.snapshot().topology == before
        assert start(host, "web2", pci=[NIC]).id == domain.id + 1

    def test_a_cpupool_bounds_where_it_lives(self) -> None:
        pools = [Cpupool("Pool-0", frozenset(range(4)), "credit2"), Cpupool("far", frozenset(range(4, 8)), "null")]
        with new("pools", cpupools=pools) as host:
            domain = start(host, "web1", pool="far", cpus_soft=[[0], [0]])
            assert domain.node_affinity == frozenset({2, 3})
            assert {vcpu.pcpu for vcpu in domain.vcpus} == {4, 5}


def test_neighbours_do_not_share_a_cpu_while_others_are_idle(host: SimulatedHost) -> None:
    start(host, "a", vcpus=1, cpus_soft=[[6, 7]])
    start(host, "b", vcpus=1, cpus_soft=[[6, 7]])
    snapshot = host.snapshot()
    # Dom0's 8 vCPUs are on all 8 pCPUs already
    assert [the(snapshot, name).vcpus[0].pcpu for name in ("a", "b")] == [6, 7]


class TestByHand:
    def test_moves_memory(self, host: SimulatedHost) -> None:
        start(host, "web1", vcpus=1)
        host.alter("web1", lambda domain: replace(domain, pages_by_node={3: 65536}, id=17))
        snapshot = host.snapshot()
        assert (the(snapshot, "web1").memory_by_node_mib, the(snapshot, "web1").id) == ({3: 256}, 17)
        assert [node.free_mib for node in snapshot.topology.nodes] == [953, 953, 953, 697]
        assert start(host, "web2").id == 18

    def test_cannot_make_memory(self, host: SimulatedHost) -> None:
        start(host, "web1", vcpus=1)
        with pytest.raises(Refused, match="node 3 is short of"):
            host.alter("web1", lambda domain: replace(domain, pages_by_node={3: 10**6}))


def promise(domain: str = "x", mib: int = 100, token: str = "t1") -> Reservation:
    return Reservation(token, domain, {1: mib}, 1, "tests", 0.0)


class TestReservations:
    def test_held_until_released(self, host: SimulatedHost) -> None:
        host.perform(Reserve(promise(), host.snapshot().reservations_generation))
        snapshot = host.snapshot()
        assert snapshot.available_mib(1) == 853
        assert snapshot.topology.node(1).free_mib == 953
        host.perform(Release("t1"))
        host.perform(Release("t1"))
        assert host.snapshot().available_mib(1) == 953

    def test_a_stale_view_conflicts(self, host: SimulatedHost) -> None:
        stale = host.snapshot().reservations_generation
        host.perform(Reserve(promise(), stale))
        host.perform(Release("t1"))
        with pytest.raises(ReservationConflict):
            host.perform(Reserve(promise(token="t2"), stale))
        assert host.snapshot().reservations == ()

    def test_a_token_once(self, host: SimulatedHost) -> None:
        host.perform(Reserve(promise(), host.snapshot().reservations_generation))
        with pytest.raises(Refused, match="is there already"):
            host.perform(Reserve(promise(), host.snapshot().reservations_generation))


class TestOwnership:
    def test_another_connection_sees_what_the_first_does(self, host: SimulatedHost) -> None:
        with again() as other:
            host.perform(Reserve(promise(), host.snapshot().reservations_generation))
            host.perform(CreatePaused("web1", config("web1")))
            assert the(other.snapshot(), "web1").paused
            assert other.snapshot().reservations == (promise(),)

    def test_closing_ends_only_what_is_its_own(self, host: SimulatedHost) -> None:
        with again() as other:
            other.perform(Reserve(promise(), other.snapshot().reservations_generation))
            other.perform(CreatePaused("web1", config("web1")))
            start(other, "web2")
            host.perform(CreatePaused("web3", config("web3")))
        snapshot = host.snapshot()
        assert {domain.name for domain in snapshot.domains} == {"Domain-0", "web2", "web3"}
        assert snapshot.reservations == ()

    def test_what_a_killed_process_left_is_gone(self, host: SimulatedHost) -> None:
        before = host.snapshot().topology

        def act() -> None:
            mine = again()
            mine.perform(Reserve(promise(), mine.snapshot().reservations_generation))
            mine.perform(CreatePaused("web1", config("web1")))

        in_child(act)
        snapshot = host.snapshot()
        assert snapshot.topology == before
        assert snapshot.reservations == ()
        assert snapshot.domain("web1") is None
        start(host, "web1")

    def test_what_was_unpaused_lives_on(self, host: SimulatedHost) -> None:
        def act() -> None:
            mine = again()
            mine.perform(CreatePaused("web1", config("web1")))
            mine.perform(Unpause("web1"))

        in_child(act)
        assert not the(host.snapshot(), "web1").paused

    def test_a_dead_owner_does_not_block_the_next_action(self, host: SimulatedHost) -> None:
        in_child(lambda: again().perform(CreatePaused("web1", config("web1", memory=3000))))
        start(host, "web2", memory=3000)


def test_many_processes_open_a_new_host_at_once(state: Path) -> None:
    children = []
    for index in range(8):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with open_simulated("sim:///new", presets={"new": machine}, read_guest=read_guest) as host:
                    start(host, f"web{index}", 64)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    with again("new") as host:
        assert len(host.snapshot().domains) == 9


def test_types_survive_the_disk(host: SimulatedHost) -> None:
    domain = start(host, "web1", type="hvm")
    assert domain.type is DomainType.HVM
    assert isinstance(domain.vcpus[0].soft_affinity, frozenset)
    assert all(isinstance(node, int) for node in domain.pages_by_node or {})


class TestLeases:
    """Holds on vCPUs and the manager's office, which end with their connection, whatever ends that."""

    ALL = frozenset(range(8))

    def hold(self, domain: Domain, cpus: set[int], before: frozenset[int] = ALL) -> Hold:
        return Hold(domain.name, domain.uuid, 1, frozenset(cpus), before)

    def hard(self, host: SimulatedHost) -> frozenset[int]:
        return the(host.snapshot(), "web").vcpus[1].hard_affinity

    def test_a_hold_ends_with_its_connection(self, host: SimulatedHost) -> None:
        web = start(host, "web")
        with again() as other:
            other.perform(self.hold(web, {2, 3}))
            assert self.hard(host) == {2, 3}
            other.perform(self.hold(web, {4}))
            assert self.hard(host) == {4}
            with pytest.raises(Refused, match="is held by process"):
                host.perform(self.hold(web, {5}))
        assert self.hard(host) == self.ALL

    def test_a_killed_process_holds_nothing(self, host: SimulatedHost) -> None:
        web = start(host, "web")

        def act() -> None:
            with_it = again()
            with_it.perform(self.hold(web, {2}))
            with_it.perform(Manage("the daemon"))

        in_child(act)
        assert self.hard(host) == self.ALL
        host.perform(Manage("me"))

    def test_letting_go(self, host: SimulatedHost) -> None:
        web = start(host, "web")
        host.perform(SetAffinity("web", 1, hard=frozenset({0, 1, 2})))
        host.perform(self.hold(web, {2}, frozenset({0, 1, 2})))
        host.perform(LetGo(web.uuid, 1))
        host.perform(LetGo(web.uuid, 1))
        assert self.hard(host) == {0, 1, 2}

    def test_what_somebody_else_sets_is_left_to_them(self, host: SimulatedHost) -> None:
        web = start(host, "web")
        host.perform(self.hold(web, {2}))
        host.perform(SetAffinity("web", 1, hard=frozenset({5})))
        with pytest.raises(ReservationConflict, match="somebody else"):
            host.perform(self.hold(web, {3}))
        host.perform(LetGo(web.uuid, 1))
        assert self.hard(host) == {5}
        with pytest.raises(Refused, match="another now"):
            host.perform(Hold("web", "another", 1, frozenset({2}), frozenset({5})))

    def test_one_manages_a_host_at_a_time(self, host: SimulatedHost) -> None:
        with again() as other:
            other.perform(Manage("the daemon"))
            with pytest.raises(Refused, match="managed by the daemon"):
                host.perform(Manage("me"))
            host.perform(Manage(""))
            other.perform(Manage("the daemon, again"))
        host.perform(Manage("me"))

    def test_a_halt_ends_holds_and_keeps_managers_out(self, host: SimulatedHost) -> None:
        web = start(host, "web")
        host.perform(Manage("the daemon"))
        host.perform(self.hold(web, {2}))
        with again() as other:
            assert other.snapshot().halted == ""
            other.perform(Halt("enough"))
            assert self.hard(host) == self.ALL
            for action in (self.hold(web, {3}), SetAffinity("web", 0, soft=frozenset({3})), Manage("again")):
                with pytest.raises(Halted, match="stopped: enough; `domicile stop --off`"):
                    host.perform(action)
            # what a person does is their own affair
            other.perform(SetAffinity("web", 0, hard=frozenset({3})))
        host.perform(LetGo(web.uuid, 1))
        host.perform(Manage(""))
        with again() as later:
            assert later.snapshot().halted == "enough"
            with pytest.raises(Halted):
                later.perform(Manage("me"))
            later.perform(Halt(None))
            later.perform(Halt(None))
            assert host.snapshot().halted == ""
            later.perform(Manage("me"))
            later.perform(self.hold(web, {3}))
            assert self.hard(host) == {3}
