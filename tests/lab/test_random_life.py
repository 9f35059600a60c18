"""Random lives of guests on the real Xen: started, stopped, ballooned, moved, with managers that are killed over it.

After every step: none lost, none doubled, memory where it is said to be, nothing left over.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from domicile.hosts.open import open_host
from domicile.lab import Lab
from domicile.lab.guests import Load, guest_config
from domicile.lab.guests.control import TinyGuest, output, running_guest
from domicile.state.model import DomainType, MemoryMapAge, Snapshot
from domicile.state.moves import INCOMING

pytestmark = [pytest.mark.lab, pytest.mark.timeout(7200)]

LIMIT_S = 600
HEAL_EVERY_S = 15.0
"""A guest whose CPU hangs in the emulator (`lab.stale_code`) does not suspend, and libxl waits for a minute."""
LOAD = Load(1, 16, pattern=True, pause_ms=100)
"""Three guests that never rest leave a third of an emulated computer to Dom0, and a life takes three times as long;
`test_migrate` moves guests that do not."""


@dataclass
class Life:
    """What was done, and what has to be there because of it."""

    lab: Lab
    chance: random.Random
    folder: Path
    started: int = 0
    there: dict[str, tuple[DomainType, int]] = field(default_factory=dict)
    """By name: type, and memory in MiB."""
    told: list[str] = field(default_factory=list)

    def domicile(self, *arguments: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "domicile", arguments[0], "-c", f"lab:///{self.lab.name}", *arguments[1:]]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy())

    def done(self, process: subprocess.Popen[str], *statuses: int) -> str:
        out, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode in statuses, (self.told, out, err)
        return out

    def some(self) -> str:
        return self.chance.choice(sorted(self.there))

    def start(self) -> None:
        self.started += 1
        name, kind = f"life{self.started}", self.chance.choice([DomainType.PV, DomainType.PVH])
        memory_mib = self.chance.choice([128, 160, 224])
        config = self.folder / f"{name}.cfg"
        config.write_text(guest_config(name, kind, self.chance.choice([1, 2]), memory_mib, load=Load()))
        self.told.append(f"start {name} {kind} {memory_mib}")
        self.done(self.domicile("create", str(config)), 0)
        self.there[name] = kind, memory_mib
        guest = running_guest(self.lab, name)
        guest.wait_until_ready(LIMIT_S)
        guest.carry(LOAD, LIMIT_S)

    def stop(self) -> None:
        name = self.some()
        self.told.append(f"stop {name}")
        output(self.lab, ["xl", "destroy", name])
        del self.there[name]
        self.done(self.domicile("verify", "--forget", name), 0, 1)

    def balloon(self) -> None:
        name = self.some()
        kind, memory_mib = self.there[name]
        least = max(memory_mib - 16, 112)
        self.told.append(f"balloon {name} to {least}")
        output(self.lab, ["xl", "mem-set", name, f"{least}m"])
        self.wait_until(lambda seen: seen.domain(name).memory_mib <= least)  # type: ignore[union-attr]
        self.there[name] = kind, least

    def move(self, interfere: Callable[[subprocess.Popen[str]], None] | None = None) -> None:
        name, node = self.some(), self.chance.randrange(4)
        kind, _ = self.there[name]
        way = "save" if kind is DomainType.PV else self.chance.choice(["live", "live", "save", "balloon"])
        self.told.append(f"move {name} to {node} ({way})")
        least = ["--min", "112"] if way == "balloon" else []
        process = self.domicile(
            "migrate", name, "--to", str(node), "--way", way, "--pause", "900", "--rate", "20", *least
        )
        if interfere is None:
            # 1: it is there already, or it cannot give anything back
            self.done(process, 0, 1)
        else:
            interfere(process)

    def snapshot(self, memory_map: MemoryMapAge = MemoryMapAge.NONE) -> Snapshot:
        with open_host(f"lab:///{self.lab.name}") as host:
            return host.snapshot(memory_map)

    def wait_until(self, so: Callable[[Snapshot], bool]) -> None:
        """Look again and again, through one connection: under emulation it takes seconds to make one."""
        begun = healed = time.monotonic()
        with open_host(f"lab:///{self.lab.name}") as host:
            while not so(host.snapshot()):
                now = time.monotonic()
                assert now - begun < LIMIT_S, self.told
                if now - healed > HEAL_EVERY_S:
                    self.lab.heal()
                    healed = now
                time.sleep(1)

    def wait_until_settled(self) -> None:
        """Whatever was interrupted goes on by itself."""
        self.wait_until(lambda seen: all(move.end is not None for move in seen.moves))

    def check(self) -> None:
        """What has to hold after every step."""
        snapshot = self.snapshot(MemoryMapAge.NOW)
        listed = [line.split()[0] for line in output(self.lab, ["xl", "list"]).splitlines()[1:]]
        assert sorted(listed) == sorted(["Domain-0", *self.there]), (self.told, listed)
        assert not snapshot.saved, self.told
        assert not [one for one in snapshot.reservations if not one.domain.endswith(INCOMING)], self.told
        for name, (_, memory_mib) in self.there.items():
            domain = snapshot.domain(name)
            assert domain is not None
            assert domain.pages_by_node is not None
            assert not domain.paused, (self.told, name)
            assert abs(domain.memory_mib - memory_mib) <= 1, (self.told, name, domain.memory_mib)
            assert abs(sum(domain.pages_by_node.values()) - memory_mib * 256) < 256 * 2, (self.told, name)
            guest = TinyGuest(self.lab, name, domain.id)
            guest.sweeps(LIMIT_S)
            guest.require_load()
        for node in snapshot.topology.nodes:
            assert snapshot.available_mib(node.id) <= (node.free_mib or 0)

    def step(self) -> None:
        """One of the things that can be done now."""
        possible = [self.start] if len(self.there) < 3 else []
        if self.there:
            possible += [self.stop, self.balloon, self.move, self.move]
        self.chance.choice(possible)()

    def end(self) -> None:
        for name in self.there:
            self.lab.run(["xl", "destroy", name])


@pytest.fixture
def life(xen: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Life]]:
    monkeypatch.setenv("DOMICILE_STATE", str(tmp_path / "state"))
    begun: list[Life] = []

    def begin(seed: int) -> Life:
        begun.append(Life(xen, random.Random(seed), tmp_path))
        return begun[-1]

    yield begin
    for each in begun:
        each.end()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_a_random_life(life: Callable[[int], Life], seed: int) -> None:
    guests = life(seed)
    guests.start()
    guests.check()
    for _ in range(6):
        guests.step()
        guests.wait_until_settled()
        guests.check()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_managers_are_killed_at_random_moments(life: Callable[[int], Life], seed: int) -> None:
    """Four kills each: of the manager here, of what moves memory in Dom0, or of that and the `xl` that works for it."""
    guests = life(100 + seed)
    guests.start()

    def kill(process: subprocess.Popen[str]) -> None:
        time.sleep(guests.chance.uniform(0.5, 40))
        whom = guests.chance.choice(["manager", "mover", "mover worker"])
        guests.told.append(f"kill {whom}")
        if whom == "manager":
            process.send_signal(signal.SIGKILL)
        else:
            files = " ".join(f"/run/domicile/moves/*/{each}" for each in whom.split())
            guests.lab.run(["sh", "-c", f"kill -9 $(cut -d ' ' -f 1 {files} 2>/dev/null) 2>/dev/null"])
        process.communicate(timeout=LIMIT_S)

    for _ in range(4):
        guests.move(kill)
        guests.wait_until_settled()
        guests.check()
    # the next manager takes note of all of it
    guests.move()
    assert not guests.snapshot().moves
