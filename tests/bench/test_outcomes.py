"""What a placement comes to, on cases that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domicile.bench.loads import KINDS, Load, draw
from domicile.bench.outcomes import Lost, busy_share, evaluated, placed, simulated
from domicile.policies.plan import Placement
from domicile.simulator.guests import GuestSpec
from domicile.simulator.scheduler.stepper import SchedulerKind
from domicile.simulator.workloads import WORKLOADS, Demand
from domicile.state.request import Intent
from domicile.topology.model import Topology
from domicile.topology.presets import load_preset

QUIET = replace(WORKLOADS["busy"], traffic_gbs=0.0)
"""Nothing but latency."""


def ivybridge() -> Topology:
    return load_preset("ivybridge-2n").topology


def on(topology: Topology, cpus_of: int, memory_on: int, mib: int, *, hard: bool = False) -> Placement:
    soft = (topology.cpus_of([cpus_of]),) * 2
    return Placement("g", (memory_on,), soft, {memory_on: mib}, {memory_on: mib}, 1.0, hard=hard)


def one_guest(topology: Topology) -> Load:
    return Load(topology, (GuestSpec("g", 2, 1024, QUIET),), Intent())


@pytest.mark.parametrize(("memory_on", "expected"), [(0, 1.0), (1, 1.0 + 0.4 * (505.0 / 259.0 - 1.0))])
def test_a_quiet_guest_loses_what_latency_says(memory_on: int, expected: float) -> None:
    """memory_bound 0.4; the preset's latencies are 259 cycles near and 505 far."""
    topology = ivybridge()
    placement = on(topology, 0, memory_on, 1024, hard=True)
    assert evaluated(one_guest(topology), [placement]) == pytest.approx((expected,), rel=1e-6)
    # beside Dom0, which sometimes wants a pCPU of 40
    found = simulated(one_guest(topology), [placement], SchedulerKind.CREDIT2, 0)
    assert found == pytest.approx((expected,), rel=0.02)


def test_a_guest_without_soft_affinity_may_run_everywhere() -> None:
    """Half of its vCPUs work at full speed, half as slow as far memory makes them: rates are averaged, not times."""
    topology = ivybridge()
    anywhere = replace(on(topology, 0, 0, 1024), soft_affinity=None)
    far = 1.0 + 0.4 * (505.0 / 259.0 - 1.0)
    assert evaluated(one_guest(topology), [anywhere]) == pytest.approx((2.0 / (1.0 + 1.0 / far),), rel=1e-3)


def test_a_guest_that_finds_no_memory_is_an_error() -> None:
    topology = ivybridge()
    too_much = Load(topology, (GuestSpec("g", 2, 200_000, QUIET),), Intent())
    with pytest.raises(Lost, match=r"g: "):
        simulated(too_much, [on(topology, 0, 0, 200_000)], SchedulerKind.CREDIT2, 0)


def test_mean_demand() -> None:
    assert busy_share(Demand(level=0.3)) == pytest.approx(0.3)
    assert busy_share(Demand(pattern="on-off", level=0.8, on_s=1.0, off_s=3.0)) == pytest.approx(0.2)
    diurnal = Demand(pattern="diurnal", level=0.5, amplitude=0.6, peak_h=12.0)
    assert busy_share(diurnal) == pytest.approx(0.5 * 0.4)
    at_its_peak = replace(diurnal, peak_h=24.0)
    assert busy_share(at_its_peak) == pytest.approx(0.5 * 1.6)


@pytest.mark.parametrize("name", ["libxl", "xenopsd", "xenopsd-hard", "packed", "spread", "first-fit", "random"])
@pytest.mark.parametrize("kind", ["full", "ties"])
def test_policies_that_see_no_load_place_alike_however_guests_arrive(name: str, kind: str) -> None:
    load = draw(load_preset("haswell-ex-4n").topology, KINDS[kind], 2)
    together, single = (placed(load, name, together=arrival) for arrival in (True, False))
    assert [(each.nodes, each.hard) for each in together] == [(each.nodes, each.hard) for each in single]


@pytest.mark.parametrize(("name", "expected"), [("domicile", [0, 1, 0]), ("greedy", [0, 1, 0]), ("numad", [0, 0, 1])])
def test_who_is_busy_makes_a_difference_to_those_that_see_it(name: str, expected: list[int]) -> None:
    """The first guest idles, the second is busy: who looks at load takes the first one's node for free, at once (numad)
    or for the third (each vCPU of a guest counts until it has run)."""
    topology = ivybridge()
    idle, busy = (GuestSpec(name, 8, 1024, WORKLOADS[name]) for name in ("idle", "busy"))
    load = Load(topology, (idle, busy, GuestSpec("late", 4, 1024, QUIET)), Intent())
    assert [each.nodes for each in placed(load, name, together=False)] == [(node,) for node in expected]
