"""Schedules of faults: who does what beside whom on which host, and what fails, all drawn from a seed."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from fault_line import NoFaults, RandomFaults
from fault_stage import Player
from fault_world import FaultWorld
from sim_policy import fixed

from domicile.policies.migration.records import Way
from domicile.state.model import PAGES_PER_MIB

__all__ = ["run_schedule"]

SHARES = (0.0, 0.01, 0.03, 0.06, 0.12)
"""Of a player's calls, how many meet a fault."""

NAMES = ("a", "b", "c", "d")


def run_schedule(seed: int) -> list[str]:
    """Run one; what happened, line by line. Raises AssertionError, with that in it, where something was not so."""
    # the journal waits for the disk at every write: memory does not make it wait
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        chance = random.Random(seed)
        world = FaultWorld(folder, seed, [chance.choice([256, 320, 512])] * chance.choice([2, 2, 3, 4]))
        try:
            with world.installed():
                _prepare(world, chance)
                for _ in range(chance.choice([1, 2, 3])):
                    world.stage.play(_cast(world, chance))
                world.recover()
        except BaseException as error:
            trace = "\n".join(world.stage.trace)
            error.add_note(f"schedule {seed}:\n{trace}")
            raise
        return world.stage.trace
    finally:
        shutil.rmtree(folder)


def _prepare(world: FaultWorld, chance: random.Random) -> None:
    """Some guests that run, each on a node, some with vCPUs elsewhere."""
    nodes = len(world.store.state.machine.topology.nodes)
    for name in NAMES[: chance.choice([1, 2, 2, 3, 4])]:
        policy = fixed(chance.randrange(nodes))
        world.alone(f"first {name}", world.creating([name], chance.choice([64, 96, 160]), NoFaults(), policy))
        if chance.random() < 0.4:
            node = chance.randrange(nodes)
            world.pin(name, world.store.state.machine.topology.cpus_of((node,)), hard=False)
        if chance.random() < 0.4:
            world.driver(name, chance.choice([0.0, 5.0, 20.0, 256.0]), chance.choice([0.2, 0.5, 0.95]))


def _cast(world: FaultWorld, chance: random.Random) -> dict[str, Callable[[Player], None]]:
    """Who acts beside whom."""
    makers = [_creator, _creator, _migrator, _migrator, _migrator, _migrator, _undoer, _undoer, _runner]
    cast = {}
    # now and then all want the same node
    goal = chance.choice(world.store.state.machine.topology.node_ids) if chance.random() < 0.4 else None
    for number in range(chance.choice([1, 1, 2, 2, 3])):
        maker = chance.choice(makers)
        cast[f"{maker.__name__[1:]} {number}"] = maker(world, chance, number, goal)
    if chance.random() < 0.5:
        cast["others"] = _others(world, random.Random(chance.random()))
    return cast


def _faults(chance: random.Random) -> RandomFaults:
    return RandomFaults(random.Random(chance.random()), chance.choice(SHARES))


def _creator(world: FaultWorld, chance: random.Random, number: int, goal: int | None) -> Callable[[Player], None]:
    names = [f"new{number}{part}" for part in range(chance.choice([1, 1, 2, 3]))]
    if chance.random() < 0.15:
        names[0] = chance.choice(NAMES)
    memory = chance.choice([48, 100, 200])
    faults = _faults(chance)
    if goal is not None or chance.random() < 0.4:
        node = chance.choice(world.store.state.machine.topology.node_ids) if goal is None else goal
        if chance.random() < 0.6:
            # nearly all that is free there: nobody else may take any
            memory = max(world.store.read().free_pages[node] // PAGES_PER_MIB // len(names) - 4, 32)
        return world.creating(names, memory, faults, fixed(node))
    return world.creating(names, memory, faults)


def _migrator(world: FaultWorld, chance: random.Random, number: int, goal: int | None) -> Callable[[Player], None]:
    nodes = range(len(world.store.state.machine.topology.nodes))
    name = chance.choice(world.names() or ["none"])
    resident = world.store.read().resident(name)
    there = (resident.domain.pages_by_node or {}) if resident else {}
    elsewhere = [node for node in nodes if not there.get(node)] or [*nodes]
    to: tuple[int, ...] = (chance.choice(elsewhere),)
    if goal is not None:
        to = (goal,)
    elif chance.random() < 0.2:
        to = tuple(sorted(chance.sample(nodes, 2)))
    way = chance.choice([None, *Way])
    if way is Way.VCPUS and there:
        to = (max(there, key=lambda node: there[node]),)
    return world.migrating(name, to, way, _faults(chance))


def _undoer(world: FaultWorld, chance: random.Random, number: int, goal: int | None) -> Callable[[Player], None]:
    return world.undoing(_faults(chance))


def _runner(world: FaultWorld, chance: random.Random, number: int, goal: int | None) -> Callable[[Player], None]:
    return world.running(chance.choice([1, 2, 3]), _faults(chance))


def _others(world: FaultWorld, chance: random.Random) -> Callable[[Player], None]:
    """An administrator at Dom0, guests, and the clock."""
    rude = chance.random() < 0.25

    def act(player: Player) -> None:
        for _ in range(chance.randrange(1, 6)):
            for _ in range(chance.randrange(1, 30)):
                player.pause()
            _one_deed(world, chance, player, rude=rude)

    return act


def _one_deed(world: FaultWorld, chance: random.Random, player: Player, *, rude: bool) -> None:
    topology = world.store.state.machine.topology
    name = chance.choice(world.names() or ["none"])
    cpus = topology.cpus_of((chance.choice(topology.node_ids),))
    deeds: dict[str, Callable[[], None]] = {
        "time passes": lambda: world.outside().wait(chance.choice([0.5, 1.0, 5.0])),
        "destroy": lambda: world.destroy(name),
        "pause": lambda: world.pause(name, paused=True),
        "unpause": lambda: world.pause(name, paused=False),
        "pin soft": lambda: world.pin(name, cpus, hard=False),
        "pin hard": lambda: world.pin(name, cpus, hard=True),
        "shrink": lambda: world.shrink(name, chance.choice([0.5, 0.8])),
        "driver": lambda: world.driver(name, chance.choice([0.0, 5.0, 256.0]), chance.choice([0.2, 0.95])),
    }
    if chance.random() < 0.3:
        deeds["rename"] = lambda: world.rename(name, f"{name}x")
        deeds["call off"] = world.call_off
    if rude:
        deeds["xl create"] = lambda: world.outsider(f"alien{player.stage.steps}", chance.choice([60, 150]))
        if chance.random() < 0.1:
            deeds["power cut"] = world.power_cut
    what = chance.choice(list(deeds))
    player.stage.tell(f"others: {what} ({name})")
    deeds[what]()
