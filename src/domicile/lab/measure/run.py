"""Carry a scenario out in a lab that runs under the plug-in, and measure its windows."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from domicile.errors import BadInput, DomicileError, HostFailed, Refused
from domicile.lab.guests.control import Dom0, TinyGuest, output, running_guest, start_guest
from domicile.lab.layout import memory_ranges
from domicile.lab.measure.counters import EVERY, CounterFile
from domicile.lab.measure.frames import Frames, MachineMemory, owned_frames
from domicile.lab.measure.memory import MemoryLayout
from domicile.lab.measure.plugin import build_plugin, plugin_option, require_counting_qemu
from domicile.lab.measure.result import DOM0_OWNER, FIRST_GUEST_OWNER, GuestPlace, Measurement, Window, window
from domicile.lab.measure.scenario import Place, Scenario, ScenarioGuest

__all__ = ["MeasuredLab", "MeasuredMachine", "Progress", "counting", "create_with_domicile", "frames_now", "measure"]

MOVING_S = 900.0
"""Within this a move is over, also one that is begun just now: all is slow under emulation."""
LOOK_S = 5.0

Progress = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, 0.0 to 1.0."""


class MeasuredLab(Dom0, MachineMemory, Protocol):
    """A lab: its Dom0, its memory from outside, and the name by which `lab:///NAME` finds it."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def standing_still(self) -> AbstractContextManager[None]:
        """All CPUs stop for as long as the block takes."""
        ...


@dataclass(frozen=True, slots=True)
class MeasuredMachine:
    """What measuring needs to know of the emulated machine: CPUs and memory of each node, in order."""

    name: str
    node_cpus: tuple[int, ...]
    node_mib: tuple[int, ...]

    @property
    def node_of_cpu(self) -> tuple[int, ...]:
        """CPU to the index of its node."""
        return tuple(node for node, cpus in enumerate(self.node_cpus) for _ in range(cpus))


@contextmanager
def counting(
    machine: MeasuredMachine, owners: int, cache: Path, *, every: int = EVERY
) -> Iterator[tuple[CounterFile, str]]:
    """A file of counters for a machine, and the value of QEMU's `-plugin` with which it is to be started.

    The plug-in is compiled into the folder `cache` if it is not there yet. Raises `HostFailed` without a compiler, or
    if this QEMU is not one in which accesses can be counted.
    """
    require_counting_qemu()
    library = build_plugin(cache)
    cpus = sum(machine.node_cpus)
    with tempfile.TemporaryDirectory(prefix="domicile-measure-") as work:
        path = Path(work) / "counters"
        with CounterFile(path, cpus, MemoryLayout(machine.node_mib), owners, every=every) as counters:
            yield counters, plugin_option(library, path)


def measure(
    lab: MeasuredLab, machine: MeasuredMachine, counters: CounterFile, scenario: Scenario, progress: Progress
) -> Measurement:
    """Start the scenario's guests in a fresh lab, let them warm up, and measure.

    The lab has been started with `counters`, made for 2 owners more than the scenario has guests. Raises `BadInput`
    where the scenario does not fit the machine, `Refused` where a guest finds no place, `HostFailed` where the lab
    fails.
    """
    require_fitting(scenario, machine)
    if not counters.attached:
        raise HostFailed("the lab runs, but without the counting plug-in")
    guests = []
    for index, asked in enumerate(scenario.guests):
        progress(f"starting {asked.name}", index / len(scenario.guests))
        guest = _start(lab, machine, asked)
        guest.wait_until_ready()
        guests.append(guest)
    # not before all are there: beside busy ones a guest takes many minutes to boot under emulation
    for index, (guest, asked) in enumerate(zip(guests, scenario.guests, strict=True)):
        progress("setting them to work", index / len(guests))
        guest.carry(asked.load)
    with _managed(lab) if scenario.managed else nullcontext():
        _pass_time(scenario.warm_up_s, "warming up", progress)
        windows = tuple(
            _measure_window(lab, machine, counters, guests, scenario.window_s, f"window {number}", progress)
            for number in range(1, scenario.windows + 1)
        )
    for guest in guests:
        running_guest(lab, guest.name).require_load()
    about = output(lab, ["xl", "info"])
    return Measurement(
        title=scenario.title,
        machine=machine.name,
        scheduler=_info(about, "xen_scheduler"),
        xen_version=_info(about, "xen_version"),
        every=counters.every,
        warm_up_s=scenario.warm_up_s,
        windows=windows,
    )


def require_fitting(scenario: Scenario, machine: MeasuredMachine) -> None:
    """Raise `BadInput` where a guest of the scenario wants a node that the machine has not."""
    nodes = len(machine.node_cpus)
    for guest in scenario.guests:
        for node in (guest.node, guest.memory_node):
            if node is not None and node >= nodes:
                raise BadInput(machine.name, f"no node {node} (0 to {nodes - 1}), and {guest.name} wants it")


def frames_now(lab: MeasuredLab, machine: MeasuredMachine, domains: Sequence[int]) -> dict[int, Frames]:
    """Domain id to the machine frames that it owns at this moment. Raises `HostFailed`."""
    end = memory_ranges(machine.node_mib)[-1]
    with lab.standing_still():
        return owned_frames(lab, domains, cpus=sum(machine.node_cpus), end=end.start + end.size)


def create_with_domicile(lab: MeasuredLab, name: str, config: str) -> TinyGuest:
    """Let `domicile create` place and start a guest in the lab, as a person would. Raises what its exit status says."""
    with tempfile.NamedTemporaryFile("w", prefix=f"{name}-", suffix=".cfg") as file:
        file.write(config)
        file.flush()
        command = [sys.executable, "-c", "from domicile.cli.main import run; run()"]
        done = subprocess.run(
            [*command, "create", "-c", f"lab:///{lab.name}", file.name], capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        said = (done.stderr.strip() or "no reason given").splitlines()[-1].removeprefix("domicile: ")
        kinds: Mapping[int, type[DomicileError]] = {Refused.exit_status: Refused}
        raise kinds.get(done.returncode, HostFailed)(f"domicile create: {said}")
    return running_guest(lab, name)


@contextmanager
def _managed(lab: MeasuredLab) -> Iterator[None]:
    """`domicile run` at work on the lab, from outside, as it would be for a Dom0 reached over SSH.

    Raises `HostFailed` with what it said where it does not last until the end.
    """
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "domicile", "run", "-c", f"lab:///{lab.name}"]
        manager = subprocess.Popen(command, stdout=log, stderr=log, text=True)
        try:
            yield
            ended = manager.poll()
        finally:
            manager.terminate()
            manager.wait()
        if ended is not None:
            log.seek(0)
            raise HostFailed(f"domicile run ended with status {ended}: {' | '.join(log.read().splitlines()[-3:])}")


def _start(lab: MeasuredLab, machine: MeasuredMachine, asked: ScenarioGuest) -> TinyGuest:
    if asked.place is Place.DOMICILE:
        return create_with_domicile(lab, asked.name, asked.xl_config())
    guest = start_guest(lab, asked.name, asked.xl_config())
    if asked.moves_to is not None:
        cpus = ",".join(str(cpu) for cpu, node in enumerate(machine.node_of_cpu) if node == asked.moves_to)
        output(lab, ["xl", "vcpu-pin", asked.name, "all", cpus if asked.place is Place.PINNED else "-", cpus])
    return guest


def _measure_window(
    lab: MeasuredLab,
    machine: MeasuredMachine,
    counters: CounterFile,
    guests: Sequence[TinyGuest],
    seconds: float,
    what: str,
    progress: Progress,
) -> Window:
    # nothing is asked in Dom0 while a window is open: under emulation one `xl` keeps a pCPU busy for a second or more,
    # enough for the scheduler to move guests
    ids = _settled_ids(lab, [guest.name for guest in guests], progress)
    frames = frames_now(lab, machine, [0, *ids])
    owned = {FIRST_GUEST_OWNER + index: frames[domain] for index, domain in enumerate(ids)}
    counters.set_owners({DOM0_OWNER: frames[0], **owned})
    started = time.monotonic()
    before = counters.read()
    _pass_time(seconds, what, progress)
    counted = counters.read() - before
    took = time.monotonic() - started
    dom0, *places = (
        _place(name, domain, counters.layout, frames[domain])
        for name, domain in (("Domain-0", 0), *((guest.name, id_) for guest, id_ in zip(guests, ids, strict=True)))
    )
    return window(counted, took, machine.node_of_cpu, dom0, places)


def _settled_ids(lab: MeasuredLab, names: Sequence[str], progress: Progress) -> list[int]:
    """The guests' ids, once none is on its way: who is moved has another id afterwards, and for a while two copies."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < MOVING_S:
        rows = [line.rsplit(maxsplit=5) for line in output(lab, ["xl", "list"]).splitlines()[1:]]
        ids = {row[0]: int(row[1]) for row in rows}
        if ids.keys() == {"Domain-0", *names}:
            return [ids[name] for name in names]
        progress("waiting for a move to end", passed / MOVING_S)
        time.sleep(LOOK_S)
    raise HostFailed(f"after {MOVING_S:.0f} s there are the domains {', '.join(ids)}, not {', '.join(names)} alone")


def _place(name: str, domain: int, layout: MemoryLayout, frames: Frames) -> GuestPlace:
    nodes, pages = np.unique(layout.node_of_frame(frames), return_counts=True)
    return GuestPlace(name, domain, dict(zip(map(int, nodes), map(int, pages), strict=True)))


def _pass_time(seconds: float, what: str, progress: Progress) -> None:
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        progress(what, passed / seconds)
        time.sleep(min(0.2, seconds - passed))
    progress(what, 1.0)


def _info(printed: str, key: str) -> str:
    """A line of `xl info`, empty if it is not there."""
    lines = (line.partition(":") for line in printed.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "")
