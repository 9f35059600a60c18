"""The performance model: slowdown, latency and bandwidth of every domain for a load on a machine.

    slowdown = time that the domain's work takes / time that it would take alone, with a core to each vCPU and its
               memory on the machine's best node

In the order in which it is worked out:

1. **CPU time.** On each node the pCPUs of a cpupool are shared by the vCPUs that want to run there, in proportion to
   their weight, none getting more than it wants, no domain more than its cap. What a scheduler measured fits as it is.
2. **SMT.** Up to as many busy vCPUs as cores have a core each; a further one adds `smt_yield` of a core.
3. **Caches.** The last-level cache of a node is shared by what its domains would keep there; a domain that keeps a
   part of what it could keep alone has (whole / part) ** `cache_power` times its traffic and memory time.
4. **Latency.** Work stretches by `memory_bound` times what memory latency has grown, over the machine's best latency:
   idle latency by distance, plus what the memory controller's curve adds (as on its own node), plus what the busiest
   link on the way adds. Utilisation depends on how fast the domains get on, which depends on latency: the point is
   taken at which both agree.
5. **Bandwidth.** Where even then more is wanted than a controller or link can carry, every byte that goes there waits
   as long as it takes until no more is wanted (`waiting`), and work stretches by that.
6. **Devices and messages.** Half of what a device's distance costs goes with the domain's vCPUs (interrupts), half
   with its DMA buffers; its traffic loads controllers and links like everybody's, from the device's node. Domains that
   talk wait for `message_lines` cache lines a round trip, as far away as the other's vCPUs run.

`predict` is this model to first order (each effect alone, none feeding back): its terms are sums over nodes, which is
what lets placement try thousands of newcomers in O(k x k) each (`Field`). A test holds the two together where effects
are small. What is left out: bursts within the averages, clock frequency, prefetching, TLBs, coherence within a node.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from domicile.performance.arrays import (
    BANDWIDTH,
    CACHE,
    CPU,
    DEVICES,
    DISTANCE,
    FIGURES,
    LATENCY_NS,
    LOAD,
    PEERS,
    RATE,
    SLOWDOWN,
    SMT,
    Given,
    Outcomes,
    Place,
    System,
)
from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad
from domicile.performance.memory_system import memory_system

__all__ = ["Evaluation", "Repeated", "evaluate"]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What a load comes to. D domains, N nodes, R resources; `...`: the load's leading dimensions.

    `figures`: rows of `arrays`, each ... x D, which the properties name.
    `slowdown`, ... x D: the sum of 1 and the terms, each ... x D: `cpu` (waiting for a pCPU), `smt` (sharing a core),
    `distance` (idle latency), `cache` (what others drive out), `load` (latency under load and missing bandwidth, less
    what the domain alone would cause; negative where it is spread wide enough to have more bandwidth than a node),
    `devices`, `peers`.

    `latency_ns`, ... x D: mean latency of its accesses under load. `bandwidth_gbs`, ... x D: memory traffic it has.
    `rate_vcpus`, ... x D: work done, in busy vCPUs that nothing slows. `running`, ... x D x N: busy vCPUs that got a
    pCPU. `utilisation`, ... x R: of memory controllers (the first N) and links; `resources` names them.
    """

    figures: Floats
    running: Floats
    utilisation: Floats
    resources: tuple[str, ...]

    @property
    def slowdown(self) -> Floats:
        """How many times as long as alone; ... x D."""
        return _row(self.figures, SLOWDOWN)

    @property
    def cpu(self) -> Floats:
        """Waiting for a pCPU; ... x D."""
        return _row(self.figures, CPU)

    @property
    def smt(self) -> Floats:
        """Sharing a core; ... x D."""
        return _row(self.figures, SMT)

    @property
    def distance(self) -> Floats:
        """Idle latency; ... x D."""
        return _row(self.figures, DISTANCE)

    @property
    def cache(self) -> Floats:
        """What others drive out of the caches; ... x D."""
        return _row(self.figures, CACHE)

    @property
    def load(self) -> Floats:
        """Latency under load and missing bandwidth; ... x D."""
        return _row(self.figures, LOAD)

    @property
    def devices(self) -> Floats:
        """Distance of its devices; ... x D."""
        return _row(self.figures, DEVICES)

    @property
    def peers(self) -> Floats:
        """Distance of those it talks to; ... x D."""
        return _row(self.figures, PEERS)

    @property
    def latency_ns(self) -> Floats:
        """Mean latency of its accesses under load; ... x D."""
        return _row(self.figures, LATENCY_NS)

    @property
    def bandwidth_gbs(self) -> Floats:
        """Memory traffic it has; ... x D."""
        return _row(self.figures, BANDWIDTH)

    @property
    def rate_vcpus(self) -> Floats:
        """Work done, in busy vCPUs that nothing slows; ... x D."""
        return _row(self.figures, RATE)

    @property
    def node_utilisation(self) -> Floats:
        """Utilisation of each node's memory controller, ... x N."""
        return self.utilisation[..., : self.running.shape[-1]]

    @property
    def link_utilisation(self) -> Floats:
        """Utilisation of each link, ... x (R - N)."""
        return self.utilisation[..., self.running.shape[-1] :]


