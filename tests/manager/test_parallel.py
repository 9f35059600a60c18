"""Ten processes at once: the same memory is never promised twice."""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sim_faults import FaultyHost, kill_me
from sim_world import World, connect, create, texts

from domicile.errors import Refused
from domicile.manager.create import OutcomeStatus
from domicile.manager.intents import IntentStatus
from domicile.manager.promise import Patience
from domicile.manager.recovery import settle
from domicile.manager.verify import verify

PROCESSES = 10


def at_once(count: int, act: Callable[[int], object], folder: Path) -> list[object]:
    """What each process answered (None: it died), all let go at the same moment."""
    start = time.monotonic() + 0.3
    children = []
    for index in range(count):
        child = os.fork()
        if child == 0:
            try:
                time.sleep(max(start - time.monotonic(), 0))
                (folder / f"{index}.json").write_text(json.dumps(act(index)))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    assert [each for each in statuses if os.WIFEXITED(each) and os.WEXITSTATUS(each)] == []
    answers = [folder / f"{index}.json" for index in range(count)]
    return [json.loads(path.read_text()) if path.exists() else None for path in answers]


def start(index: int, memory: int, count: int = 1) -> list[tuple[str, str, str]]:
    """Create guests through a connection of its own: name, how it ended, why."""
    names = [f"web{index}-{n}" for n in range(count)]
    patience = Patience(wait_s=30.0, pause_s=0.02, longest_pause_s=0.2, chance=random.Random(index))
    with connect() as host:
        try:
            outcomes = create(host, texts(*names, memory=memory), patience=patience)
        except Refused as error:
            return [(name, "refused", str(error)) for name in names]
    return [(outcome.domain, str(outcome.status), str(outcome.error or "")) for outcome in outcomes]


def assert_right(world: World, answers: list[object]) -> Counter[str]:
    """Everybody started is where it was planned, nobody is short, and nothing is left over."""
    ended = [tuple(each) for answer in answers if isinstance(answer, list) for each in answer]
    started = {name for name, status, _ in ended if status == OutcomeStatus.STARTED}
    assert started <= world.names()
    for name, status, why in ended:
        assert status == OutcomeStatus.STARTED or name in why
    snapshot = world.host.snapshot()
    assert all((node.free_mib or 0) >= 0 for node in snapshot.topology.nodes)
    assert snapshot.reservations == ()
    for intent in world.journal.active():
        seen = world.domain(intent.wanted.domain).memory_by_node_mib or {}
        assert seen.keys() == intent.wanted.memory_mib.keys()
        assert all(abs(seen[node] - mib) <= 1 for node, mib in intent.wanted.memory_mib.items())
    assert verify(world.host, world.journal).deviations == ()
    return Counter(status for _, status, _ in ended)


@pytest.mark.parametrize(("memory", "fit"), [(300, 10), (500, 4), (900, 4)], ids=["all fit", "few fit", "one a node"])
def test_ten_at_once(world: World, tmp_path: Path, memory: int, fit: int) -> None:
    # a guest that does not fit on a node is spread over several: 500 MiB leaves 453 on each of four nodes
    answers = at_once(PROCESSES, lambda index: start(index, memory), tmp_path)
    ended = assert_right(world, answers)
    assert ended[OutcomeStatus.STARTED] + ended["refused"] == PROCESSES
    most = (4 * 953) // memory
    assert fit <= ended[OutcomeStatus.STARTED] <= most
    world.assert_nothing_left()
    assert {intent.wanted.domain for intent in world.journal.active()} == world.names()
    for answer in answers:
        assert isinstance(answer, list)
        for _, status, why in answer:
            assert status == OutcomeStatus.STARTED or "MiB free and not promised to others" in why


def test_several_guests_each(world: World, tmp_path: Path) -> None:
    answers = at_once(6, lambda index: start(index, 200, 3), tmp_path)
    ended = assert_right(world, answers)
    assert ended[OutcomeStatus.STARTED] % 3 == 0, "all of a process's guests fit, or none was started"
    assert ended[OutcomeStatus.STARTED] >= 12
    world.assert_nothing_left()


def test_the_same_name_is_started_once(world: World, tmp_path: Path) -> None:
    def act(index: int) -> str:
        with connect() as host:
            try:
                return str(create(host, texts("web1"))[0].status)
            except Refused as error:
                return str(error)

    answers = at_once(PROCESSES, act, tmp_path)
    assert answers.count("started") == 1
    for answer in answers:
        assert answer == "started" or "is being started already" in str(answer) or "is there already" in str(answer)
    assert world.names() == {"web1"}
    world.assert_nothing_left()


def test_some_are_killed_in_the_middle(world: World, tmp_path: Path) -> None:
    def act(index: int) -> object:
        if index % 2:
            return start(index, 300)
        calls = 0

        def fault(name: str, after: bool) -> None:
            nonlocal calls
            calls += 1
            if calls > 2 and random.Random(index * 1000 + calls).random() < 0.25:
                kill_me()

        return [
            (o.domain, str(o.status), str(o.error)) for o in create(FaultyHost(connect(), fault), texts(f"x{index}"))
        ]

    answers = at_once(PROCESSES, act, tmp_path)
    assert_right(world, answers)
    settle(world.host, world.journal)
    world.assert_nothing_left()
    assert {intent.wanted.domain for intent in world.journal.active()} == world.names()
    assert {intent.status for intent in world.journal.intents()} <= {IntentStatus.ACTIVE, IntentStatus.FAILED}
