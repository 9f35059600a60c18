"""`XenHost` on a fake Dom0, by way of Python and by way of a shell."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from domicile.errors import BadInput, HostFailed, Refused, ReservationConflict
from domicile.hosts.actions import CreatePaused, Destroy, Release, Reserve, SetAffinity, Unpause
from domicile.hosts.protocol import Host
from domicile.hosts.xen.assemble import assemble
from domicile.hosts.xen.channel import Runtime
from domicile.hosts.xen.host import XenHost
from domicile.state.model import DomainType, MemoryMapAge, Reservation, Snapshot

if TYPE_CHECKING:
    from tests.hosts.xen.conftest import FakeDom0

TORTURE = [
    "two words",
    'it\'s "hi" $(touch hacked) `touch hacked`; touch hacked',
    "a\\b\\n %s ünïcödé",
    "-rf *",
    "1",
    "name 1 256 2 -b---- 5.6",
]


def config(name: str, **settings: object) -> str:
    """An `xl.cfg` as the fake `xl` reads it."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')  # as the fake and the real one undo it
    return f'name = "{quoted}"\nmemory = 64\n' + "".join(f"{key} = {value}\n" for key, value in settings.items())


def reservation(token: str, domain: str = "web", mib: int = 64) -> Reservation:
    return Reservation(token, domain, {1: mib}, 2, "pid 1 on a test's host", 5.0)


def comparable(snapshot: Snapshot) -> Snapshot:
    """Without what differs from one moment, or way of asking, to the next."""
    fields = {
        name: getattr(snapshot, name) for name in ("topology", "domains", "reservations", "cpupools", "scheduler")
    }
    return Snapshot(**fields, taken_at=0.0, xen_version=snapshot.xen_version, host_id=snapshot.host_id)


def test_it_is_a_host(dom0: FakeDom0, runtime: Runtime) -> None:
    with dom0.open(runtime) as host:
        assert isinstance(host, Host)
        assert ("no Python" in host.capabilities().via) == (runtime is Runtime.SHELL)


def test_its_time_is_the_clock_on_the_wall(dom0: FakeDom0, runtime: Runtime) -> None:
    with dom0.open(runtime) as host:
        assert not host.capabilities().simulated_time
        passed: list[float] = []
        begun = time.monotonic()
        host.wait(0.6, passed.append)
        assert time.monotonic() - begun >= 0.6
        assert passed == sorted(passed)
        assert len(passed) >= 3
        assert passed[-1] == 0.6
        with pytest.raises(ValueError, match="cannot pass"):
            host.wait(-1.0)


def test_both_ways_see_the_same(dom0: FakeDom0) -> None:
    dom0.add(name="two words", nodes="1-2", soft="2-3", type="pvh", pcidevs=[{"bus": 65}])
    dom0.add(name="paused", paused=True, vcpus=0)
    dom0.add(name="$(touch hacked)", affinity={"0": ["0-3,5", "none"]})
    seen = []
    for runtime in (Runtime.PYTHON, Runtime.SHELL):
        with dom0.open(runtime) as host:
            host.perform(Reserve(reservation(f"r-{runtime}"), host.snapshot().reservations_generation))
            seen.append(comparable(host.snapshot(MemoryMapAge.NOW)))
    expected = [Snapshot(**{**vars(snapshot), "reservations": ()}) for snapshot in seen]
    assert expected[0] == expected[1]
    words = seen[0].domain("two words")
    assert words is not None
    assert words.type is DomainType.PVH
    assert words.node_affinity == frozenset({1, 2})
    assert words.vcpus[1].soft_affinity == {2, 3}
    assert words.vcpus[1].hard_affinity == set(range(8))
    assert words.devices == ("0000:41:00.0",)
    assert words.memory_by_node_mib == {1: 64}
    hacked = seen[0].domain("$(touch hacked)")
    assert hacked is not None
    assert hacked.vcpus[0].hard_affinity == {0, 1, 2, 3, 5}
    assert hacked.vcpus[0].soft_affinity == set()
    paused = seen[0].domain("paused")
    assert paused is not None
    assert paused.paused
    assert seen[0].topology.node(1).free_mib == 2048 - 3 * 64
    assert [found.token for found in seen[1].reservations] == ["r-sh"]
    assert not list(dom0.folder.rglob("hacked"))


