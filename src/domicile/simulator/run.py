"""Running a scenario: the simulation, what is counted of it, and whoever wants to see it as it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from domicile.simulator.engine import Epoch, Simulation
from domicile.simulator.guests import GuestSpec
from domicile.simulator.host_memory import AS_XEN, HostMemory, HostOptions
from domicile.simulator.placing import Place
from domicile.simulator.scenario import Scenario, ScenarioEvent
from domicile.simulator.scenario_host import EventCpus, workloads_of
from domicile.simulator.scheduler.stepper import SchedulerKind
from domicile.simulator.totals import Summary, Totals
from domicile.simulator.traces import RecordedVm
from domicile.simulator.workloads import Workload
from domicile.topology.model import Topology

__all__ = ["Sample", "Sink", "simulate"]

USUAL_POINTS = 500
"""Points of a series where nobody says how many."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A point of the time series: what happened up to `time_s` since the point before."""

    time_s: float
    summary: Summary


class Sink(Protocol):
    """Takes the time series as it comes."""

    def write(self, sample: Sample) -> None:
        """One more point."""


def _carry_out(
    simulation: Simulation, event: ScenarioEvent, cpus: EventCpus, workloads: Mapping[str, Workload]
) -> None:
    """Do what an event of the scenario says."""
    if cpus != (None, None):
        simulation.pin(event.domain, *cpus)
    if event.move_memory:
        simulation.move_memory(event.domain, event.move_memory, event.rate_gbs)
    if event.migrate:
        simulation.migrate(event.domain, event.migrate, event.rate_gbs)
    if event.balloon_mib is not None:
        simulation.set_balloon(event.domain, event.balloon_mib)
    if event.demand is not None:
        simulation.set_demand(event.domain, workloads[event.demand].demand, event.busy_vcpus)


class _Stop(Exception):
    """Somebody wants the simulation to end."""


def simulate(
    scenario: Scenario,
    topology: Topology,
    guests: Sequence[GuestSpec],
    place: Place | None,
    cpus_of_events: Sequence[EventCpus] = (),
    traces: Mapping[str, RecordedVm] | None = None,
    sinks: Sequence[Sink] = (),
    every_s: float | None = None,
    progress: Callable[[float], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    options: HostOptions = AS_XEN,
    watch: Callable[[Simulation, Epoch], None] = lambda *_: None,
) -> Summary:
    """Run a scenario to its end, or until `stop` says so: what was counted after the warm-up.

    `cpus_of_events` is from `scenario_host.event_cpus`, `options` from `host_options` there. `progress` is called with
    the simulated time, once an epoch; `sinks` get a point every `every_s` (a five-hundredth of the duration), the
    warm-up included. `watch` sees the simulation after every epoch, to read.
    """
    end_s = scenario.warm_up_s + scenario.duration_s
    every_s = max(every_s or scenario.duration_s / USUAL_POINTS, scenario.epoch_s)
    simulation = Simulation(
        topology,
        guests,
        SchedulerKind(scenario.scheduler),
        place,
        scenario.seed,
        min(scenario.epoch_s, end_s),
        traces,
        HostMemory(topology, options),
    )
    workloads = workloads_of(scenario)
    for number, event in enumerate(scenario.events):
        simulation.at(event.at_s, partial(_carry_out, simulation, event, cpus_of_events[number], workloads))
    names, nodes = tuple(guest.name for guest in guests), topology.node_ids
    counted = Totals(len(names), len(nodes))
    point = Totals(len(names), len(nodes))

    def each(epoch: Epoch) -> None:
        nonlocal point
        if epoch.start_s >= scenario.warm_up_s - 1e-9:
            counted.add(epoch)
        if sinks:
            point.add(epoch)
            if point.seconds >= every_s - 1e-9 or epoch.end_s >= end_s - 1e-9:
                sample = Sample(epoch.end_s, point.summary(names, nodes, simulation.refused, complete=True))
                for sink in sinks:
                    sink.write(sample)
                point = Totals(len(names), len(nodes))
        progress(epoch.end_s)
        watch(simulation, epoch)
        if stop():
            raise _Stop

    complete = True
    try:
        # an epoch of its own up to the end of the warm-up, so that none is counted in part
        if scenario.warm_up_s:
            simulation.run(scenario.warm_up_s, each)
            simulation.xen.clear()
        simulation.run(end_s, each)
    except _Stop:
        complete = simulation.now_s >= end_s - 1e-9
    return replace(
        counted.summary(names, nodes, simulation.refused, complete),
        migrations=simulation.memory.migrations,
        balloons=simulation.memory.balloons,
        sharing=simulation.memory.sharing,
        pool=simulation.memory.pool,
        xen=simulation.xen.record,
    )
