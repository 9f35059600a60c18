"""Killed at any point: the next start finds out what happened, and nothing half-made or promised is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
from sim_faults import FaultyHost, failing, kill_me, killed, run_in_child
from sim_machines import config
from sim_world import World, connect, create, texts

from domicile.errors import HostFailed
from domicile.hosts.actions import CreatePaused, Unpause
from domicile.local.process import is_alive
from domicile.manager.create import OutcomeStatus
from domicile.manager.intents import DomainIntent, IntentStatus, Seen, Wanted
from domicile.manager.journal import Journal
from domicile.manager.recovery import Fate, orphans, seen_of, settle

T = TypeVar("T")

STARTING = ("CreatePaused", "snapshot", "Unpause", "Release")
HOST_CALLS = ("snapshot", "Reserve", "snapshot", "Reserve", *STARTING, *STARTING)
"""What creating two guests asks of the host, in order: the points to be killed at."""

JOURNAL_CALLS = 1 + 2 * 3
"""And of the journal: begin, then creating, observed and active for each."""


class KillingJournal(Journal):
    """Ends its process before or after the transaction with this number."""

    left = -1
    after = False

    def _killed_at(self, after: bool) -> None:
        if self.after == after and self.left == 0:
            kill_me()

    def begin(self, kind: str, policy: str, wanted: Sequence[Wanted]) -> tuple[DomainIntent, ...]:
        return self._counted(lambda: super(KillingJournal, self).begin(kind, policy, wanted))

    def advance(self, intent: int, status: IntentStatus, reason: str = "", seen: Seen | None = None) -> DomainIntent:
        return self._counted(lambda: super(KillingJournal, self).advance(intent, status, reason, seen))

    def observe(self, intent: int, seen: Seen) -> DomainIntent:
        return self._counted(lambda: super(KillingJournal, self).observe(intent, seen))

    def _counted(self, call: Callable[[], T]) -> T:
        self._killed_at(False)
        result = call()
        self._killed_at(True)
        self.left -= 1
        return result


def assert_recovers(world: World, status: int) -> None:
    """After the kill: no reservation, nothing half-made, and the next creation knows what runs."""
    assert killed(status)
    snapshot = world.host.snapshot()
    assert snapshot.reservations == ()
    assert not [domain for domain in snapshot.domains if domain.paused]
    assert not [intent for intent in world.journal.pending() if is_alive(intent.owner)]
    ran = world.names()
    (outcome,) = world.create("later")
    assert outcome.status is OutcomeStatus.STARTED
    world.assert_nothing_left()
    assert {intent.wanted.domain for intent in world.journal.active()} == world.names() == ran | {"later"}
    for intent in world.journal.active():
        assert intent.seen is not None
        assert intent.wanted.uuid == world.domain(intent.wanted.domain).uuid
    # and what was cut off can be had again
    missing = [name for name in ("a", "b") if name not in ran]
    assert all(outcome.status is OutcomeStatus.STARTED for outcome in world.create(*missing))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", range(len(HOST_CALLS)), ids=lambda n: f"{n}-{HOST_CALLS[n]}")
def test_killed_at_a_call_of_the_host(world: World, call: int, after: bool) -> None:
    def act() -> None:
        calls: list[str] = []

        def fault(name: str, is_after: bool) -> None:
            if not is_after:
                calls.append(name)
            if len(calls) == call + 1 and is_after == after:
                assert tuple(calls) == HOST_CALLS[: call + 1]
                kill_me()

        create(FaultyHost(connect(), fault), texts("a", "b"))

    assert_recovers(world, run_in_child(act))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", range(JOURNAL_CALLS))
def test_killed_at_a_step_of_the_journal(world: World, call: int, after: bool) -> None:
    def act() -> None:
        journal = KillingJournal.for_host(world.host.snapshot().host_id)
        journal.left, journal.after = call, after
        create(connect(), texts("a", "b"), journal=journal)

    assert_recovers(world, run_in_child(act))


def test_a_power_cut_takes_the_domains_too(world: World) -> None:
    """After a reboot nothing runs: what was active is gone, what was pending has failed."""

    def act() -> None:
        create(FaultyHost(connect(), lambda name, after: kill_me() if name == "Unpause" else None), texts("a"))

    world.create("old")
    assert killed(run_in_child(act))
    assert settle(world.host, world.journal)[0].fate is Fate.NOT_STARTED
    assert world.statuses() == [("old", IntentStatus.ACTIVE), ("a", IntentStatus.FAILED)]
    assert settle(world.host, world.journal) == []


def orphan(world: World, *, status: IntentStatus, uuid: str = "mine") -> DomainIntent:
    wanted = Wanted("a", uuid, (0,), {0: 256}, None, 2, "Pool-0", "")
    (intent,) = world.journal.begin("create", "test", [wanted])
    if status is IntentStatus.CREATING:
        intent = world.journal.advance(intent.id, status)
    abandoned = world.journal.abandon(intent)
    assert abandoned is not None
    return abandoned


class TestOnAHostThatKeepsWhatItsConnectionMade:
    """A Xen host whose own helper was killed with the connection: the paused domain stays."""

    def test_a_half_made_domain_is_destroyed(self, world: World) -> None:
        world.host.perform(CreatePaused("a", config("a", uuid="mine")))
        orphan(world, status=IntentStatus.CREATING)
        (settled,) = settle(world.host, world.journal)
        assert settled.fate is Fate.HALF_MADE
        assert settled.intent.status is IntentStatus.FAILED
        assert "what was there of it was destroyed" in settled.intent.reason
        assert world.names() == set()

    def test_anothers_of_the_same_name_is_left_alone(self, world: World) -> None:
        world.host.perform(CreatePaused("a", config("a", uuid="another's")))
        orphan(world, status=IntentStatus.CREATING)
        (settled,) = settle(world.host, world.journal)
        assert settled.fate is Fate.NOT_STARTED
        assert world.names() == {"a"}

    def test_one_that_runs_is_taken_on(self, world: World) -> None:
        world.host.perform(CreatePaused("a", config("a", uuid="mine")))
        world.host.perform(Unpause("a"))
        orphan(world, status=IntentStatus.CREATING)
        (settled,) = settle(world.host, world.journal)
        assert settled.intent.status is IntentStatus.ACTIVE
        assert settled.intent.seen is not None
        assert sum((settled.intent.seen.pages_by_node or {}).values()) == 65536

    @pytest.mark.parametrize("ran", [False, True], ids=["never ran", "ran"])
    def test_one_that_is_paused_is_destroyed_only_if_it_never_ran(self, world: World, ran: bool) -> None:
        """Killed about the time it was let run, and then an administrator paused it."""
        world.host.perform(CreatePaused("a", config("a", uuid="mine")))
        left = orphan(world, status=IntentStatus.CREATING)
        world.journal.observe(left.id, seen_of(world.domain("a")))
        if ran:
            world.host.perform(Unpause("a"))
            world.host.alter("a", lambda domain: replace(domain, paused=True))
        (settled,) = settle(world.host, world.journal)
        assert settled.intent.status is (IntentStatus.ACTIVE if ran else IntentStatus.FAILED)
        assert world.names() == ({"a"} if ran else set())

    @pytest.mark.parametrize("point", [("Destroy", False), ("snapshot", False)])
    def test_what_cannot_be_settled_waits_for_the_next_time(self, world: World, point: tuple[str, bool]) -> None:
        world.host.perform(CreatePaused("a", config("a", uuid="mine")))
        orphan(world, status=IntentStatus.CREATING)
        host = FaultyHost(world.host, failing([point]))
        if point[0] == "snapshot":
            with pytest.raises(HostFailed, match="cut"):
                settle(host, world.journal)
        else:
            assert str(settle(host, world.journal)[0].error) == "cut"
        assert len(orphans(world.journal)) == 1
        assert settle(host, world.journal)[0].error is None
        assert world.names() == set()

    def test_what_a_living_process_works_on_is_left_alone(self, world: World) -> None:
        wanted = Wanted("a", "mine", (0,), {0: 256}, None, 2, "Pool-0", "")
        world.journal.begin("create", "test", [wanted])
        assert settle(world.host, world.journal) == []
        assert len(world.journal.pending()) == 1
