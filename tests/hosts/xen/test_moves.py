"""Moves in Dom0: who begins, lists, calls off and forgets them, what becomes of one whose process is killed, and what a
domain's configuration becomes on its way."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from domicile.errors import BadInput, Refused
from domicile.hosts.actions import EndMove, SetMemory, StartMove
from domicile.hosts.xen.channel import Runtime
from domicile.hosts.xen.dom0.agent import shelf
from domicile.hosts.xen.dom0.agent.moves import Moves
from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.agent.serve import Agent
from domicile.hosts.xen.dom0.mover.live import settle
from domicile.hosts.xen.dom0.mover.save import save
from domicile.hosts.xen.dom0.mover.stop import Stop
from domicile.hosts.xen.dom0.mover.tailor import HEADER, tailored_head
from domicile.hosts.xen.dom0.mover.task import Task
from domicile.hosts.xen.dom0.order import Order
from domicile.hosts.xen.dom0.row import Row
from domicile.state.moves import MoveEnd, MoveOrder, MoveWay

if TYPE_CHECKING:
    from tests.hosts.xen.conftest import FakeDom0

UUID = "11111111-0000-4000-8000-000000000001"
ORDER = MoveOrder(
    "tok-1", "web", UUID, MoveWay.LIVE, (2,), 64, {2: 70}, soft=(frozenset({4, 5}),) * 2, rate_mib_s=100.0
)
WIRE: dict[str, Any] = {
    "token": "tok-1",
    "domain": "web",
    "uuid": UUID,
    "way": "live",
    "nodes": [2],
    "memory_mib": 64,
    "after_mib": {"2": 70},
    "hard": None,
    "soft": [[4, 5], [4, 5]],
    "least_mib": 0,
    "rate_mib_s": 100.0,
    "limit_s": 60.0,
    "weight": 512,
    "cap_percent": 50,
    "cpupool": "Pool-0",
}

PROGRAM = """
import os, sys, time
folder = sys.argv[1]
with open(folder + "/progress", "w") as file:
    file.write("giving back 12 64\\n")
while not os.path.exists(folder + "/cancel") and not os.path.exists(folder + "/go"):
    time.sleep(0.01)
with open(folder + "/result.new", "w") as file:
    file.write('{"ended": "failed", "why": "called off"}\\n')
os.rename(folder + "/result.new", folder + "/result")
"""


class Quiet:
    """A link on which nothing is heard."""

    def wait(self, timeout_s: float, reading: Any = (), writing: Any = ()) -> tuple[list[int], list[int]]:
        ready, _, _ = select.select(list(reading), [], [], min(timeout_s, 0.005))
        return ready, []


@pytest.fixture
def dom0_agent(dom0: FakeDom0, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Agent]]:
    """Makes agents in a Dom0 that has Xen's bindings; what they started has ended afterwards."""
    begun: list[subprocess.Popen[bytes]] = []
    plain = Moves.start_mover

    def start_mover(self: Moves, folder: str) -> None:
        plain(self, folder)
        begun.append(self.movers[-1])

    monkeypatch.setattr(Moves, "start_mover", start_mover)
    dom0.add(name="web")
    for key, value in dom0.environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(shelf, "RUN_DIR", str(dom0.run))

    def make(program: str = PROGRAM) -> Agent:
        made = Agent(Quiet(), program)  # type: ignore[arg-type]
        made.xen.xc = object()
        return made

    yield make
    for mover_process in begun:
        mover_process.wait(30)


