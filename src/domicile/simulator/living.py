"""A host that goes on from where it stood: some seconds of the engine's time, from a record to the next.

`advance` builds a `Simulation` of the domains that are there, puts back what the record kept of the one before (run
queues, credits, average loads, random numbers, what has been counted of an open epoch), lets time pass and keeps it
again. So two stretches of time come to the same as one that is as long as both, to the last bit, as long as nothing is
done to the host between them. What was done between them happens at once where the next begins: who came is started,
who went is taken off its run queue, whose affinity changed looks for a new place as after `xl vcpu-pin`.

Time passes in whole quanta of 10 ms. Nothing here is kept of domains but what the scheduler and the workloads need:
affinity, memory and whether a domain is paused are told anew each time, and memory is given back as it was left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from domicile.simulator.engine import QUANTA_PER_S, Simulation
from domicile.simulator.guests import GuestSpec
from domicile.simulator.host_memory import HostMemory
from domicile.simulator.memory.heap import Heap
from domicile.simulator.memory.layout import ranges_of
from domicile.simulator.placing import Seat
from domicile.simulator.scheduler.state import QUANTUM_NS, Table
from domicile.simulator.scheduler.stepper import Scheduler, SchedulerKind
from domicile.topology.model import Topology

__all__ = ["Livelihood", "Occupant", "Outcome", "advance"]

FORMAT = 1

Floats = npt.NDArray[np.float64]
Columns = dict[str, list[bool | int | float]]

AT_HAND = ("until", "want_ns", "closed", "here_ns")
"""What vCPUs have only while quanta pass."""

FOLLOWS: Mapping[str, frozenset[str]] = {
    "vcpus": frozenset({"domain", "weight", "capped", "has_soft", "may", "likes", *AT_HAND}),
    "lines": frozenset({"key", "vcpu"}),
    "demands": frozenset({"kind", "closed", "level", "on_s", "off_s", "first", "end"}),
    "doms": frozenset({"weight", "cap"}),
    "queues": frozenset({"first_cpu", "end_cpu", "cores"}),
    "cpus": frozenset({"node", "place", "core", "socket", "threads", "queue", "siblings"}),
}
"""By table, what follows from the host and is not kept."""


@dataclass(frozen=True, slots=True)
class Occupant:
    """A domain that is there. `number` is its own for ever, and `spec.name` tells it from the others.

    By vCPU: `hard` and `soft` affinity in CPU ids, `awake` (online, of a domain that is not paused) and `part_of`, the
    part of memory that it uses. `pages` by part: node id to pages; `overhead_pages`: Xen's own for it; `nodes`: the
    node-affinity.
    """

    number: int
    spec: GuestSpec
    hard: tuple[frozenset[int], ...]
    soft: tuple[frozenset[int], ...]
    awake: tuple[bool, ...]
    part_of: tuple[int, ...]
    pages: tuple[Mapping[int, int], ...]
    overhead_pages: Mapping[int, int]
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Livelihood:
    """What a domain came to. By vCPU: `cpus` (the CPU id that it ran on last, None before), `running` (up to the end),
    `waiting` (at the end, for a pCPU), `time_ns` of CPU since it began. `waited_ns` and `work_ns` of all vCPUs
    together: time waited for a pCPU, and work done in units of what the best speed does in a nanosecond. `pages`: node
    id to pages."""

    cpus: tuple[int | None, ...]
    running: tuple[bool, ...]
    waiting: tuple[bool, ...]
    time_ns: tuple[int, ...]
    waited_ns: int
    work_ns: int
    pages: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A host after some time: how long it has been up, what its domains (by number) came to, how long each pCPU (by
    id) has been idle since it was booted; `record` is to be given to the next `advance`."""

    up_ns: int
    domains: Mapping[int, Livelihood]
    idle_ns: Mapping[int, int]
    record: bytes


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """What is kept. Rows of vCPUs are those of `owners` (domain and vCPU), of domains those of `domains`; `past` is
    what was counted in epochs that are closed: `used_ns`, `waited_ns` and `work_ns` by vCPU, `busy_ns` by pCPU."""

    format: int
    quantum: int
    owners: list[tuple[int, int]]
    domains: list[int]
    tables: dict[str, Columns]
    hard: list[list[int]]
    soft: list[list[int]]
    ran_ns: list[list[float]]
    past: dict[str, list[float]]