def _row(figures: Floats, which: int) -> Floats:
    found: Floats = figures[which]
    return found


def evaluate(machine: Machine, load: MachineLoad, assumptions: Assumptions = DEFAULT) -> Evaluation:
    """Evaluate one load, or as many as its leading dimensions say, in one call.

    Raises `ValueError` for arrays that do not fit together or the machine, and for figures that are negative or not
    finite (a cap may be infinite).
    """
    system, names = _system(machine, assumptions)
    varying = (load.cpu_share, load.memory_share, load.dma_share)
    given = _given(load)
    _check_shapes(machine, load, given)
    lead: tuple[int, ...] = ()
    if any(array.ndim > 2 for array in varying):
        lead = np.broadcast_shapes(*(array.shape[:-2] for array in varying))
    want, memory, buffers = (_flat(array, lead) for array in varying)
    found = _evaluation(system, names, given, Place(want, memory, buffers), lead)
    if found is None:
        raise ValueError(_what_is_wrong(machine, load, given))
    return found


class Repeated:
    """`evaluate` for one load time and again, as a simulation asks for it. Between two calls only changes who runs
    where and what follows from it: the rest is checked and laid out once, since that takes as long as the loops."""

    def __init__(self, machine: Machine, load: MachineLoad, assumptions: Assumptions = DEFAULT) -> None:
        """`load` has no leading dimensions. Raises `ValueError` as `evaluate`, as far as it is known by now."""
        self._system, self._names = _system(machine, assumptions)
        self._machine, self._load, self._given = machine, load, _given(load)
        _check_shapes(machine, load, self._given)
        self._shape = (load.domains, load.nodes)

    def evaluate(
        self,
        cpu_share: Floats,
        memory_share: Floats,
        dma_share: Floats,
        demand_vcpus: Floats,
        dma_gbs: Floats,
        messages_per_s: Floats,
    ) -> Evaluation:
        """The load with these fields of `MachineLoad`. Raises as `evaluate`."""
        rows, talk = self._shape, self._given.messages.shape
        fits = cpu_share.shape == memory_share.shape == dma_share.shape == dma_gbs.shape == rows
        if not fits or messages_per_s.shape != talk:
            raise ValueError(f"arrays do not fit {self._shape[0]} domains x {self._shape[1]} nodes")
        self._given.figures[0] = demand_vcpus
        known = self._given
        given = Given(known.figures, known.pool, _floats(dma_gbs), known.peers, _floats(messages_per_s))
        place = Place(_floats(cpu_share)[None], _floats(memory_share)[None], _floats(dma_share)[None])
        found = _evaluation(self._system, self._names, given, place, ())
        if found is None:
            load = replace(
                self._load,
                cpu_share=cpu_share,
                memory_share=memory_share,
                dma_share=dma_share,
                demand_vcpus=demand_vcpus,
                dma_gbs=dma_gbs,
                messages_per_s=messages_per_s,
            )
            raise ValueError(_what_is_wrong(self._machine, load, given))
        return found


def _evaluation(
    system: System, names: tuple[str, ...], given: Given, place: Place, lead: tuple[int, ...]
) -> Evaluation | None:
    """What the loops make of it; None for what they refuse."""
    count, resources = math.prod(lead), len(system.peak)
    domains, nodes = place.want.shape[1:]
    out = Outcomes(
        running=np.empty((count, domains, nodes)),
        figures=np.empty((FIGURES, count, domains)),
        utilisation=np.empty((count, resources)),
    )
    if not _loops()(system, given, place, out):
        return None
    return Evaluation(
        figures=out.figures.reshape((FIGURES, *lead, domains)),
        running=out.running.reshape((*lead, domains, nodes)),
        utilisation=out.utilisation.reshape((*lead, resources)),
        resources=names,
    )


