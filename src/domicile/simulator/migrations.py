"""Migrations of domains to other nodes of their own host, as they go on: `xl migrate` to the host itself, or `xl save`
and `xl restore` where a domain cannot be migrated live.

Seen on Xen 4.17: PVH and HVM guests migrate live and need their memory twice meanwhile; a PV guest's migration fails,
and it is saved and restored; libxl refuses both for a domain with vNUMA. `memory.migration` and `memory.saving` do
the copying. The copying runs on Dom0's vCPUs, through a pipe.

Assumed: the rate, `RATE_GBS` where a scenario says none. What the copying takes of Dom0's CPU time is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from domicile.errors import DomicileError, NotEnoughMemory, Refused
from domicile.simulator.guests import GuestSpec
from domicile.simulator.ledger import Ledger
from domicile.simulator.memory.flow import Flow
from domicile.simulator.memory.migration import INCOMING, LiveMove
from domicile.simulator.memory.populate import Part, addressed, take_overhead
from domicile.simulator.memory.precopy import Dirtying, Phase, Precopy
from domicile.simulator.memory.saving import SaveRestore
from domicile.state.model import PAGES_PER_MIB, DomainType

__all__ = ["RATE_GBS", "MigrationRecord", "Migrations", "MigrationsStep", "Turn"]

RATE_GBS = 1.0
"""What one process that copies through a pipe gets done: an assumption."""

PIPE_COPIES = 2


@dataclass(frozen=True, slots=True)
class MigrationRecord:
    """A migration that was asked for: `how` ("live" or "save-restore"), to which `nodes` (ids). `duration_s` is None
    while it is under way, and where `outcome` is not "done"; `pause_s`: for how long its vCPUs did not run; `rounds`
    of copying while they did."""

    domain: str
    how: str
    nodes: tuple[int, ...]
    asked_s: float
    duration_s: float | None
    pause_s: float
    sent_mib: float
    rounds: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A domain's vCPUs stop at a time, or run again, at home on these nodes (ids)."""

    domain: str
    at_s: float
    runs: bool
    nodes: tuple[int, ...]


@dataclass(slots=True)
class MigrationsStep:
    """What a step did: whose memory is elsewhere now, the traffic of the copying, and who stops or runs again."""

    arrived: list[str] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)


@dataclass(slots=True)
class _Migration:
    domain: str
    nodes: tuple[int, ...]
    asked_s: float
    move: LiveMove | SaveRestore
    dirty_pages_s: float
    writable_pages: float
    paused: bool = False
    done_s: float | None = None
    outcome: str = "under way"

    def record(self) -> MigrationRecord:
        copy = self.move.precopy
        live = isinstance(self.move, LiveMove)
        return MigrationRecord(
            self.domain,
            "live" if live else "save-restore",
            self.nodes,
            self.asked_s,
            None if self.done_s is None else self.done_s - self.asked_s,
            copy.paused_s,
            copy.sent_pages / PAGES_PER_MIB,
            copy.round if live else 0,
            self.outcome,
        )


