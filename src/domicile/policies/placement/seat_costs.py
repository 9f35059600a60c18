"""What exactly these seats cost, with their memory in whole MiB: the figures that a plan promises and explains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from domicile.policies.placement.candidates import SeatCosts
from domicile.policies.placement.layout import Layout, Seat

__all__ = ["seat_costs"]


def seat_costs(rest: Layout, guest: int, seats: Sequence[Seat]) -> list[SeatCosts]:
    """The costs of these seats for a guest that has none in `rest`: as they were weighed, where that is known."""
    found = [_as_weighed(rest, guest, seat) for seat in seats]
    known = [costs for costs in found if costs is not None]
    return known if len(known) == len(seats) else _worked_out(rest, guest, seats)


def _as_weighed(rest: Layout, guest: int, seat: Seat) -> SeatCosts | None:
    """None where the set was not weighed, or with memory in parts of a MiB."""
    for choice in rest.ranked.get(guest, ()):
        if choice.weighed is not None and choice.nodes == seat.nodes:
            mib = {node: mib for node, mib in enumerate(seat.reserve_mib) if mib}
            return choice.weighed.costs if mib == choice.weighed.memory_mib else None
    return None


def _worked_out(rest: Layout, guest: int, seats: Sequence[Seat]) -> list[SeatCosts]:
    subject = rest.problem.subjects[guest]
    vcpus = np.array([seat.vcpu_share for seat in seats])
    reserve = np.array([seat.reserve_mib for seat in seats], dtype=np.float64)
    nodes = np.flatnonzero((vcpus + reserve).any(axis=0))
    vcpus, memory = vcpus[:, nodes], reserve[:, nodes] / max(subject.need_mib, 1)
    everywhere = np.broadcast_to(nodes, vcpus.shape)
    ties = rest.ties(guest)
    costs = rest.trial(guest).costs(everywhere, vcpus, memory)
    found = (costs.latency, costs.cpu, costs.bandwidth, costs.devices, costs.neighbours)
    own, missed = ties.own(everywhere, vcpus), ties.missed(everywhere, vcpus)
    split = subject.divided(vcpus)
    rows = zip(*(each.tolist() for each in (*found, own, missed, split)), strict=True)
    return [SeatCosts(*row) for row in rows]