@functools.cache
def _loops() -> Callable[[System, Given, Place, Outcomes], bool]:
    """The compiled loops, which take a second or two to load."""
    from domicile.performance.kernel import evaluate_all  # noqa: PLC0415

    return evaluate_all


def _system(machine: Machine, assumptions: Assumptions) -> tuple[System, tuple[str, ...]]:
    """The machine for the loops, and its resources' names; the machine keeps them."""
    kept = machine.memory_systems.get(assumptions)
    if kept is None:
        found = memory_system(machine, assumptions)
        system = System(
            pcpus=_floats(machine.pcpus),
            cores=_floats(machine.cores),
            llc=_floats(found.cache_mib),
            latency=_floats(found.latency_ns),
            near=_floats(found.near_ns),
            best_ns=found.best_ns,
            reference=found.reference,
            peak=_floats(found.peak_gbs),
            added=_floats(found.added),
            step=found.step,
            read_use=_floats(found.read_use),
            write_use=_floats(found.write_use),
            smt_yield=assumptions.smt_yield,
            cache_power=assumptions.cache_power,
            message_lines=assumptions.message_lines,
        )
        kept = machine.memory_systems[assumptions] = (system, found.names)
    return kept


def _given(load: MachineLoad) -> Given:
    figures = (
        load.demand_vcpus,
        load.traffic_gbs,
        load.read_fraction,
        load.memory_bound,
        load.cache_mib,
        load.weight,
        load.device_bound,
        load.cap,
    )
    domains = load.domains
    for figure in figures:
        if figure.shape != (domains,):
            raise ValueError(f"a figure for each of {domains} domains is wanted")
    return Given(
        figures=np.concatenate(figures).reshape(len(figures), domains),
        pool=_whole(load.pool),
        dma=_floats(load.dma_gbs),
        peers=_whole(load.peers),
        messages=_floats(load.messages_per_s),
    )


def _check_shapes(machine: Machine, load: MachineLoad, given: Given) -> None:
    """The loops look at no bounds: what does not fit must not get there."""
    shape = (load.domains, machine.nodes)
    for name in ("cpu_share", "memory_share", "dma_share", "dma_gbs"):
        array = getattr(load, name)
        if array.shape[-2:] != shape:
            raise ValueError(f"{name} is {array.shape}, not ... x {shape[0]} domains x {shape[1]} nodes")
    if given.pool.shape != (load.domains,):
        raise ValueError(f"a cpupool for each of {load.domains} domains is wanted")
    if given.peers.shape != (len(given.messages), 2):
        raise ValueError(f"{given.peers.shape} peers for {len(given.messages)} message rates")


def _what_is_wrong(machine: Machine, load: MachineLoad, given: Given) -> str:
    """Which of the figures the loops refused."""
    if ((given.pool < 0) | (given.pool >= len(machine.pools))).any():
        return f"a domain is in none of the {len(machine.pools)} cpupools"
    if ((given.peers < 0) | (given.peers >= load.domains)).any():
        return "a peer is none of the domains"
    for name in (field.name for field in fields(load)):
        array = getattr(load, name)
        if not ((array >= 0.0) & ((array < np.inf) | (name == "cap"))).all():
            return f"{name} has figures that are negative or not finite"
    return "a figure is negative or not finite"


def _flat(array: Floats, lead: tuple[int, ...]) -> Floats:
    """Leading dimensions as one; left at 1 where the array has none, which stands for all candidates."""
    if array.ndim == 2:
        return _floats(array)[None]
    array = np.broadcast_to(array, lead + array.shape[-2:])
    return _floats(array.reshape((math.prod(array.shape[:-2]), *array.shape[-2:])))


def _whole(array: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """As the loops are compiled for: contiguous 64-bit integers, writable."""
    flags = array.flags
    if array.dtype == np.int64 and flags.c_contiguous and flags.writeable:
        return array
    return np.array(array, dtype=np.int64, order="C")


def _floats(array: Floats) -> Floats:
    """As the loops are compiled for: contiguous, of 64-bit floats, and writable (a type of its own to Numba)."""
    flags = array.flags
    if array.dtype == np.float64 and flags.c_contiguous and flags.writeable:
        return array
    return np.array(array, dtype=np.float64, order="C")
