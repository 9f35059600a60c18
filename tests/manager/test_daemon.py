"""Rounds that go on: what signals, the configuration and `domicile stop` do to them."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from played_host import PlayedHost
from watched import NODES, busy

from domicile.errors import BadInput, Halted, Refused
from domicile.hosts.actions import Hold, LetGo, Manage, SetAffinity
from domicile.local.supervisor import Supervisor
from domicile.manager.balance import Balancer
from domicile.manager.daemon import Daemon
from domicile.manager.events import LOGGER
from domicile.manager.intents import ActStatus
from domicile.manager.journal import Journal
from domicile.manager.signals import Interrupted, Told, ToldToEnd, told
from domicile.state.mandate import Mandate
from domicile.state.request import Intent

QUICK = Mandate(interval_s=2.0)


def astray() -> PlayedHost:
    """Two guests whose memory is on node 2, and whose vCPUs run on node 1, where their soft affinity is."""
    return PlayedHost([busy(name, (2, 3), 2, soft=NODES[1]) for name in ("web", "db")])


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite", "played") as found:
        yield found


def daemon(host: PlayedHost, journal: Journal, mandate: Mandate = QUICK, **more: object) -> Daemon:
    found = Daemon(
        Balancer(host, journal, Intent(mandate=mandate)),
        "the daemon",
        lambda: Intent(mandate=mandate),
        Told(),
        Supervisor(),
    )
    for name, value in more.items():
        setattr(found, name, value)
    return found


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.event for record in caplog.records if record.name == LOGGER]  # type: ignore[attr-defined]


def at(moment_s: float, act: Callable[[], None]) -> Callable[[float], None]:
    """Do it once, when that time has come."""
    left = [act]

    def then(now_s: float) -> None:
        if now_s >= moment_s and left:
            left.pop()()

    return then


def test_rounds_end_with_nothing_held(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    host = astray()
    daemon(host, journal).run(6)
    assert {act.domain for act in journal.acts() if act.status is ActStatus.DONE} == {"web", "db"}
    held = {(each.uuid, each.vcpu) for each in host.named(Hold) if isinstance(each, Hold)}
    assert held
    assert held == {(each.uuid, each.vcpu) for each in host.named(LetGo) if isinstance(each, LetGo)}
    assert (host.performed[0], host.performed[-1]) == (Manage("the daemon"), Manage(""))
    assert events(caplog)[0] == "started"
    assert events(caplog)[-1] == "ended"
    assert {"soft_affinity", "hold"} <= set(events(caplog))


def test_a_denied_domain_is_not_touched(journal: Journal) -> None:
    host = astray()
    found = daemon(host, journal, Mandate(interval_s=2.0, deny=("d?",)))
    found.run(6)
    assert {each.domain for each in host.performed if isinstance(each, Hold | SetAffinity)} == {"web"}
    plan = found.balancer.decide(host.snapshot())
    assert plan.left == (("db", "domicile.toml says so"),)


def test_read_only_changes_nothing(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    host = astray()
    daemon(host, journal, Mandate(interval_s=2.0, read_only=True)).run(4)
    assert host.performed == []
    assert journal.acts() == ()
    assert "would be: soft affinity to CPUs 4-5" in caplog.messages


def test_a_reload_lets_go_what_is_denied_now(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    host = astray()
    found = daemon(host, journal, configuration=lambda: Intent(mandate=Mandate(interval_s=1.0, deny=("db",))))

    def reload() -> None:
        assert any(uuid == "uuid-db" for uuid, _ in found.balancer.held)
        found.told.to_reload = True

    host.then = at(9.0, reload)
    found.run(6)
    [record] = [each for each in caplog.records if each.getMessage() == "configuration read again"]
    assert record.fields["changed"] == {"interval_s": 1.0, "deny": ["db"]}  # type: ignore[attr-defined]
    assert not any(uuid == "uuid-db" for uuid, _ in found.balancer.held)
    assert found.balancer.mandate.interval_s == 1.0
    # five rounds of 2 s, the reload in the fifth; one of 1 s
    assert host.now_s == pytest.approx(11.0)


def test_a_reload_to_read_only_lays_the_office_down(journal: Journal) -> None:
    host = astray()
    found = daemon(host, journal, configuration=lambda: Intent(mandate=Mandate(interval_s=2.0, read_only=True)))
    host.then = at(9.0, lambda: found.told.reload(signal.SIGHUP, None))
    found.run(7)
    last = host.performed.index(Manage(""))
    assert host.performed[last:] == [Manage("")]
    assert found.balancer.held == {}


def test_a_bad_configuration_is_refused_and_the_old_one_holds(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    def bad() -> Intent:
        raise BadInput("domicile.toml", "unknown key x", "manager")

    host = astray()
    found = daemon(host, journal, configuration=bad)
    host.then = at(1.0, lambda: found.told.reload(signal.SIGHUP, None))
    found.run(2)
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.why == "domicile.toml: manager: unknown key x; the old one holds"  # type: ignore[attr-defined]
    assert found.balancer.mandate == QUICK


def test_told_to_end_it_ends_between_two_calls_to_the_host(journal: Journal) -> None:
    host = astray()
    found = daemon(host, journal, Mandate(interval_s=100.0))
    host.then = at(7.0, lambda: found.told.end(signal.SIGTERM, None))
    found.run()
    assert host.now_s == pytest.approx(7.0)
    assert host.manager == ""
    with pytest.raises(Interrupted, match="SIGTERM"):
        found.told.end(signal.SIGTERM, None)


def test_a_halt_ends_it_at_the_next_look(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    host = astray()
    found = daemon(host, journal)
    host.then = at(9.0, lambda: setattr(host, "halted", "enough"))
    with pytest.raises(Halted, match="stopped: enough; `domicile stop --off`"):
        found.run()
    assert host.now_s < 10.5
    assert (host.manager, found.balancer.held) == ("", {})
    with pytest.raises(Halted):
        daemon(host, journal).run()
    assert host.manager == ""
    with pytest.raises(Halted):
        daemon(host, journal, Mandate(interval_s=2.0, read_only=True)).run()


def test_a_halt_in_the_middle_of_a_round_leaves_nothing_open(journal: Journal) -> None:
    """The host's side refuses the second change: none is left planned, and nobody waits for the next look."""

    class HaltedMeanwhile(PlayedHost):
        def perform(self, action: object) -> None:
            super().perform(action)  # type: ignore[arg-type]
            if isinstance(action, SetAffinity):
                self.halted = "enough"

    host = HaltedMeanwhile(astray().domains)
    with pytest.raises(Halted):
        daemon(host, journal).run()
    assert [act.status for act in journal.acts()] == [ActStatus.DONE] + [ActStatus.FAILED] * 3
    assert not host.named(Hold)


