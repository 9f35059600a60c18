"""The client gone, whatever way it went: nothing half-made stays in the (fake) Dom0."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from processes import lives

from domicile.errors import HostFailed
from domicile.hosts.actions import CreatePaused, Reserve, Unpause
from domicile.hosts.xen.channel import Runtime
from domicile.hosts.xen.host import XenHost, open_xen
from domicile.hosts.xen.process import Conversation
from domicile.hosts.xen.transport import SshTransport
from domicile.state.model import Reservation

if TYPE_CHECKING:
    from tests.hosts.xen.conftest import FakeDom0

CONFIG = 'name = "web"\nmemory = 64\n'


def reserve(host: XenHost) -> None:
    generation = host.snapshot().reservations_generation
    host.perform(Reserve(Reservation("r", "web", {1: 64}, 1, "a test", 0.0), generation))


def conversation(host: XenHost) -> Conversation:
    found: Conversation = vars(host._channel)["_conversation"]
    return found


def clean(dom0: FakeDom0) -> Callable[[], bool]:
    """Whether neither domain nor promise is left."""
    return lambda: dom0.names() == ["Domain-0"] and not dom0.left_behind()


def start_creating(dom0: FakeDom0, host: XenHost, **behaviour: object) -> tuple[threading.Thread, list[Exception]]:
    """A creation under way in a thread, its `xl create` started, and what becomes of it."""
    dom0.behave(create=behaviour)
    problems: list[Exception] = []

    def create() -> None:
        try:
            host.perform(CreatePaused("web", CONFIG))
        except (HostFailed, ValueError) as problem:  # ValueError: a test closed the pipe behind its back
            problems.append(problem)

    thread = threading.Thread(target=create)
    thread.start()
    dom0.wait_for(lambda: any(call[0] == "create" for call in dom0.calls()))
    return thread, problems


def agent_pid(dom0: FakeDom0) -> int:
    """The process that owns the record of what is being built."""
    [record] = [path for path in (dom0.run / "building").iterdir() if path.suffix != ".cfg"]
    return int(record.read_text().split()[0])


def test_leaving_without_unpausing(dom0: FakeDom0, runtime: Runtime) -> None:
    with dom0.open(runtime) as host:
        reserve(host)
        host.perform(CreatePaused("web", CONFIG))
        assert dom0.names() == ["Domain-0", "web"]
    assert clean(dom0)()


def test_what_was_unpaused_by_hand_is_left_alone(dom0: FakeDom0, runtime: Runtime) -> None:
    with dom0.open(runtime) as host:
        host.perform(CreatePaused("web", CONFIG))
        state = dom0.read()
        state["domains"][1]["paused"] = False
        dom0.write(state)
    assert dom0.names() == ["Domain-0", "web"]
    assert not dom0.left_behind()


def test_another_domain_of_the_name_is_left_alone(dom0: FakeDom0, runtime: Runtime) -> None:
    with dom0.open(runtime) as host:
        host.perform(CreatePaused("web", CONFIG))
        state = dom0.read()
        state["domains"][1]["name"] = "renamed"
        dom0.write(state)
        dom0.add(name="web", paused=True)
    assert dom0.names() == ["Domain-0", "web"]


def test_input_ends_in_the_middle_of_create(dom0: FakeDom0, runtime: Runtime) -> None:
    host = dom0.open(runtime)
    reserve(host)
    thread, problems = start_creating(dom0, host, before_s=0.3, after_s=0.7)
    with conversation(host)._writing:
        conversation(host)._input.close()
    dom0.wait_for(clean(dom0))
    thread.join()
    assert problems
    host.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_agent_is_told_to_go_in_the_middle_of_create(dom0: FakeDom0, runtime: Runtime, number: int) -> None:
    host = dom0.open(runtime)
    thread, problems = start_creating(dom0, host, before_s=0.3, after_s=0.3)
    os.kill(agent_pid(dom0), number)
    thread.join()
    assert problems
    dom0.wait_for(clean(dom0))
    host.close()


def test_a_client_that_is_silent_is_taken_for_gone(
    dom0: FakeDom0, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a cable was pulled: no end of input, no signal, no more signs of life."""
    host = dom0.open(runtime)
    reserve(host)
    host.perform(CreatePaused("web", CONFIG))
    monkeypatch.setattr(host._channel, "beat", lambda: None)
    dom0.wait_for(clean(dom0), limit_s=30)
    with pytest.raises(HostFailed):
        host.snapshot()
    host.close()


def test_a_client_that_thinks_for_long_keeps_its_promises(dom0: FakeDom0, runtime: Runtime) -> None:
    with dom0.open(runtime) as host:
        reserve(host)
        host.perform(CreatePaused("web", CONFIG))
        threading.Event().wait(5)
        assert not clean(dom0)()
        host.perform(Unpause("web"))
        assert [found.token for found in host.snapshot().reservations] == ["r"]
    assert dom0.names() == ["Domain-0", "web"]


@pytest.mark.parametrize("after", [Runtime.PYTHON, Runtime.SHELL])
def test_what_a_killed_agent_left_is_cleared_away_by_the_next(dom0: FakeDom0, runtime: Runtime, after: Runtime) -> None:
    host = dom0.open(runtime)
    reserve(host)
    # its xl create is still at work when the next agent comes
    thread, problems = start_creating(dom0, host, after_s=30)
    dom0.wait_for(lambda: "web" in dom0.names())
    pid = agent_pid(dom0)
    os.kill(pid, signal.SIGKILL)
    dom0.wait_for(lambda: not lives(pid))
    thread.join()
    assert problems
    with dom0.open(after) as other:
        assert other.snapshot().domain("web") is None
        assert other.snapshot().reservations == ()
        assert clean(dom0)()
    host.close()


def test_the_ssh_connection_is_cut_in_the_middle_of_create(
    dom0: FakeDom0, sshd: SshTransport, runtime: Runtime
) -> None:
    host = open_xen("xen+ssh://127.0.0.1/", sshd, runtime)
    reserve(host)
    thread, problems = start_creating(dom0, host, before_s=0.5, after_s=0.5)
    conversation(host)._process.kill()
    thread.join()
    assert problems
    dom0.wait_for(clean(dom0))
    host.close()