def until(what: Callable[[], object], limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def test_it_is_begun_listed_called_off_and_forgotten(dom0_agent: Callable[..., Agent]) -> None:
    one = dom0_agent()
    one.move(WIRE)
    until(lambda: one.moves.moving()[0]["stage"])
    [found] = one.moves.moving()
    assert (found["stage"], found["done_mib"], found["result"]) == ("giving back", 12, None)
    assert found["order"]["token"] == "tok-1"
    with pytest.raises(Problem, match="being moved already"):
        dom0_agent().move({**WIRE, "token": "tok-2"})
    with pytest.raises(Problem, match="there is a move tok-1 already"):
        one.move(WIRE)
    one.moves.end_move("tok-1")
    until(lambda: one.moves.moving()[0]["result"])
    assert one.moves.moving()[0]["result"] == {"ended": "failed", "why": "called off"}
    dom0_agent().moves.end_move("tok-1")
    assert one.moves.moving() == []
    one.moves.end_move("tok-1")


def test_one_that_was_killed_is_begun_again(dom0_agent: Callable[..., Agent]) -> None:
    first = dom0_agent()
    first.move(WIRE)
    until(lambda: first.moves.moving()[0]["stage"])
    [process] = first.moves.movers
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    second = dom0_agent()
    second.sweep()
    second.sweep()
    assert len(second.moves.movers) == 1
    second.moves.end_move("tok-1")
    until(lambda: second.moves.moving()[0]["result"])
    second.sweep()
    assert second.moves.moving()[0]["result"] is not None


def test_another_version_lets_it_go_on_as_it_began(dom0_agent: Callable[..., Agent], dom0: FakeDom0) -> None:
    """What carries it out is the move's own: nobody writes over it, and it goes when the move is forgotten."""
    first = dom0_agent()
    first.move(WIRE)
    until(lambda: first.moves.moving()[0]["stage"])
    [process] = first.moves.movers
    later = dom0_agent("raise SystemExit('this version knows no such order')")
    dom0.add(name="db")
    other = {**WIRE, "token": "tok-2", "domain": "db", "uuid": UUID[:-1] + "2"}
    later.move(other)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    later.sweep()
    first_program, other_program = (dom0.run / "moves" / token / "program" for token in ("tok-1", "tok-2"))
    assert first_program.read_text() == PROGRAM
    assert other_program.read_text() == later.moves.program
    later.moves.end_move("tok-1")
    until(lambda: later.moves.moving()[0]["result"])
    later.moves.end_move("tok-1")
    assert not first_program.exists()
    assert other_program.exists()


def test_a_move_that_has_no_program_gets_ours(dom0_agent: Callable[..., Agent], dom0: FakeDom0) -> None:
    """As an older version left one."""
    one = dom0_agent()
    folder = dom0.run / "moves" / "tok-1"
    folder.mkdir()
    (folder / "order").write_text(json.dumps({**WIRE, "xl": "xl"}))
    one.sweep()
    until(lambda: one.moves.moving()[0]["stage"])
    one.moves.end_move("tok-1")
    until(lambda: one.moves.moving()[0]["result"])


def test_a_service_has_it_run_outside(
    dom0_agent: Callable[..., Agent], dom0: FakeDom0, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service ends with all that it started, and is allowed less than `xl` needs."""
    asked = dom0.folder / "asked"
    (dom0.bin / "systemd-run").write_text(
        '#!/bin/sh\necho "$*" >'
        + str(asked)
        + """
while [ "${1#--}" != "$1" ]; do shift; done
eval "folder=\\${$#}"
"$@" </dev/null >/dev/null 2>&1 &
read -r line </proc/$!/stat
set -- $line
echo "$1 ${22}" >"$folder/mover"
"""
    )
    (dom0.bin / "systemd-run").chmod(0o755)
    monkeypatch.setenv("INVOCATION_ID", "1")
    one = dom0_agent()
    one.move(WIRE)
    assert "--collect" in asked.read_text()
    until(lambda: one.moves.moving()[0]["stage"])
    dom0_agent().sweep()
    one.moves.end_move("tok-1")
    until(lambda: one.moves.moving()[0]["result"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"uuid": UUID.replace("1111", "2222", 1)}, "another now"),
        ({"domain": "nobody"}, "no domain called nobody"),
        ({"domain": "Domain-0", "uuid": "00000000-0000-0000-0000-000000000000"}, "Dom0 is not moved"),
        ({"token": "../x"}, "cannot be a move's token"),
    ],
)
def test_what_is_refused(dom0_agent: Callable[..., Agent], changes: dict[str, Any], reason: str) -> None:
    one = dom0_agent()
    with pytest.raises(Problem, match=reason):
        one.move({**WIRE, **changes})
    assert one.moves.moving() == []


def test_a_balloon_driver_is_told(dom0: FakeDom0, runtime: Runtime) -> None:
    dom0.add(name="web")
    with dom0.open(runtime) as host:
        host.perform(SetMemory("web", UUID, 48))
        domain = host.snapshot().domain("web")
        assert domain is not None
        assert domain.memory_mib == 48
        with pytest.raises(Refused, match="another now"):
            host.perform(SetMemory("web", UUID.replace("1111", "2222", 1), 60))


def test_without_bindings_it_is_refused(dom0: FakeDom0, runtime: Runtime) -> None:
    dom0.add(name="web")
    with dom0.open(runtime) as host:
        with pytest.raises(Refused, match="bindings"):
            host.perform(StartMove(ORDER))
        with pytest.raises(BadInput, match="token"):
            host.perform(StartMove(MoveOrder("a b", "web", UUID, MoveWay.SAVE, (1,), 1, {1: 1})))
        host.perform(EndMove("tok-1"))
        assert host.snapshot().moves == ()


def test_a_snapshot_shows_it_and_not_the_second_copy(dom0: FakeDom0) -> None:
    dom0.add(name="web")
    dom0.add(name="web--incoming", uuid=UUID, memory=30, node=2, paused=True)
    folder = dom0.run / "moves" / "tok-1"
    with dom0.open() as host:
        folder.mkdir()
        (folder / "order").write_text(json.dumps({**WIRE, "xl": "xl"}))
        (folder / "progress").write_text("copying 30 64\n")
        (folder / "result").write_text('{"ended": "moved", "why": ""}')
        (dom0.run / "moves" / "odd").mkdir()
        (dom0.run / "moves" / "odd" / "order").write_text("{}")
        (dom0.run / "moves" / "odd" / "result").write_text("{}")
        snapshot = host.snapshot()
    [move] = snapshot.moves
    assert (move.order.nodes, move.stage, move.done_mib, move.taken_mib) == ((2,), "copying", 30, 30)
    assert move.end is MoveEnd.MOVED
    assert [domain.name for domain in snapshot.domains] == ["Domain-0", "web"]
    assert any("a move left out" in note for note in snapshot.notes)


# -- the mover


def head(config: dict[str, Any], rest: bytes = b"") -> bytes:
    text = json.dumps(config).encode() + b"\0"
    optional = struct.pack("=I", len(text)) + text + rest
    return HEADER.pack(b"Xen saved domain, xl format\n \0 \r".ljust(32), 0x01020304, 3, 0, len(optional)) + optional


def through(data: bytes) -> bytes:
    """What the head becomes, by way of a pipe."""
    out, into = os.pipe()

    def write() -> None:
        os.write(into, data)
        os.close(into)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        return tailored_head(out, Order(**{**WIRE, "xl": "xl"}))
    finally:
        writer.join()
        os.close(out)


CONFIG: dict[str, Any] = {
    "c_info": {"type": "pvh", "name": "old", "uuid": UUID},
    "b_info": {
        "max_vcpus": 2,
        "nodemap": [0],
        "vcpu_hard_affinity": [[0], [1]],
        "vcpu_soft_affinity": [[0, 1], [0, 1]],
        "sched_params": {"weight": 256, "period": 3},
        "kernel": "/boot/k",
    },
    "disks": [{"pdev_path": "/dev/sda"}],
}


def test_a_configuration_keeps_all_but_its_place() -> None:
    changed = through(head(CONFIG, b"more"))
    magic, order, flags, optional, length = HEADER.unpack(changed[: HEADER.size])
    assert (order, flags, optional, length) == (0x01020304, 3, 0, len(changed) - HEADER.size)
    assert magic.startswith(b"Xen saved domain")
    (size,) = struct.unpack("=I", changed[HEADER.size :][:4])
    text = changed[HEADER.size + 4 :][:size]
    assert text.endswith(b"\0")
    assert changed.endswith(b"more")
    found = json.loads(text[:-1])
    assert found["disks"] == CONFIG["disks"]
    assert found["c_info"] == {"type": "pvh", "name": "web", "uuid": UUID, "pool_name": "Pool-0"}
    assert found["b_info"] == {
        "max_vcpus": 2,
        "kernel": "/boot/k",
        "nodemap": [2],
        "numa_placement": "False",
        "vcpu_soft_affinity": [[4, 5], [4, 5]],
        "sched_params": {"weight": 512, "cap": 50, "period": 3},
    }


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (head({**CONFIG, "c_info": {"uuid": "other"}}), "another domain"),
        (head(CONFIG)[:60], "ended before"),
        (HEADER.pack(b"x" * 32, 0x04030201, 3, 0, 100) + b"0" * 100, "form that is not known"),
        (HEADER.pack(b"x" * 32, 0x01020304, 2, 0, 100) + b"0" * 100, "form that is not known"),
    ],
)
def test_what_is_no_such_head(data: bytes, reason: str) -> None:
    with pytest.raises(Stop, match=reason):
        through(data)


Copy = tuple[str, bool, bool]
"""A copy of the domain: its name, paused, suspended."""


class FakeXen:
    """What is there, and what was done to it."""

    def __init__(self, copies: list[Copy]) -> None:
        states = ["--" + "-p"[paused] + ("ss-" if suspended else "---") for _, paused, suspended in copies]
        self.found = [
            Row(10 + number, copy[0], UUID, state, 65536)
            for number, (copy, state) in enumerate(zip(copies, states, strict=True))
        ]
        self.done: list[str] = []

    def rows(self, uuid: str) -> list[Row]:
        assert uuid == UUID
        return self.found

    def resume(self, domid: int) -> None:
        self.done.append(f"resume {domid}")


class FakeTask(Task):
    """With an `xl` that only says what it was told."""

    def __init__(self, folder: Path, xen: FakeXen) -> None:
        self.folder = str(folder)
        self.order = Order(**{**WIRE, "xl": "xl"})
        self.xen = xen  # type: ignore[assignment]

    def xl(self, *arguments: str) -> None:
        self.xen.done.append(" ".join(arguments))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("rows", "done"),
    [
        ([("web", False, False)], []),
        ([("web", False, False), ("web--incoming", True, False)], ["destroy 11"]),
        ([("web", False, True), ("web--incoming", True, False)], ["destroy 11", "resume 10"]),
        # the receiver took the name: it is to run, and the other is to go
        ([("web--migratedaway", False, True), ("web", True, False)], ["destroy 10", "unpause 11"]),
        ([("web--migratedaway", False, True), ("web", False, False)], ["destroy 10"]),
        # it never took the name, and so never ran: the first one goes on
        (
            [("web--migratedaway", False, True), ("web--incoming", True, False)],
            ["destroy 11", "rename 10 web", "resume 10"],
        ),
        ([("web--migratedaway", False, True)], ["rename 10 web", "resume 10"]),
        # somebody else has paused it
        ([("web", True, False)], []),
    ],
)
def test_after_a_live_move_one_copy_is_left_and_runs(tmp_path: Path, rows: list[Copy], done: list[str]) -> None:
    xen = FakeXen(rows)
    settle(FakeTask(tmp_path, xen))
    assert xen.done == done


@pytest.mark.parametrize("suspended", [False, True])
def test_half_a_file_is_not_kept(tmp_path: Path, suspended: bool) -> None:
    xen = FakeXen([("web", False, suspended)])
    again = FakeTask(tmp_path, xen)
    again.saved = str(tmp_path / "web.save")
    Path(again.saved).write_text("half a domain")
    again.tell("saving", 30)
    with pytest.raises(Stop, match="it was stopped") as stop:
        save(again)
    assert stop.value.ended == "failed"
    assert not Path(again.saved).exists()
    assert xen.done == (["resume 10"] if suspended else [])


def test_a_domain_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(Stop) as stop:
        settle(FakeTask(tmp_path, FakeXen([])))
    assert stop.value.ended == "lost"
