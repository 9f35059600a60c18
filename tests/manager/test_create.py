"""A domain runs where it was planned, or nothing of it is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sim_faults import Fault, FaultyHost, dead_after, failing, failing_at
from sim_machines import config
from sim_policy import emptiest, fixed
from sim_world import HASTY, World, connect, create, read, texts

from domicile.errors import BadInput, DomicileError, HostFailed, NotEnoughMemory, Refused
from domicile.hosts.actions import CreatePaused, Destroy, Release, Reserve, SetAffinity, Unpause
from domicile.manager.create import OutcomeStatus, Step, create_domains, exit_status
from domicile.manager.guests import ConfigText
from domicile.manager.intents import IntentStatus
from domicile.manager.signals import Interrupted
from domicile.manager.start import MemoryElsewhere, Unreachable
from domicile.policies.plan import PlacementPlan
from domicile.state.model import Reservation, Snapshot

STARTED, REFUSED, FAILED = OutcomeStatus.STARTED, OutcomeStatus.REFUSED, OutcomeStatus.FAILED


class TestOne:
    def test_runs_where_it_was_planned(self, world: World) -> None:
        (outcome,) = world.create("web1", policy=fixed(2))
        assert (outcome.status, outcome.error, outcome.notes) == (STARTED, None, ())
        assert outcome.pages_by_node == {2: 65536}
        domain = world.domain("web1")
        assert not domain.paused
        assert {vcpu.soft_affinity for vcpu in domain.vcpus} == {frozenset({4, 5})}
        assert world.statuses() == [("web1", IntentStatus.ACTIVE)]
        world.assert_nothing_left()
        (intent,) = world.journal.active()
        assert intent.wanted.uuid == domain.uuid
        assert intent.seen is not None
        assert intent.seen.pages_by_node == {2: 65536}
        steps = [step for _, step in world.steps]
        assert steps == [Step.PLANNING, Step.CREATING, Step.CHECKING, Step.STARTING, Step.DONE]

    def test_acts_in_order_and_looks_twice(self, world: World) -> None:
        seen: list[str] = []
        host = FaultyHost(world.host, lambda name, after: None if after else seen.append(name))
        create(host, texts("web1"), journal=world.journal)
        assert seen == ["snapshot", "Reserve", "CreatePaused", "snapshot", "Unpause", "Release"]

    def test_keeps_a_uuid_of_the_configuration(self, world: World) -> None:
        uuid = "11111111-2222-3333-4444-555555555555"
        world.create("web1", uuid=uuid)
        assert world.domain("web1").uuid == uuid

    def test_the_journal_of_the_host_is_used_when_none_is_given(self, world: World) -> None:
        create(world.host, texts("web1"))
        assert world.statuses() == [("web1", IntentStatus.ACTIVE)]

    def test_nothing_to_do(self, world: World) -> None:
        assert create(world.host, []) == []

    def test_without_a_memory_map_it_is_started_and_said(self, world: World) -> None:
        class Blind(FaultyHost):
            def snapshot(self, *map_: object) -> Snapshot:
                seen = super().snapshot()
                return replace(seen, domains=tuple(replace(each, pages_by_node=None) for each in seen.domains))

        (outcome,) = create(Blind(world.host, lambda *_: None), texts("web1"), journal=world.journal)
        assert outcome.status is STARTED
        assert outcome.pages_by_node is None
        assert "was not checked" in outcome.notes[0]

    def test_affinity_that_did_not_take_is_put_right(self, world: World) -> None:
        def fault(name: str, after: bool) -> None:
            if (name, after) == ("CreatePaused", True):
                world.host.perform(SetAffinity("web1", 1, soft=frozenset({0})))

        (outcome,) = world.create("web1", policy=fixed(2), fault=fault)
        assert outcome.status is STARTED
        assert {vcpu.soft_affinity for vcpu in world.domain("web1").vcpus} == {frozenset({4, 5})}
        assert "affinity-corrected" in [event.kind for event in world.journal.events()]


class TestRefusedBeforeAnything:
    def refused(self, world: World, configs: list[ConfigText], kind: type[DomicileError], says: str) -> None:
        host = FaultyHost(world.host, lambda *_: None)
        with pytest.raises(kind, match=says):
            create(host, configs, journal=world.journal)
        assert not [each for each in host.performed if not isinstance(each, Reserve | Release)]
        assert world.journal.intents() == ()
        world.assert_nothing_left()

    def test_more_memory_than_the_host_has(self, world: World) -> None:
        self.refused(world, texts("ok") + texts("big", memory=9999), NotEnoughMemory, "big: needs 9999 MiB")

    def test_together_too_much(self, world: World) -> None:
        self.refused(world, texts(*"abcde", memory=900), NotEnoughMemory, "e: needs 900 MiB")

    def test_a_device_that_is_not_there(self, world: World) -> None:
        self.refused(world, texts("a", pci=["0000:99:00.0"]), BadInput, r"a\.cfg: pci: this host has no device 0000:99")

    def test_a_device_twice(self, world: World) -> None:
        self.refused(world, texts("a", "b", pci=["0000:41:00.0"]), Refused, "b: device 0000:41:00.0 is in use by a")

    def test_a_cpupool_that_is_not_there(self, world: World) -> None:
        self.refused(world, texts("a", pool="x"), BadInput, r"a\.cfg: pool: there is no cpupool 'x'; there are Pool-0")

    def test_a_name_twice(self, world: World) -> None:
        self.refused(world, texts("a", "a"), BadInput, r"a\.cfg: a is the name of the one in a\.cfg too")

    def test_a_uuid_twice(self, world: World) -> None:
        self.refused(world, texts("a", "b", uuid="AB"), BadInput, r"b\.cfg: b has the UUID of a too")

    def test_a_garbled_configuration(self, world: World) -> None:
        self.refused(world, [ConfigText("x.cfg", "name = [")], BadInput, r"x\.cfg")

    def test_a_configuration_that_the_placement_cannot_be_written_into(self, world: World) -> None:
        def write_none(config: ConfigText, *more: object) -> str:
            if config.source == "b.cfg":
                raise BadInput(config.source, "xl ignores the stray '&' at the very end")
            return config.text

        host = FaultyHost(world.host, lambda *_: None)
        more = {"policy": emptiest, "read": read, "write": write_none, "journal": world.journal}
        with pytest.raises(BadInput, match=r"b\.cfg: xl ignores"):
            create_domains(host, texts("a", "b"), **more)  # type: ignore[arg-type]
        assert not [each for each in host.performed if isinstance(each, CreatePaused)]
        assert world.journal.intents() == ()
        world.assert_nothing_left()

    def test_a_name_and_a_uuid_that_are_there(self, world: World) -> None:
        world.host.perform(CreatePaused("a", config("a", uuid="abc")))
        world.host.perform(Unpause("a"))
        self.refused(world, texts("a"), Refused, "a: a domain of this name is there already")
        self.refused(world, texts("b", uuid="ABC"), Refused, "b: a has its UUID already")

    def test_a_name_that_another_is_starting(self, world: World) -> None:
        with connect() as other:
            reservation = Reservation("t", "a", {0: 1}, 1, "pid 812 on host7", 0.0)
            other.perform(Reserve(reservation, other.snapshot().reservations_generation))
            with pytest.raises(Refused, match="a: is being started already, by pid 812 on host7"):
                world.create("a")

    def test_a_policy_that_promises_what_is_not_free(self, world: World) -> None:
        with pytest.raises(NotEnoughMemory, match="a, b: needs 1200 MiB, node 1 has"):
            world.create("a", "b", memory=600, policy=fixed(1))
        with pytest.raises(Refused, match="node 9, which is not there"):
            world.create(
                "a",
                policy=lambda *args: PlacementPlan(
                    (replace(emptiest(*args).placements[0], reserve_mib={9: 1}),), "odd"
                ),
            )
        world.assert_nothing_left()


class TestMemoryElsewhere:
    """Somebody with `xl` takes the memory between the promise and the start."""

    def thief(self, world: World, nodes: list[int]) -> Callable[[str, bool], None]:
        """Before each start, fill the next of these nodes to the last 100 MiB."""

        def fault(name: str, after: bool) -> None:
            if name == "CreatePaused" and not after and nodes:
                node = nodes.pop(0)
                free = world.free_mib()[node] or 0
                text = config(f"thief{node}", free - 100, 1, cpus=[[2 * node]])
                world.host.perform(CreatePaused(f"thief{node}", text))
                world.host.perform(Unpause(f"thief{node}"))

        return fault

    def test_is_undone_and_planned_anew(self, world: World) -> None:
        (outcome,) = world.create("web1", fault=self.thief(world, [0]))
        assert outcome.status is STARTED
        assert outcome.pages_by_node == {1: 65536}
        assert world.statuses() == [("web1", IntentStatus.FAILED), ("web1", IntentStatus.ACTIVE)]
        assert "Xen put its memory elsewhere: node 0: 100 MiB, node 1: 156 MiB" in world.journal.intents()[0].reason
        assert world.names() == {"web1", "thief0"}
        world.assert_nothing_left()

    def test_a_second_time_it_is_refused_with_figures(self, world: World) -> None:
        (outcome,) = world.create("web1", fault=self.thief(world, [0, 1]))
        assert outcome.status is REFUSED
        assert isinstance(outcome.error, MemoryElsewhere)
        assert "node 0: 100 MiB" in str(outcome.error)
        assert "not node 1: 256 MiB; it was so at the first try too" in str(outcome.error)
        assert exit_status([outcome]) == 1
        assert world.names() == {"thief0", "thief1"}
        world.assert_nothing_left()

    def test_when_there_is_no_other_place_both_reasons_are_given(self, world: World) -> None:
        (outcome,) = world.create("web1", policy=fixed(0), fault=self.thief(world, [0]))
        assert outcome.status is REFUSED
        assert "elsewhere" in str(outcome.error)
        assert "no other place: web1: needs 256 MiB, node 0 has 100 MiB" in str(outcome.error)
        assert world.names() == {"thief0"}
        world.assert_nothing_left()


class TestSeveral:
    def test_planned_together_and_started_in_order(self, world: World) -> None:
        outcomes = world.create(*"abcd", memory=700)
        assert [outcome.domain for outcome in outcomes] == list("abcd")
        assert {node for outcome in outcomes for node in outcome.pages_by_node or {}} == {0, 1, 2, 3}
        assert exit_status(outcomes) == 0
        world.assert_nothing_left()

    def test_one_that_fails_stops_nobody_else(self, world: World) -> None:
        created = 0

        def fault(name: str, after: bool) -> None:
            nonlocal created
            created += (name, after) == ("CreatePaused", False)
            if created == 2 and name == "CreatePaused":
                created = 99
                raise HostFailed("xl create: no kernel")

        outcomes = world.create(*"abc", fault=fault)
        assert [outcome.status for outcome in outcomes] == [STARTED, FAILED, STARTED]
        assert str(outcomes[1].error) == "xl create: no kernel"
        assert exit_status(outcomes) == 3
        assert world.names() == {"a", "c"}
        assert [status for _, status in world.statuses()] == [
            IntentStatus.ACTIVE,
            IntentStatus.FAILED,
            IntentStatus.ACTIVE,
        ]
        world.assert_nothing_left()

    def test_memory_is_held_for_those_to_come(self, world: World) -> None:
        def fault(name: str, after: bool) -> None:
            if (name, after) == ("Unpause", False):
                seen.append([each.domain for each in world.host.snapshot().reservations])

        seen: list[list[str]] = []
        world.create(*"ab", fault=fault)
        assert seen == [["a", "b"], ["b"]]


class TestTheHostFails:
    @pytest.mark.parametrize("call", ["Reserve", "CreatePaused", "snapshot", "Unpause"])
    @pytest.mark.parametrize("after", [False, True], ids=["not done", "done without an answer"])
    def test_once(self, world: World, call: str, after: bool) -> None:
        before = world.free_mib()
        fault = failing([(call, after)])
        if call in {"Reserve", "snapshot"}:
            with pytest.raises(HostFailed, match="cut"):
                world.create("web1", fault=fault)
            runs = False
        else:
            (outcome,) = world.create("web1", fault=fault)
            runs = call == "Unpause" and after
            assert outcome.status is (STARTED if runs else FAILED)
            if runs:
                assert outcome.notes == ("it runs, although starting it gave an error: cut",)
        assert world.names() == ({"web1"} if runs else set())
        assert runs or world.free_mib() == before
        world.assert_nothing_left()
        if not runs:
            assert world.create("web1")[0].status is STARTED

    def test_a_release_without_an_answer_is_only_noted(self, world: World) -> None:
        (outcome,) = world.create("web1", fault=failing([("Release", False)]))
        assert outcome.status is STARTED
        assert "its reservation could not be released (cut)" in outcome.notes[0]
        world.host.close()
        with connect() as again:
            assert again.snapshot().reservations == ()

    def test_a_domain_that_vanishes_while_it_is_looked_at(self, world: World) -> None:
        def fault(name: str, after: bool) -> None:
            if (name, after) == ("CreatePaused", True):
                world.host.perform(Destroy("web1"))

        (outcome,) = world.create("web1", fault=fault)
        assert outcome.status is FAILED
        assert "is not there any more" in str(outcome.error)
        world.assert_nothing_left()

    @pytest.mark.parametrize("calls", range(14))
    def test_and_stays_away(self, world: World, calls: int) -> None:
        """Cut for good after so many calls: a clear error, and the host ends what is left with the connection."""
        assert_whole(world, dead_after(calls))

    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sets(st.tuples(st.integers(0, 24), st.booleans()), max_size=5))
    def test_at_any_calls(self, world: World, points: set[tuple[int, bool]]) -> None:
        """Calls that fail, done or not, in any number and at any place."""
        assert_whole(world, failing_at(points))

    def test_when_undoing_fails_too_nothing_more_is_tried(self, world: World) -> None:
        calls = dead_after(6)
        outcomes = world.create(*"abc", fault=calls)
        assert isinstance(outcomes[0].error, Unreachable)
        assert [outcome.status for outcome in outcomes[1:]] == [OutcomeStatus.NOT_STARTED] * 2
        assert "undoing it failed (connection lost)" in str(outcomes[0].error)
        assert exit_status(outcomes) == 3


def assert_whole(world: World, fault: Fault) -> None:
    """Create two guests through a faulty line: whole or not at all, and the next creation knows which."""
    errors: list[DomicileError] = []
    connection = connect()
    try:
        outcomes = create(FaultyHost(connection, fault), texts("a", "b"), journal=world.journal)
        errors += [outcome.error for outcome in outcomes if outcome.error]
        started = {outcome.domain for outcome in outcomes if outcome.status is STARTED}
        possibly = {outcome.domain for outcome in outcomes if isinstance(outcome.error, Unreachable)}
    except HostFailed as error:
        errors.append(error)
        started, possibly = set(), set()
    for each in errors:
        assert "connection lost" in str(each) or "answers no more" in str(each)
        assert "\n" not in str(each)
    connection.close()
    with connect() as again:
        (outcome,) = create(again, texts("later", memory=64), journal=world.journal)
        assert outcome.status is STARTED
    world.assert_nothing_left()
    names = world.names()
    assert {intent.wanted.domain for intent in world.journal.active()} == names
    # one whose start gave no answer may run: its error said that it is not known
    assert started <= names - {"later"} <= started | possibly
    for name in names:
        world.host.perform(Destroy(name))
        world.journal.forget(name)
    assert world.free_mib() == [953, 953, 953, 953]


class TestInterrupted:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    @pytest.mark.parametrize("call", ["Reserve", "CreatePaused", "Unpause"])
    @pytest.mark.parametrize("after", [False, True])
    def test_a_signal_while_the_host_hangs(self, world: World, number: signal.Signals, call: str, after: bool) -> None:
        before = world.free_mib()

        def fault(name: str, is_after: bool) -> None:
            if (name, is_after) == (call, after):
                os.kill(os.getpid(), number)
                time.sleep(5)

        with pytest.raises(KeyboardInterrupt) as caught:
            world.create("a", "b", fault=fault)
        assert isinstance(caught.value, Interrupted) == (number is not signal.SIGINT)
        assert world.names() == set()
        assert world.free_mib() == before
        world.assert_nothing_left()
        assert {intent.status for intent in world.journal.intents()} <= {IntentStatus.FAILED}

    def test_what_runs_already_stays(self, world: World) -> None:
        def fault(name: str, after: bool) -> None:
            if name == "CreatePaused" and not after and world.names():
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            world.create("a", "b", "c", fault=fault)
        assert world.names() == {"a"}
        reasons = [intent.reason for intent in world.journal.intents()]
        assert reasons == ["", "interrupted (KeyboardInterrupt)", "the creation ended before its turn"]
        world.assert_nothing_left()

    def test_the_handlers_are_put_back(self, world: World) -> None:
        world.create("a")
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


class TestOthers:
    def test_a_conflict_is_decided_again_on_what_is_there_then(self, world: World) -> None:
        rivals = iter([0, 1])

        def fault(name: str, after: bool) -> None:
            if name == "Reserve" and not after and (node := next(rivals, None)) is not None:
                reservation = Reservation(f"r{node}", f"rival{node}", {node: 800}, 1, "rival", 0.0)
                world.host.perform(Reserve(reservation, world.host.snapshot().reservations_generation))

        (outcome,) = world.create("web1", fault=fault)
        assert outcome.pages_by_node == {2: 65536}

    def test_others_that_are_always_faster(self, world: World) -> None:
        count = 0

        def fault(name: str, after: bool) -> None:
            nonlocal count
            if name == "Reserve" and not after:
                count += 1
                reservation = Reservation(f"r{count}", f"rival{count}", {0: 1}, 1, "rival", 0.0)
                world.host.perform(Reserve(reservation, world.host.snapshot().reservations_generation))

        hasty = replace(HASTY, tries=5, sleep=lambda s: None)
        with pytest.raises(HostFailed, match="gave up after 5 tries"):
            create(FaultyHost(world.host, fault), texts("a"), journal=world.journal, patience=hasty)

    def test_waits_for_memory_promised_to_others(self, world: World) -> None:
        with connect() as other:
            promised = Reservation("t", "other", dict.fromkeys(range(4), 900), 1, "pid 812", 0.0)
            other.perform(Reserve(promised, other.snapshot().reservations_generation))
            patience = replace(HASTY, wait_s=60.0, sleep=lambda s: other.perform(Release("t")))
            (outcome,) = create(
                world.host, texts("a"), journal=world.journal, patience=patience, progress=world.progress
            )
        assert outcome.status is STARTED
        assert ("a", Step.WAITING) in world.steps

    def test_and_says_for_whom_when_it_was_in_vain(self, world: World) -> None:
        with connect() as other:
            promised = Reservation("t", "other", dict.fromkeys(range(4), 900), 1, "pid 812", 0.0)
            other.perform(Reserve(promised, other.snapshot().reservations_generation))
            with pytest.raises(Refused, match=r"a: needs 256 MiB.*; waited for those being started: other \(pid 812\)"):
                world.create("a")

    def test_does_not_wait_for_what_would_not_help(self, world: World) -> None:
        with connect() as other:
            promised = Reservation("t", "other", {0: 1}, 1, "pid 812", 0.0)
            other.perform(Reserve(promised, other.snapshot().reservations_generation))
            patience = replace(HASTY, sleep=lambda s: pytest.fail("waited"))
            with pytest.raises(NotEnoughMemory, match="needs 9999 MiB"):
                create(world.host, texts("a", memory=9999), journal=world.journal, patience=patience)

    def test_memory_taken_between_two_reservations_of_ours(self, world: World) -> None:
        """A rival reserves, starts and releases between our two reservations: both are decided again."""
        done: list[bool] = []

        def fault(name: str, after: bool) -> None:
            if (name, after) == ("Reserve", True) and not done:
                done.append(True)
                with connect() as rival:
                    rival.perform(CreatePaused("rival", config("rival", 900, cpus=[[2], [2]])))
                    rival.perform(Unpause("rival"))

        outcomes = world.create("a", "b", memory=700, fault=fault)
        assert [outcome.pages_by_node for outcome in outcomes] == [{0: 179200}, {2: 179200}]
        world.assert_nothing_left()