def advance(
    topology: Topology,
    scheduler: str,
    seed: int,
    occupants: Sequence[Occupant],
    seconds: float,
    record: bytes = b"",
    xen_pages: Mapping[int, int] | None = None,
) -> Outcome:
    """Let so many seconds pass, rounded up to whole quanta, on a host with these domains, in the order they came.

    `record` is from the time before, empty for a host that has just booted; `xen_pages` is Xen's own memory by node id.
    Raises ValueError for a scheduler that there is not, a record that is none of this host, more memory than there is.
    """
    before = _decoded(record) if record else None
    host = _Host(topology, SchedulerKind(scheduler), seed, occupants, xen_pages or {}, before.quantum if before else 0)
    host.go_on_from(before)
    host.run(math.ceil(seconds * QUANTA_PER_S - 1e-6))
    return host.outcome()


class _Host:
    """A simulation of the occupants, and what has been counted."""

    def __init__(
        self,
        topology: Topology,
        kind: SchedulerKind,
        seed: int,
        occupants: Sequence[Occupant],
        xen_pages: Mapping[int, int],
        quantum: int,
    ) -> None:
        self._topology, self._seed, self._occupants = topology, seed, occupants
        self._memory = HostMemory(topology, heap=Heap.of(ranges_of(topology), len(topology.nodes)))
        self._memory.settle_xen(self._by_row(xen_pages))
        guests = [each.spec for each in occupants]
        self._simulation = Simulation(topology, guests, kind, seed=seed, memory=self._memory)
        self._scheduler = self._simulation.scheduler
        self._scheduler.quantum = quantum
        for number, each in enumerate(occupants):
            held = np.array([self._by_row(part) for part in each.pages])
            self._memory.settle(each.spec, held, self._by_row(each.overhead_pages))
            self._simulation.sit(number, Seat(each.hard, each.soft, each.nodes), each.part_of)
        self._owners = [(each.number, vcpu) for each in occupants for vcpu in range(each.spec.vcpus)]
        self._past = {name: np.zeros(len(self._owners)) for name in ("used_ns", "waited_ns", "work_ns")}
        self._past["busy_ns"] = np.zeros(len(topology.cpus))

    def run(self, quanta: int) -> None:
        """Let time pass. Epochs begin at multiples of their length since the host booted; the last may stay open."""
        scheduler, length = self._scheduler, self._simulation.epoch_quanta
        end = scheduler.quantum + quanta
        while scheduler.quantum < end:
            start = scheduler.quantum // length * length
            self._simulation.step_to(min(start + length, end))
            if scheduler.quantum == start + length:
                self._past = self._counted()
                self._simulation.close_epoch(start, start + length)

    def outcome(self) -> Outcome:
        """What the host has come to."""
        counted = self._counted()
        listed = [self._topology.cpus[cpu].id for cpu in self._scheduler.arrangement.listed]
        up_ns = self._scheduler.quantum * QUANTUM_NS
        return Outcome(
            up_ns=up_ns,
            domains={
                each.number: self._livelihood(number, each, counted, listed)
                for number, each in enumerate(self._occupants)
            },
            idle_ns={
                cpu: max(up_ns - round(busy), 0) for cpu, busy in zip(listed, counted["busy_ns"].tolist(), strict=True)
            },
            record=self._record(),
        )

    def _livelihood(
        self, number: int, occupant: Occupant, counted: Mapping[str, Floats], listed: Sequence[int]
    ) -> Livelihood:
        rows = self._simulation.vcpus_of(number)
        mine = slice(rows.start, rows.stop)
        vcpus = self._scheduler.vcpus[mine]
        pages = self._memory.held(occupant.spec.name).sum(axis=0).tolist()
        return Livelihood(
            cpus=tuple(listed[cpu] if cpu >= 0 else None for cpu in vcpus["cpu"].tolist()),
            running=tuple(self._scheduler.running[mine].tolist()),
            waiting=tuple(self._scheduler.waiting[mine].tolist()),
            time_ns=tuple(round(used) for used in counted["used_ns"][mine].tolist()),
            waited_ns=round(float(counted["waited_ns"][mine].sum())),
            work_ns=round(float(counted["work_ns"][mine].sum())),
            pages={node: count for node, count in zip(self._topology.node_ids, pages, strict=True) if count},
        )

    def _counted(self) -> dict[str, Floats]:
        """What was counted in all, the open epoch included."""
        scheduler, past = self._scheduler, self._past
        return {
            "used_ns": past["used_ns"] + scheduler.ran_ns.sum(axis=1),
            "waited_ns": past["waited_ns"] + scheduler.vcpus["waited_ns"],
            "work_ns": past["work_ns"] + scheduler.work_ns,
            "busy_ns": past["busy_ns"] + scheduler.cpus["busy_ns"],
        }

    def _record(self) -> bytes:
        scheduler = self._scheduler
        return msgspec.msgpack.encode(
            _Record(
                format=FORMAT,
                quantum=scheduler.quantum,
                owners=self._owners,
                domains=[each.number for each in self._occupants],
                tables={name: _columns(getattr(scheduler, name), FOLLOWS[name]) for name in FOLLOWS},
                hard=scheduler.hard.tolist(),
                soft=scheduler.soft.tolist(),
                ran_ns=scheduler.ran_ns.tolist(),
                past={name: counted.tolist() for name, counted in self._past.items()},
            )
        )

    def go_on_from(self, record: _Record | None) -> None:
        """Put back what was kept, and let what was done to the host since then have its effect."""
        known: dict[tuple[int, int], int] = {}
        if record is not None:
            known = {owner: row for row, owner in enumerate(record.owners)}
            self._put_back(record, known)
            self._take_off_who_went(record)
        for number, each in enumerate(self._occupants):
            newcomer = (each.number, 0) not in known
            if newcomer:
                random = np.random.default_rng([self._seed, each.number])
                rows = self._simulation.vcpus_of(number)
                self._scheduler.demands["seed"][rows.start : rows.stop] = random.integers(
                    1, 1 << 63, size=len(rows), dtype=np.uint64
                )
            for vcpu, row in enumerate(self._simulation.vcpus_of(number)):
                self._change(row, each, vcpu, record, known.get((each.number, vcpu)))

    def _change(self, row: int, occupant: Occupant, vcpu: int, record: _Record | None, before: int | None) -> None:
        """Start, stop or move a vCPU if that is what was done to it. `before` is its row in the record."""
        scheduler = self._scheduler
        was_awake, awake = bool(scheduler.vcpus["active"][row]), occupant.awake[vcpu]
        if awake and not was_awake:
            scheduler.start(row)
        elif was_awake and not awake:
            scheduler.stop(row)
        elif awake and record is not None and before is not None:
            masks = (scheduler.hard[row].tolist(), scheduler.soft[row].tolist())
            if masks != (record.hard[before], record.soft[before]):
                scheduler.pin(row, self._mask(occupant.hard[vcpu]), self._mask(occupant.soft[vcpu]))

    def _put_back(self, record: _Record, known: Mapping[tuple[int, int], int]) -> None:
        scheduler = self._scheduler
        now = [row for row, owner in enumerate(self._owners) if owner in known]
        then = [known[owner] for owner in self._owners if owner in known]
        numbers = {number: row for row, number in enumerate(record.domains)}
        domains = [each.number for each in self._occupants]
        domains_now = [row for row, number in enumerate(domains) if number in numbers]
        domains_then = [numbers[number] for number in domains if number in numbers]
        try:
            for name, table in (("vcpus", scheduler.vcpus), ("demands", scheduler.demands)):
                _fill(table, record.tables[name], now, then)
            _fill(scheduler.doms, record.tables["doms"], domains_now, domains_then)
            for name, table in (("queues", scheduler.queues), ("cpus", scheduler.cpus)):
                _fill(table, record.tables[name], range(len(table)), range(len(table)))
            scheduler.ran_ns[now] = np.array(record.ran_ns).reshape(len(record.owners), -1)[then]
            for name in ("used_ns", "waited_ns", "work_ns"):
                self._past[name][now] = np.array(record.past[name])[then]
            self._past["busy_ns"][:] = record.past["busy_ns"]
            if record.owners == self._owners:
                _fill(scheduler.lines, record.tables["lines"], range(len(scheduler.lines)), range(len(scheduler.lines)))
            else:
                _forget_lists(scheduler)
        except (IndexError, KeyError, ValueError, OverflowError) as error:
            raise ValueError(f"the record of its scheduler is not of this host: {error}") from error
        self._require_sound()

    def _require_sound(self) -> None:
        """Machine code does not look whether a number names a row."""
        vcpus, scheduler = self._scheduler.vcpus, self._scheduler
        limits = {"queue": len(scheduler.queues), "processor": len(scheduler.cpus), "cpu": len(scheduler.cpus)}
        for field, most in limits.items():
            if ((vcpus[field] < -1) | (vcpus[field] >= most)).any():
                raise ValueError(f"the record of its scheduler names a {field} that is not there")
        awake = vcpus[vcpus["active"]]
        lost = (awake["queue"] < 0) | (awake["processor"] < 0)
        if scheduler.kind is not SchedulerKind.CREDIT:  # that one has no run queues
            lost |= scheduler.cpus["queue"][awake["processor"]] != awake["queue"]
        if lost.any():
            raise ValueError("the record of its scheduler has a vCPU on no run queue")
        rows = np.flatnonzero(vcpus["active"] & (vcpus["queue"] >= 0))
        queue = vcpus["queue"][rows]
        may = scheduler.hard[rows, queue]
        vcpus["may"][rows] = may
        vcpus["likes"][rows] = np.where(vcpus["has_soft"][rows], scheduler.soft[rows, queue], may)
        if not self._lists_are_sound():
            raise ValueError("the record of its scheduler has a run queue whose list is wrong")

    def _lists_are_sound(self) -> bool:
        """Whether the run queues' lists, one behind the other, are of their vCPUs; where somebody came or went since
        they were made, of vCPUs that there are."""
        vcpus, queues, lines = self._scheduler.vcpus, self._scheduler.queues, self._scheduler.lines
        listed = bool(queues["listed"].all())
        before = 0
        for queue, (first, end) in enumerate(zip(queues["first"].tolist(), queues["end"].tolist(), strict=True)):
            if first != before or not first <= end <= len(lines):
                return False
            mine = np.flatnonzero(vcpus["active"] & (vcpus["queue"] == queue))
            found = lines["member"][first:end]
            if sorted(found.tolist()) != mine.tolist() if listed else (found >= len(vcpus)).any():
                return False
            before = end
        return True

    def _take_off_who_went(self, record: _Record) -> None:
        """The run queues lose the load of vCPUs that are not there any more."""
        here, columns = set(self._owners), record.tables["vcpus"]
        loads = self._scheduler.queues["load"]
        for row, owner in enumerate(record.owners):
            queue = int(columns["queue"][row])
            if owner not in here and columns["active"][row] and 0 <= queue < len(loads):
                loads[queue] = max(loads[queue] - columns["load"][row], 0.0)

    def _by_row(self, by_id: Mapping[int, int]) -> npt.NDArray[np.int64]:
        return np.array([by_id.get(node, 0) for node in self._topology.node_ids], dtype=np.int64)

    def _mask(self, cpus: frozenset[int]) -> npt.NDArray[np.bool_]:
        return np.array([cpu.id in cpus for cpu in self._topology.cpus], dtype=np.bool_)


def _decoded(encoded: bytes) -> _Record:
    try:
        record = msgspec.msgpack.decode(encoded, type=_Record)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the record of its scheduler cannot be read: {error}") from error
    if record.format != FORMAT:
        raise ValueError(f"the record of its scheduler has format {record.format}, this domicile knows {FORMAT}")
    return record


def _columns(table: Table, follows: frozenset[str]) -> Columns:
    return {name: table[name].tolist() for name in table.dtype.names or () if name not in follows}


def _forget_lists(scheduler: Scheduler) -> None:
    """Let the run queues' vCPUs be listed anew: what else is on record of that is not looked at."""
    for field in ("listed", "known", "first", "end"):
        scheduler.queues[field] = 0


def _fill(table: Table, columns: Columns, now: Sequence[int], then: Sequence[int]) -> None:
    """Put rows of a record into a table; a field that the record has not, because it is newer, stays as it is."""
    for name in table.dtype.names or ():
        if name in columns:
            table[name][now] = np.array(columns[name], dtype=table.dtype[name])[then]
