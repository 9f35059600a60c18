"""What `lab measure` found out, as records: for JSON as they are, for people by `show.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from domicile.lab.measure.counters import OTHER_CODE, XEN_CODE, Counters

__all__ = [
    "DOM0_OWNER",
    "FIRST_GUEST_OWNER",
    "GuestPlace",
    "GuestResult",
    "Measurement",
    "PcpuResult",
    "Window",
    "window",
]

DOM0_OWNER = 1
FIRST_GUEST_OWNER = 2


@dataclass(frozen=True, slots=True)
class PcpuResult:
    """A pCPU's accesses to each node, by index of node: of everybody but Xen, and of Xen's own code."""

    cpu: int
    node: int
    accesses: tuple[int, ...]
    xen_accesses: tuple[int, ...]

    @property
    def local(self) -> int:
        """Accesses outside Xen to its own node."""
        return self.accesses[self.node]

    @property
    def remote(self) -> int:
        """Accesses outside Xen to other nodes."""
        return sum(self.accesses) - self.local


@dataclass(frozen=True, slots=True)
class GuestPlace:
    """A guest, and where its memory was when a window opened: pages by node."""

    name: str
    id: int
    pages_by_node: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class GuestResult:
    """A guest in a window, by the accesses to its own memory: where they came from shows where its vCPUs ran.

    `ran_on`: node to the share of them that its pCPUs made, nodes without any left out. `remote_share`: of those that
    went to another node, None if there were none.
    """

    place: GuestPlace
    accesses: int
    ran_on: Mapping[int, float]
    remote_share: float | None


@dataclass(frozen=True, slots=True)
class Window:
    """One window. Shares are 0 to 1, None where nothing was accessed.

    `remote_share` counts every access to memory but those of Xen's own code, `guests_remote_share` those of them that
    went to memory of the scenario's guests, `xen_remote_share` those of Xen's code. `dom0` is not one of `guests`.
    `unplaced` went to memory that is on no node as far as is known: many of them mean that the counts are wrong.
    """

    seconds: float
    remote_share: float | None
    guests_remote_share: float | None
    xen_remote_share: float | None
    loads: int
    stores: int
    xen_loads: int
    xen_stores: int
    unplaced: int
    pcpus: tuple[PcpuResult, ...]
    dom0: GuestResult
    guests: tuple[GuestResult, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """A scenario measured. Every access counted stands for `every` of them, looked at at random."""

    title: str
    machine: str
    scheduler: str
    xen_version: str
    every: int
    warm_up_s: float
    windows: tuple[Window, ...]


def window(
    counted: Counters, seconds: float, node_of_cpu: Sequence[int], dom0: GuestPlace, guests: Sequence[GuestPlace]
) -> Window:
    """The result of a window from what was counted in it. Guests are owners from `FIRST_GUEST_OWNER` on, in order."""
    owners = range(FIRST_GUEST_OWNER, FIRST_GUEST_OWNER + len(guests))
    loads, stores = counted.loads_and_stores(OTHER_CODE)
    xen_loads, xen_stores = counted.loads_and_stores(XEN_CODE)
    by_node, xen_by_node = counted.by_node(OTHER_CODE), counted.by_node(XEN_CODE)
    return Window(
        seconds=seconds,
        remote_share=counted.remote_share(node_of_cpu),
        guests_remote_share=counted.remote_share(node_of_cpu, owners=owners),
        xen_remote_share=counted.remote_share(node_of_cpu, XEN_CODE),
        loads=loads,
        stores=stores,
        xen_loads=xen_loads,
        xen_stores=xen_stores,
        unplaced=counted.unplaced,
        pcpus=tuple(
            PcpuResult(cpu, node, tuple(map(int, by_node[cpu])), tuple(map(int, xen_by_node[cpu])))
            for cpu, node in enumerate(node_of_cpu)
        ),
        dom0=_result(counted, node_of_cpu, DOM0_OWNER, dom0),
        guests=tuple(_result(counted, node_of_cpu, owner, place) for owner, place in zip(owners, guests, strict=True)),
    )


def _result(counted: Counters, node_of_cpu: Sequence[int], owner: int, place: GuestPlace) -> GuestResult:
    by_cpu = counted.by_node(OTHER_CODE, [owner]).sum(axis=1)
    by_node = np.bincount(node_of_cpu, weights=by_cpu)
    ran_on = {int(node): float(by_node[node] / by_node.sum()) for node in np.flatnonzero(by_node)}
    return GuestResult(place, int(by_cpu.sum()), ran_on, counted.remote_share(node_of_cpu, owners=[owner]))
