"""Memory of a running simulation that the manager has ordered to other nodes, as a host lists it in its snapshots.

Live migrations alone: nothing here may stand still, and no guest gives memory back.
"""

from __future__ import annotations

from dataclasses import replace

from domicile.errors import Refused
from domicile.simulator.engine import Simulation
from domicile.simulator.migrations import MigrationRecord
from domicile.state.model import DomainType
from domicile.state.moves import MoveEnd, MoveOrder, MoveState, MoveWay

__all__ = ["LiveMoves"]

BYTES_PER_MIB = 2**20


class LiveMoves:
    """The moves of a simulation that somebody has still to take note of."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._asked: dict[str, tuple[MoveOrder, int]] = {}

    def start(self, order: MoveOrder) -> None:
        """Begin one. Raises `Refused`."""
        simulation = self._simulation
        domain = simulation.snapshot().domain(order.domain)
        if domain is None:
            raise Refused(f"{order.domain}: no domain of this name is there")
        if order.way is not MoveWay.LIVE or domain.type is DomainType.PV:
            raise Refused(f"{order.domain}: a simulation under management moves memory by live migration alone")
        if order.domain in self.under_way:
            raise Refused(f"{order.domain}: is being moved already")
        number = len(simulation.memory.migrations)
        simulation.migrate(order.domain, order.nodes, order.rate_mib_s * BYTES_PER_MIB / 1e9)
        self._asked[order.token] = order, number

    def end(self, token: str) -> None:
        """Take note of one that ended. Raises `Refused` for one that goes on: it cannot be called off here."""
        found = next((each for each in self.states if each.order.token == token), None)
        if found is not None and found.end is None:
            raise Refused(f"{found.order.domain}: a simulation's migration is not called off")
        self._asked.pop(token, None)

    @property
    def states(self) -> tuple[MoveState, ...]:
        """How far they are."""
        if not self._asked:
            return ()
        records = self._simulation.memory.migrations
        return tuple(_state(order, records[number]) for order, number in self._asked.values())

    @property
    def under_way(self) -> frozenset[str]:
        """The domains whose memory is on its way."""
        return frozenset(each.order.domain for each in self.states if each.end is None)


def _state(order: MoveOrder, record: MigrationRecord) -> MoveState:
    """The second copy has all its memory from the beginning on."""
    sent_mib = min(round(record.sent_mib), order.memory_mib)
    state = MoveState(order, "copying", sent_mib, taken_mib=order.memory_mib)
    match record.outcome:
        case "under way":
            return state
        case "done":
            return replace(state, end=MoveEnd.MOVED)
        case "ended with the domain":
            return replace(state, end=MoveEnd.LOST, why="the domain ended by itself")
        case _:
            return replace(state, end=MoveEnd.FAILED, why=record.outcome)