def test_from_nothing_to_a_running_domain(dom0: FakeDom0, runtime: Runtime) -> None:
    with dom0.open(runtime) as host:
        host.perform(CreatePaused("web", config("web", vcpus=2)))
        created = host.snapshot().domain("web")
        assert created is not None
        assert created.paused
        host.perform(SetAffinity("web", 1, hard=None, soft=frozenset({2, 3})))
        host.perform(SetAffinity("web", 0, hard=frozenset({0, 1, 2, 5})))
        host.perform(Unpause("web"))
        running = host.snapshot().domain("web")
    assert running is not None
    assert not running.paused
    assert [vcpu.soft_affinity for vcpu in running.vcpus] == [frozenset(range(8)), {2, 3}]
    assert [vcpu.hard_affinity for vcpu in running.vcpus] == [{0, 1, 2, 5}, frozenset(range(8))]
    assert dom0.names() == ["Domain-0", "web"]
    assert not dom0.left_behind()


def test_only_the_domain_of_that_uuid_is_destroyed(dom0: FakeDom0, runtime: Runtime) -> None:
    dom0.add(name="web")
    with dom0.open(runtime) as host:
        domain = host.snapshot().domain("web")
        assert domain is not None
        host.perform(Destroy("web", "00000000-0000-0000-0000-00000000abcd"))
        assert dom0.names() == ["Domain-0", "web"]
        host.perform(Destroy("web", domain.uuid))
        assert dom0.names() == ["Domain-0"]


def test_names_are_never_read_by_a_shell(dom0: FakeDom0, runtime: Runtime) -> None:
    before = {path.name for path in Path.cwd().iterdir()}
    dom0.add(name="the domain of id 1")
    with dom0.open(runtime) as host:
        for name in TORTURE:
            host.perform(CreatePaused(name, config(name)))
        assert {domain.name for domain in host.snapshot().domains} >= set(TORTURE)
        for name in TORTURE[:2]:
            host.perform(Unpause(name))
            host.perform(SetAffinity(name, 0, soft=frozenset({1})))
        for name in TORTURE[:4]:
            host.perform(Destroy(name))
            host.perform(Release(name))
        with pytest.raises(Refused, match="no domain called 2"):
            host.perform(Unpause("2"))
    assert dom0.names() == ["Domain-0", "the domain of id 1"]
    assert {path.name for path in Path.cwd().iterdir()} == before
    assert not list(dom0.folder.rglob("hacked"))


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "a\x1bb", "a/b", "a\x00b"])
def test_names_that_xl_could_not_show_are_refused(dom0: FakeDom0, name: str) -> None:
    with dom0.open() as host, pytest.raises(BadInput):
        host.perform(CreatePaused(name, config(name)))
    assert "create" not in {call[0] for call in dom0.calls()}


def test_a_configuration_of_another_domain_is_bad_input(dom0: FakeDom0) -> None:
    with dom0.open() as host, pytest.raises(BadInput, match="names the domain 'b'"):
        host.perform(CreatePaused("a", config("b")))


def test_a_name_that_is_taken_is_refused_before_anything(dom0: FakeDom0, runtime: Runtime) -> None:
    dom0.add(name="web")
    uuid = dom0.read()["domains"][1]["uuid"]
    with dom0.open(runtime) as host:
        with pytest.raises(Refused, match="domain 1 is called web"):
            host.perform(CreatePaused("web", config("web")))
        with pytest.raises(Refused, match=uuid):
            host.perform(CreatePaused("other", config("other", uuid=f'"{uuid}"')))
        host.perform(CreatePaused("free", config("free")))
    assert "create" in {call[0] for call in dom0.calls()}
    assert dom0.names() == ["Domain-0", "web"]


def test_dom0_is_never_destroyed(dom0: FakeDom0, runtime: Runtime) -> None:
    with dom0.open(runtime) as host, pytest.raises(Refused, match="Dom0"):
        host.perform(Destroy("Domain-0"))
    assert dom0.names() == ["Domain-0"]


