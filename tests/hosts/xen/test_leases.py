"""What ends with its connection, whatever ends that: holds on vCPUs, and the manager's office."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from domicile.errors import Halted, HostFailed, Refused, ReservationConflict
from domicile.hosts.actions import Halt, Hold, LetGo, Manage, SetAffinity
from domicile.hosts.xen.channel import Runtime
from domicile.hosts.xen.host import XenHost

if TYPE_CHECKING:
    from tests.hosts.xen.conftest import FakeDom0

ALL = frozenset(range(8))
UUID = "11111111-0000-4000-8000-000000000001"


def hold(cpus: set[int], vcpu: int = 1, before: frozenset[int] = ALL, uuid: str = UUID) -> Hold:
    return Hold("web", uuid, vcpu, frozenset(cpus), before)


def hard(host: XenHost, vcpu: int = 1) -> frozenset[int]:
    domain = host.snapshot().domain("web")
    assert domain is not None
    return domain.vcpus[vcpu].hard_affinity


@pytest.fixture
def web(dom0: FakeDom0) -> FakeDom0:
    dom0.add(name="web", soft="2-3")
    return dom0


def test_a_hold_ends_with_its_connection(web: FakeDom0, runtime: Runtime) -> None:
    with web.open() as other:
        with web.open(runtime) as host:
            host.perform(hold({2, 3}))
            assert hard(other) == {2, 3}
            host.perform(hold({4}))
            assert hard(other) == {4}
            assert hard(other, 0) == ALL
        web.wait_for(lambda: hard(other) == ALL)
        vcpus = other.snapshot().domain("web")
        assert vcpus is not None
        assert vcpus.vcpus[1].soft_affinity == {2, 3}


def test_letting_go_gives_back_what_it_had(web: FakeDom0, runtime: Runtime) -> None:
    with web.open(runtime) as host:
        host.perform(SetAffinity("web", 1, hard=frozenset({0, 1, 2})))
        host.perform(hold({2}, before=frozenset({0, 1, 2})))
        host.perform(LetGo(UUID, 1))
        assert hard(host) == {0, 1, 2}
        host.perform(LetGo(UUID, 1))
        host.perform(LetGo(UUID, 0))


def test_what_somebody_else_sets_is_left_to_them(web: FakeDom0, runtime: Runtime) -> None:
    with web.open(runtime) as host:
        host.perform(hold({2}))
        host.perform(SetAffinity("web", 1, hard=frozenset({5})))
        with pytest.raises(ReservationConflict, match="somebody else"):
            host.perform(hold({3}))
        assert hard(host) == {5}
        host.perform(hold({6}, vcpu=0))
        host.perform(SetAffinity("web", 0, hard=frozenset({7})))
        host.perform(LetGo(UUID, 0))
        assert hard(host, 0) == {7}
    with web.open() as again:
        assert hard(again, 0) == {7}
        assert hard(again, 1) == {5}


def test_a_hold_needs_the_affinity_that_was_seen(web: FakeDom0, runtime: Runtime) -> None:
    with web.open(runtime) as host:
        host.perform(SetAffinity("web", 1, hard=frozenset({5})))
        with pytest.raises(ReservationConflict, match="has changed"):
            host.perform(hold({3}))
        with pytest.raises(Refused, match="another now"):
            host.perform(hold({3}, uuid=UUID.replace("1111", "2222", 1)))
        assert hard(host) == {5}


def test_one_holds_a_vcpu_at_a_time(web: FakeDom0, runtime: Runtime) -> None:
    with web.open() as first, web.open(runtime) as second:
        first.perform(hold({2}))
        with pytest.raises(Refused, match=r"held by process \d+"):
            second.perform(hold({3}))
        assert hard(second) == {2}


@pytest.mark.parametrize("after", [Runtime.PYTHON, Runtime.SHELL])
def test_what_a_killed_agent_held_is_given_back_by_the_next(web: FakeDom0, runtime: Runtime, after: Runtime) -> None:
    host = web.open(runtime)
    host.perform(hold({2}))
    host.perform(Manage("the daemon"))
    [record] = (web.run / "holds").iterdir()
    os.kill(int(record.read_text().split()[0]), signal.SIGKILL)
    with web.open(after) as other:
        web.wait_for(lambda: hard(other) == ALL)
        other.perform(Manage("another"))
    host.close()
    assert not list((web.run / "holds").iterdir())


def test_one_manages_a_host_at_a_time(dom0: FakeDom0, runtime: Runtime) -> None:
    with dom0.open() as other:
        with dom0.open(runtime) as host:
            host.perform(Manage('domicile run, pid 7 on "here"'))
            host.perform(Manage("domicile run, again"))
            with pytest.raises(Refused, match=r"managed by .*domicile run, again"):
                other.perform(Manage("me"))
            host.perform(Manage(""))
            other.perform(Manage("me"))
            with pytest.raises(Refused, match=r"managed by .*me"):
                host.perform(Manage("not me"))
            host.perform(Manage(""))
            other.perform(Manage(""))
            host.perform(Manage("once more"))
        other.perform(Manage("me"))


@pytest.mark.parametrize("halter", [Runtime.PYTHON, Runtime.SHELL])
def test_a_halt_ends_holds_and_keeps_managers_out(web: FakeDom0, runtime: Runtime, halter: Runtime) -> None:
    why = 'root on "there": enough'
    with web.open(runtime) as manager:
        manager.perform(Manage("the daemon"))
        manager.perform(hold({2}))
        with web.open(halter) as other:
            assert other.snapshot().halted == ""
            other.perform(Halt(why))
            assert hard(manager) == ALL
            assert manager.snapshot().halted == why
            for action in (hold({3}), SetAffinity("web", 0, soft=frozenset({3})), Manage("again")):
                with pytest.raises(Halted, match=r"managers of this host are stopped: .*enough.*domicile stop --off"):
                    manager.perform(action)
            # what a person does is their own affair
            other.perform(SetAffinity("web", 0, hard=frozenset({3})))
            assert hard(manager, 0) == {3}
        manager.perform(LetGo(UUID, 1))
        manager.perform(Manage(""))
        with pytest.raises(Halted):
            manager.perform(Manage("the daemon"))
    # it outlives connections, and is lifted through any
    with web.open(runtime) as later:
        assert later.snapshot().halted == why
        assert hard(later) == ALL
        with web.open(halter) as other:
            other.perform(Halt(None))
            other.perform(Halt(None))
        later.perform(Manage("the daemon"))
        later.perform(hold({2}))
        assert later.snapshot().halted == ""


def test_a_halt_that_cannot_let_go_says_so_and_holds(web: FakeDom0, runtime: Runtime) -> None:
    with web.open() as manager:
        manager.perform(hold({2}))
        with web.open(runtime) as other:
            web.behave(vcpu_pin={"status": 1, "stderr": "libxl: error: no\n"})
            with pytest.raises(HostFailed, match="managers are stopped, but 1 vCPU"):
                other.perform(Halt("enough"))
            web.behave()
            with pytest.raises(Halted):
                manager.perform(hold({3}))
            assert hard(other) == {2}
            other.perform(Halt("enough"))
            assert hard(other) == ALL
