"""A running simulation as a `Host`: what manages a real host manages it, and its time passes in `wait` alone.

A simulated host (`hosts.simulated`) is a file that outlives the process, and is rebuilt for every stretch of time; here
the simulation stays in memory, so that hours pass in seconds, and guests that arrive and end are its own events. What
is done to it is the same: affinity, holds, and memory that moves by live migration. Those that it is compared with may
also have memory follow page by page, as other hypervisors do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from domicile.bench.live_homes import LiveHomes
from domicile.bench.live_moves import LiveMoves
from domicile.errors import Refused, ReservationConflict
from domicile.hosts.actions import Action, EndMove, Hold, LetGo, Manage, Release, Reserve, SetAffinity, StartMove
from domicile.hosts.protocol import Capabilities, no_progress
from domicile.simulator.engine import QUANTA_PER_S, Simulation
from domicile.simulator.epoch import Epoch
from domicile.simulator.memory.flow import PAGE_BYTES
from domicile.simulator.scheduler.state import QUANTUM_NS
from domicile.state.model import Domain, HeldVcpu, MemoryMapAge, Reservation, Snapshot

__all__ = ["LiveHost"]


def _no_epoch(epoch: Epoch) -> None:
    """For who does not want to be told."""


class LiveHost:
    """A simulation under management. `each` is called with every epoch that ends; `counts_traffic`: whether its
    processors count memory traffic; `moved_bytes`: memory that has come to another node."""

    def __init__(
        self, simulation: Simulation, each: Callable[[Epoch], None] = _no_epoch, *, counts_traffic: bool = False
    ) -> None:
        self.simulation = simulation
        self._each = each
        self._used_ns = np.zeros(len(simulation.scheduler.vcpus))
        self._busy_ns = np.zeros(len(simulation.scheduler.cpus))
        self._traffic_bytes = np.zeros(len(simulation.guests)) if counts_traffic else None
        self._holds: dict[tuple[str, int], HeldVcpu] = {}
        self._reserved: dict[str, Reservation] = {}
        self._reservations = 0
        self._moves = LiveMoves(simulation)
        self._homes = LiveHomes(simulation)
        self.moved_bytes = 0
        topology = simulation.topology
        self._listed = [topology.cpus[cpu].id for cpu in simulation.scheduler.arrangement.listed]

    @property
    def uri(self) -> str:
        """A name for people."""
        return f"simulation of {self.simulation.topology.name or self.simulation.topology.source}"

    def capabilities(self) -> Capabilities:
        """All."""
        return Capabilities(via="simulation", memory_map=True, node_affinity=True, pcpu_idle=True, simulated_time=True)

    def snapshot(self, memory_map: MemoryMapAge = MemoryMapAge.NONE) -> Snapshot:
        """The host now, always with its memory map: it costs nothing here. A domain's UUID is its name."""
        del memory_map
        seen, scheduler = self.simulation.snapshot(), self.simulation.scheduler
        waiting, running = scheduler.waiting.tolist(), scheduler.running.tolist()
        used_ns = (self._used_ns + scheduler.ran_ns.sum(axis=1)).astype(np.int64).tolist()
        busy_ns = self._busy_ns + scheduler.cpus["busy_ns"]
        idle_ns = np.maximum(scheduler.quantum * QUANTUM_NS - busy_ns, 0.0).astype(np.int64).tolist()
        return replace(
            seen,
            domains=tuple(self._timed(domain, used_ns, waiting, running) for domain in seen.domains),
            pcpu_idle_ns=dict(zip(self._listed, idle_ns, strict=True)),
            memory_map_age_s=0.0,
            holds=tuple(self._holds.values()),
            moves=self._moves.states,
            reservations=tuple(self._reserved.values()),
            reservations_generation=str(self._reservations),
        )

    def _timed(self, domain: Domain, used_ns: list[int], waiting: list[bool], running: list[bool]) -> Domain:
        first = self.simulation.vcpus_of(domain.id).start
        vcpus = tuple(
            replace(vcpu, time_ns=used_ns[row], waiting=waiting[row], running=running[row])
            for row, vcpu in enumerate(domain.vcpus, start=first)
        )
        counted = None if self._traffic_bytes is None else int(self._traffic_bytes[domain.id])
        return replace(domain, uuid=domain.name, vcpus=vcpus, traffic_bytes=counted)

    def proximity_domains(self) -> Mapping[int, int]:
        """Nodes are numbered as firmware would."""
        return {node: node for node in self.simulation.topology.node_ids}

    def perform(self, action: Action) -> None:
        """Carry out one action. Raises `Refused` for one that there is nobody for, or that this host does not know."""
        match action:
            case SetAffinity(domain, vcpu, hard, soft):
                self._pin(domain, vcpu, hard, soft)
            case Hold(domain, uuid, vcpu, cpus, before):
                self._pin(domain, vcpu, cpus, None)
                was = self._holds.get((uuid, vcpu))
                self._holds[uuid, vcpu] = HeldVcpu(uuid, vcpu, cpus, was.before if was else before)
            case LetGo(uuid, vcpu):
                held = self._holds.pop((uuid, vcpu), None)
                if held and self.simulation.is_there(uuid):
                    self._pin(uuid, vcpu, held.before, None)
            case Reserve() | Release():
                self._promise(action)
            case StartMove(order):
                self._moves.start(order)
            case EndMove(token):
                self._moves.end(token)
            case Manage():
                pass
            case _:
                raise Refused(f"{type(action).__name__}: a simulation has its guests from its scenario")

    def _promise(self, action: Reserve | Release) -> None:
        if isinstance(action, Release):
            self._reserved.pop(action.token, None)
            return
        if action.expected_generation != str(self._reservations):
            raise ReservationConflict(f"{action.reservation.domain}: the reservations have changed meanwhile")
        self._reservations += 1
        self._reserved[action.reservation.token] = action.reservation

    def _pin(self, domain: str, vcpu: int, hard: frozenset[int] | None, soft: frozenset[int] | None) -> None:
        if not self.simulation.is_there(domain):
            raise Refused(f"{domain}: no domain of this name is there")
        self.simulation.pin(domain, hard, soft, vcpu)

    def wait(self, seconds: float, progress: Callable[[float], None] = no_progress) -> None:
        """Let so much time pass, in quanta of 10 ms; epochs end at whole multiples of their length."""
        simulation, scheduler = self.simulation, self.simulation.scheduler
        end = scheduler.quantum + round(seconds * QUANTA_PER_S)
        length = simulation.epoch_quanta
        while scheduler.quantum < end:
            start = scheduler.quantum // length * length
            simulation.step_to(min(start + length, end))
            if scheduler.quantum == start + length:
                self._used_ns += scheduler.ran_ns.sum(axis=1)
                self._busy_ns += scheduler.cpus["busy_ns"]
                self._close_epoch(start, start + length)
        progress(seconds)

    def _close_epoch(self, start: int, end: int) -> None:
        """Close an epoch, in which memory moves."""
        memory = self.simulation.memory
        before = {name: memory.held(name).sum(axis=0) for name in self.moving | self._moves.under_way}
        epoch = self.simulation.close_epoch(start, end)
        if self._traffic_bytes is not None:
            self._traffic_bytes += epoch.bandwidth_gbs * 1e9 * (epoch.end_s - epoch.start_s)
        self._each(epoch)
        self._homes.settle()
        for name, held in before.items():
            pages = int(np.maximum(memory.held(name).sum(axis=0) - held, 0).sum())
            self.moved_bytes += pages * PAGE_BYTES

    def rehome_by_page(self, domain: str, nodes: Sequence[int]) -> bool:
        """Keep a domain on these nodes from now on, by hard affinity, and have its memory follow page by page: what a
        hypervisor can that Xen is not. Whether that was begun: always."""
        self.simulation.pin(domain, self.simulation.topology.cpus_of(nodes), None)
        self.simulation.move_memory(domain, nodes)
        return True

    def rehome(self, domain: str, nodes: Sequence[int]) -> bool:
        """Migrate a domain to these nodes, and keep it there by hard affinity once it has arrived; whether that was
        begun (`LiveHomes.begin`)."""
        return self._homes.begin(domain, nodes)

    def with_homes_to_come(self, snapshot: Snapshot) -> Snapshot:
        """A snapshot in which who is being rehomed is kept where it is going."""
        return self._homes.seen(snapshot)

    @property
    def moving(self) -> frozenset[str]:
        """The domains that are being rehomed, whose memory is on its way."""
        return self.simulation.memory.moving | self._homes.under_way

    def close(self) -> None:
        """Nothing is left behind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