def test_who_is_refused_the_office_does_nothing(journal: Journal) -> None:
    class Taken(PlayedHost):
        def perform(self, action: object) -> None:
            raise Refused("managed by another")

    host = Taken(astray().domains)
    with pytest.raises(Refused, match="another"):
        daemon(host, journal).run()
    assert host.now_s == 0.0


def test_the_memory_map_is_asked_for_at_most_once_in_its_while(journal: Journal) -> None:
    host = astray()
    daemon(host, journal, Mandate(interval_s=2.0, memory_map_every_s=5.0)).run(10)
    assert host.maps == [0.0, 6.0, 12.0, 18.0]
    host = astray()
    daemon(host, journal, Mandate(interval_s=2.0, memory_map_every_s=0.0)).run(3)
    assert host.maps == [0.0, 2.0, 4.0, 6.0]


def test_the_supervisor_is_told(journal: Journal, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address)
        heard.setblocking(False)
        host = astray()
        found = daemon(host, journal, supervisor=Supervisor(address, watchdog_s=1000.0))
        host.then = at(3.0, lambda: found.told.reload(signal.SIGHUP, None))
        found.run(2)
        said = []
        while True:
            try:
                said.append(heard.recv(4096).decode().partition("\n")[0])
            except BlockingIOError:
                break
    statuses = [line for line in said if line.startswith("STATUS=")]
    assert statuses[0].startswith("STATUS=watching 2 domains; 0 left alone")
    others = [line for line in said if line not in statuses]
    assert others == ["READY=1", "WATCHDOG=1", "RELOADING=1", "READY=1", "STOPPING=1"]


def test_signals_are_noted_and_the_second_is_at_once() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    with told() as found:
        os.kill(os.getpid(), signal.SIGHUP)
        assert (found.to_reload, found.to_end) == (True, False)
        found.end_if_told()
        os.kill(os.getpid(), signal.SIGTERM)
        assert found.to_end
        with pytest.raises(ToldToEnd):
            found.end_if_told()
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)
    assert before == [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