def test_what_xl_says_is_told_in_one_line(dom0: FakeDom0, runtime: Runtime) -> None:
    complaint = (
        "Parsing config from /run/x.cfg\n"
        "libxl: error: libxl_create.c:1234:domcreate_x: Domain 4:kernel /nowhere is not there\n"
        "libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 4:Non-existant domain\n"
    )
    dom0.behave(create={"status": 3, "complain": complaint})
    with dom0.open(runtime) as host:
        with pytest.raises(HostFailed, match=r"xl create failed: Domain 4:kernel /nowhere is not there$"):
            host.perform(CreatePaused("web", config("web")))
        dom0.behave()
        host.perform(CreatePaused("web", config("web")))
    assert not dom0.left_behind()


def test_a_half_made_domain_is_destroyed(dom0: FakeDom0, runtime: Runtime) -> None:
    dom0.behave(create={"status": 3, "keep": True, "complain": "libxl: error: a.c:1:b: no bootloader"})
    with dom0.open(runtime) as host:
        with pytest.raises(HostFailed, match="no bootloader"):
            host.perform(CreatePaused("web", config("web")))
        assert dom0.names() == ["Domain-0"]
    assert not dom0.left_behind()


def test_an_xl_create_that_hangs_is_ended(dom0: FakeDom0, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domicile.hosts.xen.host.CREATE_LIMIT_S", 1.0)
    dom0.behave(create={"after_s": 60})
    with dom0.open(runtime) as host:
        with pytest.raises(HostFailed, match="did not end within 1 s"):
            host.perform(CreatePaused("web", config("web")))
        assert dom0.names() == ["Domain-0"]
        assert host.snapshot().domain("web") is None
    assert not dom0.left_behind()


def test_failures_that_xl_hides_behind_status_0(dom0: FakeDom0, runtime: Runtime) -> None:
    dom0.add(name="web")
    dom0.behave(unpause={"complain": "libxl: error: libxl_domain.c:1:x: Domain 1:unpausing", "print": ""})
    with dom0.open(runtime) as host, pytest.raises(HostFailed, match="xl unpause failed: Domain 1:unpausing"):
        host.perform(Unpause("web"))


def test_an_empty_affinity_is_bad_input(dom0: FakeDom0) -> None:
    dom0.add(name="web")
    with dom0.open() as host:
        with pytest.raises(BadInput):
            host.perform(SetAffinity("web", 0, soft=frozenset()))
        host.perform(SetAffinity("web", 0))
    assert "vcpu-pin" not in {call[0] for call in dom0.calls()}


def test_as_many_calls_for_200_domains_as_for_2(dom0: FakeDom0, runtime: Runtime) -> None:
    counts = []
    with dom0.open(runtime) as host:
        for wanted in (2, 200):
            while len(dom0.names()) <= wanted:
                dom0.add(name=f"guest {len(dom0.names())}", memory=8)
            host.snapshot()
            dom0.calls()
            assert len(host.snapshot(MemoryMapAge.NOW).domains) == wanted + 1
            counts.append(len(dom0.calls()))
    assert counts[0] == counts[1] <= 8


def test_claims_are_no_memory_yet(dom0: FakeDom0, runtime: Runtime) -> None:
    dom0.add(name="growing", memory=512, claimed=200)
    with dom0.open(runtime) as host:
        snapshot = host.snapshot()
    growing = snapshot.domain("growing")
    assert growing is not None
    assert (growing.memory_mib, growing.claimed_mib) == (312, 200)
    assert snapshot.topology.node(1).free_mib == 2048 - 312


def test_cpupools(dom0: FakeDom0, runtime: Runtime) -> None:
    state = dom0.read()
    state["pools"] = {"Pool-0": [0, 1, 2, 3], "node 2": [4, 5]}
    dom0.write(state)
    dom0.add(name="web", pool="node 2")
    with dom0.open(runtime) as host:
        snapshot = host.snapshot()
    assert {pool.name: pool.cpus for pool in snapshot.cpupools} == {"Pool-0": {0, 1, 2, 3}, "node 2": {4, 5}}
    assert {pool.scheduler for pool in snapshot.cpupools} == {"credit2"}
    assert [domain.cpupool for domain in snapshot.domains] == ["Pool-0", "node 2"]


def test_domains_that_come_and_go_between_the_tables(dom0: FakeDom0, runtime: Runtime) -> None:
    dom0.add(name="(null)", paused=True, vcpus=0)
    dom0.add(name="dead", dying=True)
    dom0.add(name="starting", vcpus=0)
    with dom0.open(runtime) as host:
        snapshot = host.snapshot()
    assert [domain.name for domain in snapshot.domains] == ["Domain-0"]
    assert len([note for note in snapshot.notes if "left out" in note]) == 3


def test_garbled_output_is_told(dom0: FakeDom0, runtime: Runtime) -> None:
    with dom0.open(runtime) as host:
        for command in ("info", "list", "vcpu_list", "cpupool_list"):
            dom0.behave(**{command: {"print": "nr_cpus : 3\n\x00\n"}})
            with pytest.raises(HostFailed, match=r"this machine.*xl") as caught:
                host.snapshot()
            assert "\n" not in str(caught.value)
        dom0.behave()
        host.snapshot()


def test_xl_failing(dom0: FakeDom0, runtime: Runtime) -> None:
    dom0.behave(info={"status": 1, "complain": "libxl: error: a.c:1:b: xenstored is gone"})
    with dom0.open(runtime) as host, pytest.raises(HostFailed, match="xl info failed: xenstored is gone"):
        host.snapshot()


def test_not_a_dom0(dom0: FakeDom0, runtime: Runtime) -> None:
    complaint = "xencall: error: Could not obtain handle on privileged command interface: No such file or directory"
    dom0.behave(list={"status": 1, "complain": complaint + "\nlibxl: error: libxl.c:1:x: cannot open libxc handle"})
    with dom0.open(runtime) as host, pytest.raises(HostFailed, match="not a Xen Dom0, or this user is not root"):
        host.snapshot()


def test_no_xl_at_all(dom0: FakeDom0, runtime: Runtime) -> None:
    (dom0.bin / "xl").unlink()
    with pytest.raises(HostFailed, match="there is no xl"):
        dom0.open(runtime)


def test_memory_maps_are_rationed_on_the_host(dom0: FakeDom0, runtime: Runtime) -> None:
    dom0.add(name="web", memory=64)

    def presses() -> int:
        return sum(call[0] == "debug-keys" for call in dom0.calls())

    with dom0.open(runtime) as host:
        assert host.snapshot().memory_map_age_s is None
        assert presses() == 0
        first = host.snapshot(MemoryMapAge.RECENT)
        assert presses() == 1
        again = host.snapshot(MemoryMapAge.RECENT)
        known = host.snapshot(MemoryMapAge.NONE)
        assert presses() == 0
        assert host.snapshot(MemoryMapAge.NOW).memory_map_age_s is not None
        assert presses() == 1
    for snapshot in (first, again, known):
        web = snapshot.domain("web")
        assert web is not None
        assert web.memory_by_node_mib == {1: 64}
    with dom0.open() as other:
        assert other.snapshot(MemoryMapAge.RECENT).memory_map_age_s is not None
    assert presses() == 0
    (dom0.run / "memory-map").write_text("0.0 0.01\n(XEN) old\n")
    with dom0.open(runtime) as host:
        assert host.snapshot(MemoryMapAge.RECENT).memory_map_age_s is not None
    assert presses() == 1


def test_a_dump_that_is_not_there_is_said(dom0: FakeDom0, runtime: Runtime) -> None:
    dom0.behave(debug_keys={"print": ""})
    with dom0.open(runtime) as host:
        snapshot = host.snapshot(MemoryMapAge.NOW)
    assert snapshot.memory_map_age_s is None
    assert snapshot.domains[0].pages_by_node is None
    assert any("conring_size" in note for note in snapshot.notes)


def test_reservations(dom0: FakeDom0, runtime: Runtime) -> None:
    with dom0.open(runtime) as host, dom0.open() as other:
        before = host.snapshot().reservations_generation
        host.perform(Reserve(reservation("one", mib=100), before))
        seen = other.snapshot()
        assert seen.reservations == (reservation("one", mib=100),)
        assert seen.available_mib(1) == 2048 - 100
        with pytest.raises(ReservationConflict):
            other.perform(Reserve(reservation("two"), before))
        other.perform(Reserve(reservation("two"), seen.reservations_generation))
        host.perform(Release("one"))
        host.perform(Release("one"))
        assert [found.token for found in host.snapshot().reservations] == ["two"]
        with pytest.raises(BadInput):
            host.perform(Reserve(reservation("../generation"), before))
    assert not dom0.left_behind()


def test_of_racing_clients_one_gets_the_reservation(dom0: FakeDom0) -> None:
    hosts = [dom0.open(runtime) for runtime in (Runtime.PYTHON, Runtime.SHELL) * 3]
    generation = hosts[0].snapshot().reservations_generation
    won: list[int] = []
    lost: list[int] = []

    def race(number: int, host: XenHost) -> None:
        try:
            host.perform(Reserve(reservation(f"r{number}"), generation))
            won.append(number)
        except ReservationConflict:
            lost.append(number)

    racers = [threading.Thread(target=race, args=pair) for pair in enumerate(hosts)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert (len(won), len(lost)) == (1, 5)
    assert [found.token for found in hosts[0].snapshot().reservations] == [f"r{won[0]}"]
    for host in hosts:
        host.close()
    assert not dom0.left_behind()


def test_of_racing_creations_of_one_name_one_is_refused(dom0: FakeDom0) -> None:
    dom0.behave(create={"before_s": 0.5})
    hosts = [dom0.open(Runtime.PYTHON), dom0.open(Runtime.SHELL)]
    problems: list[Exception] = []

    def race(host: XenHost) -> None:
        try:
            host.perform(CreatePaused("web", config("web")))
            host.perform(Unpause("web"))
        except Refused as problem:
            problems.append(problem)

    racers = [threading.Thread(target=race, args=(host,)) for host in hosts]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    for host in hosts:
        host.close()
    assert len(problems) == 1
    assert dom0.names() == ["Domain-0", "web"]
    assert sum(call[0] == "create" for call in dom0.calls()) == 1


def test_devices_without_a_known_node_are_there_too(dom0: FakeDom0) -> None:
    with dom0.open() as host:
        raw = host.raw_snapshot(MemoryMapAge.NONE)
    seen = ("0000:00:1f.2", "0000:41:00.0", "10000:e1:00.0", "not an address")
    devices = assemble(structs.replace(raw, pci_devices=seen), "here").topology.devices
    assert [(device.address, device.node) for device in devices] == [
        ("0000:00:1f.2", None),
        ("0000:41:00.0", 1),
        ("10000:e1:00.0", None),
    ]


def test_who_neither_runs_nor_is_blocked_waits_if_its_domain_may_run(dom0: FakeDom0) -> None:
    for name in ("web", "still", "crashed"):
        dom0.add(name=name, vcpus=3, paused=name == "still")
    with dom0.open() as host:
        raw = host.raw_snapshot(MemoryMapAge.NONE)
    states = {0: "r--", 1: "-b-", 2: "---"}
    rows = raw.vcpus.splitlines()
    rows[1:] = [row.replace("-b-", states[int(row.split()[2])]) if "Domain-0" not in row else row for row in rows[1:]]
    (crashed,) = (row for row in raw.domains.splitlines() if row.startswith("crashed"))
    listed = raw.domains.replace(crashed, re.sub(r" [rb-]{2}---- ", " ---sc- ", crashed).replace(" - ", " 3 ", 1))
    snapshot = assemble(structs.replace(raw, vcpus="\n".join(rows) + "\n", domains=listed), "here")
    found = {domain.name: [vcpu.waiting for vcpu in domain.vcpus] for domain in snapshot.domains[1:]}
    never = [False, False, False]
    assert found == {"web": [False, False, True], "still": never, "crashed": never}