@dataclass(slots=True)
class Migrations:
    """All migrations of a run, in the order they were asked for; one of a domain at a time."""

    _all: list[_Migration | MigrationRecord] = field(default_factory=list)
    _running: dict[str, _Migration] = field(default_factory=dict)

    @property
    def records(self) -> tuple[MigrationRecord, ...]:
        """What became of them so far."""
        return tuple(each if isinstance(each, MigrationRecord) else each.record() for each in self._all)

    @property
    def running(self) -> bool:
        """Whether any is under way."""
        return bool(self._running)

    def of(self, name: str) -> bool:
        """Whether a domain is being migrated."""
        return name in self._running

    def start(
        self,
        ledger: Ledger,
        spec: GuestSpec,
        rows: Sequence[int],
        nodes: tuple[int, ...],
        now_s: float,
        rate_gbs: float,
    ) -> None:
        """Begin to migrate a domain to these nodes (`rows`, whose ids `nodes` are). One that cannot be is noted as
        refused, and runs on where it is."""
        try:
            move = self._begin(ledger, spec, rows, rate_gbs)
        except (NotEnoughMemory, Refused) as error:
            self.refuse(spec, nodes, now_s, error)
            return
        pages = float(ledger.heap.size_of(spec.name))
        dirty = spec.workload.dirty_mib_s * PAGES_PER_MIB
        migration = _Migration(spec.name, nodes, now_s, move, dirty, pages * spec.workload.working_set)
        self._running[spec.name] = migration
        self._all.append(migration)

    def refuse(self, spec: GuestSpec, nodes: tuple[int, ...], now_s: float, why: DomicileError) -> None:
        """Note one that cannot be."""
        how = "save-restore" if spec.type is DomainType.PV else "live"
        self._all.append(MigrationRecord(spec.name, how, nodes, now_s, None, 0.0, 0.0, 0, f"refused: {why}"))

    def _begin(self, ledger: Ledger, spec: GuestSpec, rows: Sequence[int], rate_gbs: float) -> LiveMove | SaveRestore:
        if self.of(spec.name):
            raise Refused(f"{spec.name} is being migrated already")
        if len(ledger.pages.parts_of(ledger.rows[spec.name])) > 1:
            raise Refused(f"{spec.name} has vNUMA: libxl migrates and saves no such domain")
        heap, affinity = ledger.heap, sorted(rows)
        pages = heap.size_of(spec.name)
        parts = [Part(addressed(spec.type, pages))]
        overhead = spec.overhead_mib * PAGES_PER_MIB
        if spec.type is DomainType.PV:
            return SaveRestore.start(heap, spec.name, spec.type, parts, affinity, rate_gbs, 0, overhead)
        copy = Precopy(pages, rate_gbs)
        move = LiveMove.start(heap, spec.name, spec.type, parts, affinity, copy, 0, PIPE_COPIES)
        try:
            take_overhead(heap, spec.name + INCOMING, overhead)
        except NotEnoughMemory:
            move.cancel(heap)
            raise
        return move

    def step(
        self, ledger: Ledger, now_s: float, dt_s: float, busy: dict[str, float], copier_node: int
    ) -> MigrationsStep:
        """Let them go on; `busy`: how many vCPUs' worth each domain ran, `copier_node`: where Dom0 did (row)."""
        done = MigrationsStep()
        for name, each in list(self._running.items()):
            self._step_one(each, ledger, now_s, dt_s, busy.get(name, 0.0), copier_node, done)
            if each.done_s is not None:
                del self._running[name]
        return done

    @staticmethod
    def _step_one(
        each: _Migration, ledger: Ledger, now_s: float, dt_s: float, busy: float, copier_node: int, done: MigrationsStep
    ) -> None:
        begin_s = max(now_s, each.asked_s)
        length_s = now_s + dt_s - begin_s
        if length_s <= 0.0:
            return
        each.move.cpu_node = copier_node
        if not each.paused:
            each.move.precopy.dirtying = Dirtying(each.dirty_pages_s * busy, each.writable_pages)
        step = each.move.step(ledger.heap, begin_s, length_s)
        share = length_s / dt_s
        done.flows += [Flow(flow.cpu_node, flow.memory_node, flow.gbs * share) for flow in step.flows]
        if not each.paused and step.phase in {Phase.PAUSED, Phase.DONE}:
            each.paused = True
            done.turns.append(Turn(each.domain, begin_s + step.used_s - step.paused_s, False, each.nodes))
        if step.phase is Phase.DONE:
            each.done_s, each.outcome = begin_s + step.used_s, "done"
            done.turns.append(Turn(each.domain, each.done_s, True, each.nodes))
            held = each.move.by_part.sum(axis=0)
            ledger.shift(each.domain, held - ledger.read_by(each.domain))
            ledger.overhead[each.domain] = ledger.heap.pages_of(each.domain) - held
            done.arrived.append(each.domain)

    def end(self, ledger: Ledger, name: str) -> None:
        """A domain is destroyed, and what was being built of it too."""
        each = self._running.pop(name, None)
        if each is not None:
            each.move.cancel(ledger.heap)
            each.outcome = "ended with the domain"


def busy_node(ran: npt.NDArray[np.float64] | None) -> int:
    """The node (row) on which a domain ran most; the first where it did not run."""
    return 0 if ran is None or not ran.any() else int(np.argmax(ran))
