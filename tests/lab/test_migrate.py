"""Memory that moves between nodes, on the real Xen: by each way, with the guest checking its memory and its clock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from domicile.hosts.actions import EndMove, StartMove
from domicile.hosts.open import open_host
from domicile.lab import Lab
from domicile.lab.guests import Load, guest_config
from domicile.lab.guests.control import TinyGuest, output, running_guest, start_carrying
from domicile.state.model import Domain, DomainType, MemoryMapAge
from domicile.state.moves import MoveEnd, MoveOrder, MoveWay

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

MEMORY_MIB = 128
LIMIT_S = 400
HEAL_EVERY_S = 15.0
"""A guest whose CPU hangs in the emulator (`lab.stale_code`) does not suspend, and libxl waits for a minute."""


@pytest.fixture(autouse=True)
def _own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOMICILE_STATE", str(tmp_path / "state"))


Start = Callable[..., TinyGuest]


@pytest.fixture
def start(xen: Lab) -> Iterator[Start]:
    """Starts guests on node 2 that keep checking a pattern in their memory."""
    names: list[str] = []

    def begin(name: str, kind: DomainType, memory_mib: int = MEMORY_MIB, touch_mib: int = 32) -> TinyGuest:
        names.append(name)
        config = guest_config(name, kind, 2, memory_mib, keys={"cpus_soft": "nodes:2"})
        return start_carrying(xen, name, config, Load(1, touch_mib, pattern=True))

    yield begin
    for name in names:
        xen.run(["xl", "destroy", name])


def domicile(lab: Lab, *arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "domicile", arguments[0], "-c", f"lab:///{lab.name}", *arguments[1:]]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy())


def answer(process: subprocess.Popen[str], status: int = 0) -> dict[str, Any]:
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == status, out + err
    found: dict[str, Any] = json.loads(out)
    return found


def the(lab: Lab, name: str) -> Domain:
    with open_host(f"lab:///{lab.name}") as host:
        found = host.snapshot(MemoryMapAge.NOW).domain(name)
    assert found is not None
    return found


def on(domain: Domain) -> dict[int, int]:
    """Its pages, by node, but for the few that Xen puts where it likes."""
    assert domain.pages_by_node is not None
    return {node: pages for node, pages in domain.pages_by_node.items() if pages > 64}


def is_on(lab: Lab, name: str, node: int) -> bool:
    """Whether it is on this node alone; while its two copies change places nobody can tell."""
    with open_host(f"lab:///{lab.name}") as host:
        found = host.snapshot(MemoryMapAge.NOW).domain(name)
    return found is not None and found.pages_by_node is not None and set(on(found)) == {node}


def still_good(lab: Lab, name: str) -> TinyGuest:
    """The guest as it is now; its load goes on, and has found nothing wrong in its memory."""
    guest = running_guest(lab, name)
    guest._wait_for_state(LIMIT_S)
    before = guest.sweeps(LIMIT_S)
    deadline = time.monotonic() + LIMIT_S
    while guest.sweeps(LIMIT_S) <= before:
        assert time.monotonic() < deadline, "its load stands still"
    guest.require_load()
    return guest


def offset_s(guest: TinyGuest, lab: Lab) -> float:
    """The guest's clock against Dom0's."""
    _, guests_s = guest.clock(LIMIT_S)
    return guests_s - float(output(lab, ["date", "+%s"]))


@pytest.mark.parametrize(
    ("kind", "way"), [pytest.param(DomainType.PVH, "live", marks=pytest.mark.soak), (DomainType.PV, "save")]
)
def test_all_of_it_moves_checks_its_memory_and_keeps_its_clock(
    xen: Lab, start: Start, kind: DomainType, way: str
) -> None:
    guest = start("mover", kind)
    was, clock_s, up_s = the(xen, "mover"), offset_s(guest, xen), guest.clock()[0]
    done = answer(domicile(xen, "migrate", "mover", "--to", "3", "--way", way, "--pause", "600", "--json"))
    assert (done["status"], done["way"]) == ("moved", way)
    now = the(xen, "mover")
    assert set(on(now)) == {3}
    assert (now.uuid, now.name, now.memory_mib, len(now.vcpus)) == (was.uuid, was.name, was.memory_mib, len(was.vcpus))
    assert now.id != was.id
    assert all(vcpu.soft_affinity == {6, 7} for vcpu in now.vcpus)
    moved = still_good(xen, "mover")
    # Xen's own clock goes on while it stands still: what it was set to by is what it is set to by now
    assert abs(offset_s(moved, xen) - clock_s) < 15
    assert moved.clock()[0] > up_s
    assert xen.run(["sh", "-c", "ls /var/lib/xen/domicile/*.save"]).returncode != 0


@pytest.mark.soak
def test_what_was_moved_is_moved_back(xen: Lab, start: Start) -> None:
    start("mover", DomainType.PVH)
    answer(domicile(xen, "migrate", "mover", "--to", "3", "--pause", "600", "--json"))
    back = answer(domicile(xen, "undo", "--json"))
    assert [move["status"] for move in back["moves"]] == ["moved"]
    assert set(on(the(xen, "mover"))) == {2}
    still_good(xen, "mover")


def test_a_manager_that_is_killed_leaves_the_host_going_on(xen: Lab, start: Start) -> None:
    start("mover", DomainType.PVH)
    for _ in range(3):
        process = domicile(xen, "migrate", "mover", "--to", "1", "--way", "live", "--rate", "20", "--pause", "600")
        wait_for_stage(xen, process, "copying")
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        ended = wait_for_result(xen)
        assert ended["ended"] != "lost", what_is_there(xen)
        still_good(xen, "mover")
        if ended["ended"] == "moved":
            break
        # libxl gives a guest a minute to suspend, in which an emulated CPU can hang: then it runs on where it was
        assert "suspend" in ended["why"], what_is_there(xen)
        assert is_on(xen, "mover", 2), what_is_there(xen)
    assert is_on(xen, "mover", 1), what_is_there(xen)
    # the next that comes finds it, and writes down what came of it
    dry = domicile(xen, "migrate", "mover", "--to", "1", "--json")
    assert answer(dry)["way"] == "vcpus"
    plans = answer(domicile(xen, "history", "--json"))["plans"]
    assert plans[0]["outcome"].startswith("moved")


def wait_for_result(lab: Lab) -> dict[str, Any]:
    """How the one move that there is ended, by what carried it out itself."""
    begun = healed = time.monotonic()
    while (done := lab.run(["sh", "-c", "cat /run/domicile/moves/*/result"])).returncode != 0:
        now = time.monotonic()
        assert now - begun < 2 * LIMIT_S, what_is_there(lab)
        if now - healed > HEAL_EVERY_S:
            lab.heal()
            healed = time.monotonic()
        time.sleep(1)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def what_is_there(lab: Lab) -> str:
    """What tells why a move is not where it should be."""
    told = lab.run(["sh", "-c", "cd /run/domicile/moves && tail -n 30 */progress */result */log; xl list -v"])
    with open_host(f"lab:///{lab.name}") as host:
        domains = host.snapshot(MemoryMapAge.NOW).domains
    return "\n".join([told.stdout, told.stderr, *(f"{domain.name}: {domain.pages_by_node}" for domain in domains)])


def wait_for_stage(lab: Lab, process: subprocess.Popen[str], stage: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while lab.run(["sh", "-c", f"grep -q '^{stage} [1-9]' /run/domicile/moves/*/progress"]).returncode != 0:
        assert time.monotonic() < deadline, f"it is not {stage}"
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)


@pytest.mark.soak
def test_what_a_guest_can_free_moves_by_ballooning(xen: Lab, start: Start) -> None:
    start("mover", DomainType.PVH, memory_mib=256)
    was = the(xen, "mover")
    done = answer(domicile(xen, "migrate", "mover", "--to", "1", "--way", "balloon", "--min", "160", "--json"))
    assert done["status"] in ("moved", "partly moved")
    now = the(xen, "mover")
    assert (now.id, now.memory_mib) == (was.id, was.memory_mib)
    assert on(now)[1] > 60 * 256
    assert all(vcpu.soft_affinity == {2, 3} for vcpu in now.vcpus)
    still_good(xen, "mover")


@pytest.mark.soak
def test_a_pv_guest_whose_live_migration_fails_is_left_running_as_it_was(xen: Lab, start: Start) -> None:
    start("mover", DomainType.PV)
    was = the(xen, "mover")
    order = MoveOrder(
        "forced",
        "mover",
        was.uuid,
        MoveWay.LIVE,
        (3,),
        was.memory_mib,
        {3: was.memory_mib},
        None,
        (frozenset({6, 7}),) * 2,
    )
    with open_host(f"lab:///{xen.name}") as host:
        host.perform(StartMove(order))
        deadline = time.monotonic() + LIMIT_S
        while (move := host.snapshot().moves[0]).end is None:
            assert time.monotonic() < deadline
            host.wait(1)
        assert move.end is MoveEnd.FAILED
        assert "logdirty" in move.why
        host.perform(EndMove("forced"))
        assert not host.snapshot().moves
    now = the(xen, "mover")
    assert (now.id, now.paused) == (was.id, False)
    assert set(on(now)) == {2}
    still_good(xen, "mover")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("kind", "way", "stage"),
    [
        (DomainType.PVH, "live", "copying"),
        (DomainType.PV, "save", "saving"),
        (DomainType.PV, "save", "restoring"),
        (DomainType.PVH, "balloon", "giving back"),
    ],
)
@pytest.mark.parametrize("everything", [False, True])
def test_what_moves_it_is_killed(
    xen: Lab, start: Start, kind: DomainType, way: str, stage: str, everything: bool
) -> None:
    """Dom0's process that moves it, alone or with the `xl` that works for it: the domain runs afterwards, once."""
    start("mover", kind, memory_mib=192)
    least = ["--min", "130"] if way == "balloon" else []
    process = domicile(
        xen, "migrate", "mover", "--to", "1", "--way", way, "--pause", "600", "--rate", "20", *least, "--json"
    )
    wait_for_stage(xen, process, stage)
    which = "/run/domicile/moves/*/mover" + (" /run/domicile/moves/*/worker" if everything else "")
    xen.run(["sh", "-c", f"kill -9 $(cut -d ' ' -f 1 {which})"])
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode in (0, 1), out + err
    assert json.loads(out)["status"] in ("moved", "partly moved", "failed")
    listed = output(xen, ["xl", "list"])
    assert listed.count("mover") == 1, listed
    now = the(xen, "mover")
    assert (now.memory_mib, now.paused) == (192, False)
    still_good(xen, "mover")
    assert xen.run(["sh", "-c", "ls /var/lib/xen/domicile/*.save"]).returncode != 0
