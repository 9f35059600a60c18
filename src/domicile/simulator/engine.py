"""The engine: a clock, scheduling quanta, epochs, and events between quanta.

Time passes in quanta of 10 ms, which the scheduler steps; at the end of every epoch the performance model turns where
vCPUs ran and where memory is into how fast each domain gets on during the next. Events (domains that start and end, and
whatever is asked for with `at`) happen between two quanta, in the order of their time, then of their being asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from domicile.errors import DomicileError
from domicile.simulator.device_traffic import DeviceTraffic
from domicile.simulator.epoch import Epoch
from domicile.simulator.guests import GuestSpec
from domicile.simulator.host_memory import MOVE_GBS, HostMemory
from domicile.simulator.migrations import RATE_GBS, Turn
from domicile.simulator.pauses import Pauses
from domicile.simulator.placing import Place, Seat, seat
from domicile.simulator.progress import ProgressModel, burden
from domicile.simulator.scheduler.counts import counts
from domicile.simulator.scheduler.demand import CONSTANT, DIURNAL, ON_OFF, STEP, TRACE
from domicile.simulator.scheduler.paces import go_on
from domicile.simulator.scheduler.state import QUANTUM_NS
from domicile.simulator.scheduler.stepper import Scheduler, SchedulerKind
from domicile.simulator.traces import RecordedVm
from domicile.simulator.workloads import PATTERNS, WORKLOADS, Demand
from domicile.simulator.xen_time import XenCost
from domicile.state.model import Domain, Snapshot, Vcpu
from domicile.topology.model import Topology

__all__ = ["EPOCH_S", "QUANTA_PER_S", "Epoch", "Simulation"]

EPOCH_S = 1.0
"""How often the performance model is asked: about the window over which credit2 averages load, so that it follows what
the scheduler decides; where memory is changes more slowly."""

KINDS = dict(zip(PATTERNS, (CONSTANT, ON_OFF, DIURNAL), strict=True))

QUANTA_PER_S = 1_000_000_000 // QUANTUM_NS
Floats = npt.NDArray[np.float64]


class Simulation:
    """A host and its domains in simulated time. `guests[0]` is Dom0. Deterministic for a seed."""

    def __init__(
        self,
        topology: Topology,
        guests: Sequence[GuestSpec],
        scheduler: SchedulerKind = SchedulerKind.CREDIT2,
        place: Place | None = None,
        seed: int = 0,
        epoch_s: float = EPOCH_S,
        traces: Mapping[str, RecordedVm] | None = None,
        memory: HostMemory | None = None,
    ) -> None:
        """A guest whose `start_s` is infinite waits for `sit`; `memory` is that of a host that has booted already."""
        self.topology = topology
        self.guests = tuple(guests)
        self.epoch_quanta = max(round(epoch_s * QUANTA_PER_S), 1)
        self.memory = memory or HostMemory(topology)
        self._traffic: Floats | None = None
        self.refused: dict[str, str] = {}
        self._place = place
        self._seats: dict[int, Seat] = {}
        self._node_ids = topology.node_ids
        self._domain_of = np.repeat(np.arange(len(guests)), [guest.vcpus for guest in guests])
        self._first_vcpu = np.concatenate([[0], np.cumsum([guest.vcpus for guest in guests])])
        everywhere = np.ones((len(self._domain_of), len(topology.cpus)), dtype=np.bool_)
        self.scheduler = Scheduler.of(
            topology,
            scheduler,
            [int(domain) for domain in self._domain_of],
            [float(guest.weight) for guest in guests],
            [guest.cap_percent / 100.0 for guest in guests],
            everywhere,
            everywhere,
            np.random.default_rng(seed),
        )
        nodes = len(self._node_ids)
        self._home = np.ones((len(guests), nodes))  # 1.0 where it is at home
        self._active = np.zeros(len(guests), dtype=np.bool_)
        self._pcpus = np.maximum(np.bincount(self.scheduler.cpus["node"], minlength=nodes), 1)
        # a row for every part of its memory that a domain can come to have
        parts = [min(nodes, guest.vcpus) if guest.sees_nodes else 1 for guest in guests]
        self._first_row = np.concatenate([[0], np.cumsum(parts)])
        self._domain_of_row = np.repeat(np.arange(len(guests)), parts)
        self._row_of = self._first_row[self._domain_of]
        self._unburdened = np.ones(len(self._domain_of_row))
        self._burden = self._unburdened
        self._accesses = np.zeros((len(self._domain_of_row), nodes))
        number_of = {guest.name: number for number, guest in enumerate(guests)}
        self._devices = DeviceTraffic(topology, guests, self._domain_of_row)
        self.xen = XenCost(topology, self.memory.options.xen)
        self._progress = ProgressModel(
            topology,
            [guests[int(domain)].workload for domain in self._domain_of_row],
            [
                (int(self._first_row[number]), int(self._first_row[number_of[peer]]))
                for number, guest in enumerate(guests)
                for peer in guest.peers
            ],
            self._devices.bound,
        )
        self._load_traces(traces or {})
        self._pauses = Pauses(len(self._domain_of))
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._asked = 0
        for number, guest in enumerate(guests):
            if guest.start_s < float("inf"):
                self.at(guest.start_s, lambda number=number: self._start(number))  # type: ignore[misc]
            if guest.end_s < float("inf"):
                self.at(guest.end_s, lambda number=number: self._end(number))  # type: ignore[misc]

    @property
    def now_s(self) -> float:
        """The simulated time."""
        return self.scheduler.quantum / QUANTA_PER_S

    def at(self, time_s: float, event: Callable[[], None]) -> None:
        """Have something done at a time: before the first quantum that does not begin earlier."""
        heapq.heappush(
            self._events, (max(-int(-time_s * QUANTA_PER_S // 1), self.scheduler.quantum), self._asked, event)
        )
        self._asked += 1

    def run(self, until_s: float, each: Callable[[Epoch], None]) -> None:
        """Let time pass. `each` is called with every epoch; what it raises ends the run, whose state stays usable."""
        end = round(until_s * QUANTA_PER_S)
        while self.scheduler.quantum < end:
            start = self.scheduler.quantum
            goal = min(start + self.epoch_quanta, end)
            self.step_to(goal)
            each(self.close_epoch(start, goal))

    def step_to(self, goal: int) -> None:
        """Let time pass up to a quantum; the epoch stays open."""
        while self.scheduler.quantum < goal:
            self._happen()
            until = min(goal, self._events[0][0] if self._events else goal)
            self.scheduler.step(until - self.scheduler.quantum)

    def pin(self, name: str, hard: frozenset[int] | None, soft: frozenset[int] | None, vcpu: int | None = None) -> None:
        """Change the affinity of a domain's vCPUs, or of one, now (`xl vcpu-pin`): its memory stays. None leaves one as
        it is."""
        number = self._number(name)
        if number is None:
            return
        before = self._seats[number]
        which = range(self.guests[number].vcpus) if vcpu is None else (vcpu,)
        hards, softs = list(before.hard), list(before.soft)
        for each in which:
            hards[each] = hards[each] if hard is None else hard
            softs[each] = softs[each] if soft is None else soft
        changed = replace(before, hard=tuple(hards), soft=tuple(softs))
        self._seats[number], self._home[number] = changed, self._home_of(changed)
        for each in which:
            index = int(self._first_vcpu[number]) + each
            self.scheduler.pin(index, self._mask(hards[each]), self._mask(softs[each]))

    def is_there(self, name: str) -> bool:
        """Whether a domain of this name has started and not ended."""
        return self._number(name) is not None

    def move_memory(self, name: str, nodes: Sequence[int], rate_gbs: float = MOVE_GBS) -> None:
        """Begin to move a domain's memory to these nodes (ids)."""
        number = self._number(name)
        if number is not None:
            rows = [self.topology.node_index[node] for node in nodes]
            self.memory.move(name, rows, rows[0], float(self.guests[number].vcpus), rate_gbs)

    def migrate(self, name: str, nodes: Sequence[int], rate_gbs: float = RATE_GBS) -> None:
        """Begin to migrate a domain to these nodes (ids) of its own host; it is at home there when it has arrived."""
        if self._number(name) is not None:
            self.memory.migrate(name, [self.topology.node_index[node] for node in nodes], self.now_s, rate_gbs)

    def set_balloon(self, name: str, memory_mib: int) -> None:
        """Ask a domain to give memory back, or to take more (`xl mem-set`)."""
        if self._number(name) is not None:
            self.memory.set_balloon(name, memory_mib, self.now_s)

    def set_demand(self, name: str, demand: Demand, busy_vcpus: int | None = None) -> None:
        """Have a domain's vCPUs want something else from now on, or only so many of them, and the others be idle."""
        number = self._number(name)
        if number is None:
            return
        for vcpu, index in enumerate(self.vcpus_of(number)):
            works = busy_vcpus is None or vcpu < busy_vcpus
            self._set_demand(index, demand if works else WORKLOADS["idle"].demand, None)

    def _number(self, name: str) -> int | None:
        """The domain's number if it is running."""
        return next((number for number in self._seats if self.guests[number].name == name), None)

    def snapshot(self) -> Snapshot:
        """The host as a policy sees it."""
        free = self.memory.free_mib
        nodes = tuple(replace(node, free_mib=int(free[row])) for row, node in enumerate(self.topology.nodes))
        return Snapshot(
            topology=replace(self.topology, nodes=nodes),
            domains=tuple(self._domain(number) for number in sorted(self._seats)),
            taken_at=self.now_s,
            scheduler=str(self.scheduler.kind),
        )

    def _domain(self, number: int) -> Domain:
        guest, placed = self.guests[number], self._seats[number]
        first = self._first_vcpu[number]
        cpus = self.scheduler.vcpus["cpu"][first : first + guest.vcpus]
        ids = [self.topology.cpus[self.scheduler.arrangement.listed[cpu]].id if cpu >= 0 else None for cpu in cpus]
        return Domain(
            id=number,
            name=guest.name,
            uuid="",
            vcpus=tuple(Vcpu(vcpu, ids[vcpu], placed.hard[vcpu], placed.soft[vcpu]) for vcpu in range(guest.vcpus)),
            memory_mib=self.memory.size_mib(guest.name),
            max_memory_mib=guest.memory_mib,
            type=guest.type,
            node_affinity=frozenset(placed.nodes),
            pages_by_node=self.memory.by_node(guest.name),
            weight=guest.weight,
            cap_percent=guest.cap_percent,
            devices=guest.devices,
        )

    def _happen(self) -> None:
        """Carry out what is due."""
        while self._events and self._events[0][0] <= self.scheduler.quantum:
            heapq.heappop(self._events)[2]()

    def _start(self, number: int) -> None:
        """A domain starts: placement, memory, vCPUs. One that finds no place is refused, and the rest goes on."""
        guest = self.guests[number]
        rows = self.topology.node_index
        try:
            placed = seat(guest, self.topology, self.snapshot(), None if number == 0 else self._place)
            wanted = [rows[node] for node in placed.nodes]
            if number == 0:
                parts = self.memory.boot_dom0(guest)
            else:
                parts = self.memory.create(guest, wanted, wanted[: guest.vcpus] if guest.sees_nodes else ())
        except DomicileError as error:
            self.refused[guest.name] = str(error)
            return
        if parts > 1:  # libxl: each vCPU prefers its vnode's CPUs (set_vnuma_affinity)
            vnodes = [placed.nodes[vcpu * parts // guest.vcpus] for vcpu in range(guest.vcpus)]
            placed = replace(placed, soft=tuple(self.topology.cpus_of([node]) for node in vnodes))
        self.sit(number, placed, [vcpu * parts // guest.vcpus for vcpu in range(guest.vcpus)])
        for index in self.vcpus_of(number):
            self.scheduler.start(index)

    def sit(self, number: int, placed: Seat, part_of: Sequence[int]) -> None:
        """A domain whose memory has been taken gets its place; its vCPUs are still to be started.

        `part_of`: the part of its memory that each vCPU uses, one of those that `memory` knows.
        """
        guest, first = self.guests[number], int(self._first_row[number])
        self._seats[number], self._home[number] = placed, self._home_of(placed)
        self._active[number] = True
        accesses = self.memory.accesses(guest.name)
        self._accesses[first : first + len(accesses)] = accesses
        for vcpu, index in enumerate(self.vcpus_of(number)):
            self._row_of[index] = first + part_of[vcpu]
            self._set_demand(index, guest.demand(vcpu), guest.trace)
            self.scheduler.pin(index, self._mask(placed.hard[vcpu]), self._mask(placed.soft[vcpu]))
        if self.scheduler.kind is SchedulerKind.NUMA:
            self.scheduler.lost[:] = self._lost()[self._row_of]

    def vcpus_of(self, number: int) -> range:
        """A domain's vCPUs in the scheduler's tables."""
        return range(int(self._first_vcpu[number]), int(self._first_vcpu[number + 1]))

    def _end(self, number: int) -> None:
        """A domain ends."""
        if self._seats.pop(number, None) is None:
            return
        self._active[number] = False
        for index in self.vcpus_of(number):
            self.scheduler.stop(index)
            self._pauses.forget(index)
        self.memory.destroy(self.guests[number].name)
        self._accesses[self._first_row[number] : self._first_row[number + 1]] = 0.0

    def _move_memory(self, now_s: float, seconds: float, ran_s: Floats) -> None:
        """Let what moves memory go on for as long as the epoch was; `ran_s`: vCPUs' time by domain and node."""
        self._traffic, self._burden = None, self._unburdened
        if not self.memory.changing:
            return
        busy = ran_s / seconds  # vCPUs' worth
        done = self.memory.step(now_s, seconds, {self.guests[number].name: busy[number] for number in self._seats})
        self._traffic = done.traffic
        if done.lost_s:
            lost_s = np.array([done.lost_s.get(guest.name, 0.0) for guest in self.guests])
            self._burden = burden(lost_s, ran_s.sum(axis=1))[self._domain_of_row]
        for number in self._seats:
            if self.guests[number].name in done.changed:
                found = self.memory.accesses(self.guests[number].name)
                self._accesses[self._first_row[number] : self._first_row[number] + len(found)] = found
        for turn in done.turns:
            # what an epoch's copying came to is known at its end: the pause is that much late, and as long as it was
            self.at(turn.at_s + seconds, partial(self._turn, turn))

    def _turn(self, turn: Turn) -> None:
        """A domain's vCPUs stop, or run again where its memory is now."""
        number = self._number(turn.domain)
        if number is None:
            return
        if turn.runs:
            self.pin(turn.domain, None, self.topology.cpus_of(turn.nodes) or None)
        for index in range(self._first_vcpu[number], self._first_vcpu[number + 1]):
            if turn.runs:
                self._pauses.resume(self.scheduler, index)
            else:
                self._pauses.stop(self.scheduler, index)

    def _lost(self) -> Floats:
        """What each row would lose on each run queue by the way to its memory, as a share of its work (rows x Q)."""
        by_node = self._progress.lost(self._accesses)
        cpus, count = self.scheduler.cpus, self.scheduler.arrangement.count
        nodes = np.zeros((len(self._node_ids), count))
        np.add.at(nodes, (cpus["node"], cpus["queue"]), 1.0)
        return np.asarray(by_node @ (nodes / nodes.sum(axis=0)), dtype=np.float64)

    def _mask(self, cpus: frozenset[int]) -> npt.NDArray[np.bool_]:
        return np.array([cpu.id in cpus for cpu in self.topology.cpus], dtype=np.bool_)

    def _home_of(self, placed: Seat) -> npt.NDArray[np.bool_]:
        """The nodes that a domain is at home on: of its affinity, or of its memory if that is everywhere."""
        cpus = frozenset().union(*(hard & soft or hard for hard, soft in zip(placed.hard, placed.soft, strict=True)))
        if cpus >= {cpu.id for cpu in self.topology.cpus}:
            return np.array([node in placed.nodes for node in self._node_ids], dtype=np.bool_)
        by_node = self.topology.cpus_by_node
        return np.array([bool(cpus.intersection(by_node[node])) for node in self._node_ids], dtype=np.bool_)

    def _load_traces(self, traces: Mapping[str, RecordedVm]) -> None:
        """Put the recordings that guests follow where the scheduler reads them, each once."""
        used = sorted({guest.trace for guest in self.guests if guest.trace is not None})
        self._steps_of: dict[str, tuple[int, int]] = {}
        parts = [np.zeros(1, dtype=STEP)]
        for name in used:
            vm = traces[name]
            part = np.zeros(len(vm.until_s), dtype=STEP)
            part["until_s"], part["level"] = vm.until_s, vm.level
            first = sum(len(before) for before in parts)
            self._steps_of[name] = (first, first + len(part))
            parts.append(part)
        self.scheduler.steps = np.concatenate(parts)

    def _set_demand(self, vcpu: int, demand: Demand, trace: str | None) -> None:
        row = self.scheduler.demands[vcpu]
        row["kind"], row["closed"], row["level"] = KINDS[demand.pattern], demand.closed, demand.level
        row["on_s"], row["off_s"], row["until_s"] = demand.on_s, demand.off_s, self.now_s
        if demand.pattern == "diurnal":
            row["on_s"], row["off_s"] = demand.amplitude, demand.peak_h
        if trace is not None:
            row["kind"], row["closed"], row["level"] = TRACE, False, 1.0
            row["first"], row["end"] = self._steps_of[trace]
            row["at"], row["lap_s"] = row["first"], self.now_s

    def close_epoch(self, start: int, end: int) -> Epoch:
        """Close the epoch of these quanta: count what happened, and ask the performance model how fast it goes on."""
        scheduler = self.scheduler
        seconds = (end - start) / QUANTA_PER_S
        found = counts(scheduler, self._row_of, self._domain_of_row, self._accesses, self._home)
        io = None
        if self._devices:
            running = [number for number in self._seats if not self._pauses.has(int(self._first_vcpu[number]))]
            io = self._devices.load(self.memory, running, found.domain_s / seconds)
        pace = self._progress.pace(found.row_s / seconds, self._accesses, self._traffic, io)
        self.xen.count(found.domain_s)
        self._pauses.note(found.wanted_ns, seconds)
        rows = (self._row_of, self._domain_of_row, found.row_s, found.ran_s)
        gbs, stretch = go_on(scheduler, *rows, pace.terms, pace.bandwidth_gbs, self.xen.longer, self._burden)
        epoch = Epoch(
            start_s=start / QUANTA_PER_S,
            end_s=end / QUANTA_PER_S,
            active=self._active.copy(),
            ran_s=found.domain_s,
            waited_s=found.waited_s,
            wanted_s=found.wanted_s,
            work_s=found.work_s,
            remote=found.remote,
            home=found.home,
            moves=found.moves,
            node_moves=found.node_moves,
            bandwidth_gbs=gbs,
            stretch=stretch,
            busy=found.busy_ns / (self._pcpus * seconds * 1e9),
            controller=pace.controller,
            free_mib=self.memory.free_mib,
            io_gbs=np.zeros(len(self.guests)) if io is None else io.gbs,
            io_remote=np.zeros(len(self.guests)) if io is None else io.remote,
        )
        self._move_memory(start / QUANTA_PER_S, seconds, found.domain_s)
        if scheduler.kind is SchedulerKind.NUMA:
            scheduler.lost[:] = self._lost()[self._row_of]
        return epoch
