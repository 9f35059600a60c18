"""Every kind of plan, with its manager killed before and after every call of the host and every write to the journal.

The steps are those of the same plan without a fault, counted. Whoever looks next brings all of it to an end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fault_line import JOURNAL, Fault, Faults, NoFaults, OneFault
from fault_stage import Player
from fault_world import FaultWorld
from sim_policy import fixed

from domicile.policies.migration.records import Way

MOVES = [Way.LIVE, Way.SAVE, Way.BALLOON]

Prepare = Callable[[FaultWorld], None]
Act = Callable[[FaultWorld, Faults], Callable[[Player], None]]


def one(world: FaultWorld) -> None:
    """A guest on node 0, its vCPUs sent to node 1."""
    world.alone("before", world.creating(["a"], 96, NoFaults(), fixed(0)))
    world.pin("a", world.store.state.machine.topology.cpus_of((1,)), hard=False)
    world.ledger.changed_soft.clear()


def balanced(world: FaultWorld) -> None:
    """Its vCPUs have come home."""
    one(world)
    world.alone("earlier", world.running(1, NoFaults()))


def moved(way: Way) -> Prepare:
    """It was moved to node 2."""

    def prepare(world: FaultWorld) -> None:
        one(world)
        world.alone("earlier", world.migrating("a", (2,), way, NoFaults()))

    return prepare


def nothing(world: FaultWorld) -> None:
    """An empty host."""


PLANS: dict[str, tuple[Prepare, Act]] = {
    "create": (nothing, lambda world, faults: world.creating(["a"], 96, faults)),
    "create three": (one, lambda world, faults: world.creating(["b", "c", "d"], 96, faults)),
    "balance": (one, lambda world, faults: world.running(3, faults)),
    "undo balance": (balanced, lambda world, faults: world.undoing(faults)),
    "vcpus": (one, lambda world, faults: world.migrating("a", (0,), Way.VCPUS, faults)),
    **{
        f"{way}": (one, lambda world, faults, way=way: world.migrating("a", (2,), way, faults))  # type: ignore[misc]
        for way in MOVES
    },
    **{f"undo {way}": (moved(way), lambda world, faults: world.undoing(faults)) for way in MOVES},
}


def carry_out(folder: Path, plan: str, faults: Faults) -> FaultWorld:
    """The plan on a new host, with a fault, and everything looked after."""
    folder.mkdir()
    prepare, act = PLANS[plan]
    world = FaultWorld(folder, seed=1)
    try:
        with world.installed():
            prepare(world)
            world.alone("manager", act(world, faults))
            world.recover()
            # nothing is in the way of who comes next
            world.alone("next", world.creating(["later"], 64, NoFaults()))
            world.alone("next", world.running(1, NoFaults()))
            world.recover()
            assert "later" in world.names()
    except BaseException as error:
        error.add_note("\n".join(world.stage.trace))
        raise
    return world


def steps_of(folder: Path, plan: str) -> list[str]:
    faults = NoFaults()
    carry_out(folder, plan, faults)
    return faults.calls


@pytest.mark.parametrize("plan", PLANS)
def test_killed_at_every_step(tmp_path: Path, plan: str) -> None:
    steps = steps_of(tmp_path / "whole", plan)
    assert JOURNAL in steps
    for number, name in enumerate(steps):
        for fault in (Fault.KILL, Fault.KILL_AFTER):
            faults = OneFault(number, fault)
            carry_out(tmp_path / f"{number}-{fault.name}", plan, faults)
            assert faults.happened == name


@pytest.mark.soak
@pytest.mark.parametrize("plan", PLANS)
def test_any_fault_at_every_step(tmp_path: Path, plan: str) -> None:
    """And every other fault, and what the host does when its caller is dead already."""
    for number, name in enumerate(steps_of(tmp_path / "whole", plan)):
        for fault in set(Fault) - {Fault.NONE, Fault.KILL, Fault.KILL_AFTER}:
            if name == JOURNAL and fault is not Fault.FAIL:
                continue
            faults = OneFault(number, fault)
            carry_out(tmp_path / f"{number}-{fault.name}", plan, faults)
            assert faults.happened == name
