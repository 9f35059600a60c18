"""Devices with traffic: where their DMA goes under each policy, what it costs, and that ways carry what they can."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sim_scheduling import numa_machine

from domicile.simulator.engine import Epoch, Simulation
from domicile.simulator.guests import DeviceUse, GuestSpec
from domicile.simulator.host_memory import DmaOptions, HostMemory, HostOptions
from domicile.simulator.memory.boot import DmaPolicy
from domicile.simulator.totals import Summary, Totals
from domicile.simulator.workloads import WORKLOADS
from domicile.topology.model import Device

CARD = "0000:41:00.0"
MACHINE = replace(numa_machine(4, 2), devices=(Device(CARD, 1),))
DOM0 = GuestSpec("Domain-0", 2, 512, WORKLOADS["idle"], soft=frozenset({0, 1}))


def guest(node: int, gbs: float = 2.0, through: bool = False, name: str = "g") -> GuestSpec:
    cpus = frozenset(MACHINE.cpus_by_node[node])
    devices = (CARD,) if through else ()
    io = DeviceUse(CARD, gbs)
    return GuestSpec(name, 2, 1024, WORKLOADS["busy"], hard=cpus, memory_nodes=(node,), devices=devices, io=io)


def run(*guests: GuestSpec, policy: DmaPolicy = DmaPolicy.DOM0) -> tuple[Summary, Epoch]:
    options = HostOptions(dma=DmaOptions(policy, 64, {CARD: 1}))
    made = Simulation(MACHINE, [DOM0, *guests], seed=1, memory=HostMemory(MACHINE, options))
    totals, epochs = Totals(len(guests) + 1, 4), []

    def each(epoch: Epoch) -> None:
        totals.add(epoch)
        epochs.append(epoch)

    made.run(5.0, each)
    names = tuple(each.name for each in made.guests)
    return totals.summary(names, MACHINE.node_ids, made.refused, True), epochs[-1]


def test_a_device_passed_through_reads_and_writes_its_domains_pages() -> None:
    near, far = (run(guest(node, through=True))[0].domains[1] for node in (1, 3))
    assert (near.io_gbs, near.io_remote_share) == (2.0, 0.0)
    assert (far.io_gbs, far.io_remote_share) == (2.0, 1.0)
    assert near.slowdown is not None
    assert far.slowdown is not None
    assert far.slowdown > near.slowdown * 1.3


def test_one_of_dom0_reads_and_writes_its_buffers() -> None:
    shares, slow = {}, {}
    for policy in DmaPolicy:
        domain = run(guest(1, 0.05), policy=policy)[0].domains[1]
        shares[policy], slow[policy] = domain.io_remote_share or 0.0, domain.slowdown or 0.0
    memory = HostMemory(MACHINE)
    memory.boot_dom0(DOM0)
    held = memory.by_node("Domain-0")
    assert shares[DmaPolicy.DOM0] == pytest.approx(1.0 - held.get(1, 0) / sum(held.values()))
    # low memory is on the first node
    assert shares[DmaPolicy.LOW] == 1.0
    assert shares[DmaPolicy.NEAR_DEVICE] == 0.0
    assert 0.0 < shares[DmaPolicy.DOM0] < 1.0
    # half of it at distance 22 is as far as all of it at 16
    assert slow[DmaPolicy.DOM0] == pytest.approx(slow[DmaPolicy.LOW], rel=0.02)
    assert slow[DmaPolicy.NEAR_DEVICE] < slow[DmaPolicy.LOW] - 0.05


def test_what_dom0_copies_is_charged_where_it_is_read_and_written() -> None:
    through, quiet = run(guest(3), policy=DmaPolicy.NEAR_DEVICE)[1], run(guest(3, 0.0))[1]
    # in by DMA and out by Dom0 on node 1, into the guest's pages on node 3
    assert through.controller[1] > quiet.controller[1] + 0.2
    assert through.controller[3] > quiet.controller[3] + 0.1
    assert through.controller[2] == pytest.approx(quiet.controller[2], abs=0.02)


def test_no_way_carries_more_than_it_can() -> None:
    # a node with two cores has 8 GB/s, and the way to one at distance 22 has 10/22 of it
    summary, _ = run(guest(3, 500.0, through=True), guest(3, 1000.0, through=True, name="h"))
    moved = [domain.io_gbs for domain in summary.domains[1:]]
    assert sum(moved) == pytest.approx(8.0 * 10 / 22)
    assert moved[1] == pytest.approx(2 * moved[0])
    assert all(domain.slowdown is not None and domain.slowdown < 100 for domain in summary.domains[1:])


def test_who_is_paused_moves_nothing() -> None:
    moved: list[float] = []
    made = Simulation(MACHINE, [DOM0, guest(3, through=True)], seed=1)
    made.at(1.0, lambda: made._pauses.stop(made.scheduler, 2))
    made.run(3.0, lambda epoch: moved.append(float(epoch.io_gbs[1])))
    assert moved == [2.0, 0.0, 0.0]
