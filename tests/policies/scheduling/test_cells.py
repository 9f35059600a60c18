"""Cells: nodes cut by credit2's run queues, and who is held in which."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.bench.loads import DOM0
from domicile.policies.scheduling.cells import LIGHT, Guest, cells_of, share_out
from domicile.simulator.engine import Simulation
from domicile.simulator.epoch import Epoch
from domicile.simulator.guests import GuestSpec
from domicile.simulator.workloads import WORKLOADS
from domicile.state.model import Cpupool, Snapshot
from domicile.topology.model import by_core
from domicile.topology.presets import load_preset

GENOA = load_preset("genoa-9224-nps2-cxl").topology
NODE = GENOA.cpus_of([2])
CORES = by_core(GENOA.cpus)


def host(name: str = "genoa-9224-nps2-cxl", commandline: str = "", scheduler: str = "credit2") -> Snapshot:
    return Snapshot(load_preset(name).topology, (), 0.0, commandline=commandline, scheduler=scheduler)


def sizes(snapshot: Snapshot, node: int) -> list[int]:
    cpus = snapshot.topology.cpus_of([node])
    return sorted(len(cell) for cell in cells_of(snapshot) if cell <= cpus)


class TestCells:
    def test_two_nodes_of_a_socket_share_a_run_queue(self) -> None:
        """48 pCPUs of a socket are three queues of 16, 24 of them on each node."""
        assert [sizes(host(), node) for node in (0, 1, 2, 3)] == [[8, 16]] * 4
        assert Counter(cpu for cell in cells_of(host()) for cpu in cell) == Counter(cpu.id for cpu in GENOA.cpus)

    def test_small_nodes_are_one_each(self) -> None:
        opteron = load_preset("opteron-8n48c").topology
        assert set(cells_of(host("opteron-8n48c", "credit2_runqueue=node"))) == {
            frozenset(cpus) for cpus in opteron.cpus_by_node.values()
        }

    @pytest.mark.parametrize(
        ("commandline", "expected"),
        [
            ("placeholder credit2_runqueue=core", [2] * 12),
            ("sched_credit2_max_cpus_runqueue=64 dom0_mem=1G", [24]),
            ("credit2_runqueue=core credit2_runqueue=node sched_credit2_max_cpus_runqueue=64", [24]),
            ("xcredit2_runqueue=core", [8, 16]),
            ("credit2_runqueue=nonsense", [24]),
        ],
    )
    def test_what_xen_was_booted_with(self, commandline: str, expected: list[int]) -> None:
        assert sizes(host(commandline=commandline), 2) == expected

    def test_cpupools_have_queues_of_their_own(self) -> None:
        """Each with its scheduler; Xen spreads a small one's CPUs by how many the host has."""
        first, second = NODE | GENOA.cpus_of([1]), GENOA.cpus_of([0, 3])
        pools = (Cpupool("Pool-0", first, "credit2"), Cpupool("slow", second, "credit"))
        here = replace(host(), cpupools=pools)
        assert [sizes(here, node) for node in range(4)] == [[24], [8, 16], [8, 16], [24]]

    def test_other_schedulers_have_no_such_queues(self) -> None:
        assert sizes(host(scheduler="credit"), 2) == [24]


guests = st.dictionaries(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 7)),
    st.builds(
        Guest,
        st.sampled_from([NODE, GENOA.cpus_of([2, 3]), GENOA.cpus_of([0])]),
        st.floats(0.0, 1.0),
        st.sampled_from([None, NODE, *cells_of(host())]),
    ),
)


@given(guests)
def test_everybody_gets_the_part_of_its_home_that_is_in_one_cell(given_guests: dict[tuple[str, int], Guest]) -> None:
    places = share_out(given_guests, cells_of(host()), CORES)
    assert places.keys() == given_guests.keys()
    for key, cpus in places.items():
        assert cpus
        assert any(cpus == cell & given_guests[key].home for cell in cells_of(host()))


@given(guests)
def test_it_comes_to_rest(given_guests: dict[tuple[str, int], Guest]) -> None:
    now = given_guests
    for _ in range(12):
        places = share_out(now, cells_of(host()), CORES)
        after = {key: replace(guest, held=places[key]) for key, guest in now.items()}
        if after == now:
            return
        now = after
    raise AssertionError(now)


def test_those_that_want_a_pcpu_each_get_one() -> None:
    places = share_out({("a", vcpu): Guest(NODE, 1.0, None) for vcpu in range(24)}, cells_of(host()), CORES)
    assert all(count <= len(cell) for cell, count in Counter(places.values()).items())


def test_who_is_held_stays_until_all_cores_of_its_cell_are_busy() -> None:
    """Of 4 cores the small one, of 8 the large one."""
    small, large = sorted((cell for cell in cells_of(host()) if cell <= NODE), key=len)
    calm = {("a", vcpu): Guest(NODE, 0.8, small) for vcpu in range(4)}
    assert set(share_out(calm, cells_of(host()), CORES).values()) == {small}
    crowded = {("a", vcpu): Guest(NODE, 1.0, small) for vcpu in range(12)}
    places = share_out(crowded, cells_of(host()), CORES)
    assert Counter(places.values()) == {small: 4, large: 8}
    idle = {("a", vcpu): Guest(NODE, 0.0, small) for vcpu in range(round(0.8 * 4 / LIGHT))}
    assert set(share_out(idle, cells_of(host()), CORES).values()) == {small}


def test_one_that_idles_is_not_left_where_all_cores_are_busy() -> None:
    """It would share one each time that it wakes up, beside cores that are idle."""
    topology = load_preset("broadwell-2682v4-2n").topology
    node = topology.cpus_of([0])
    first, second = (cell for cell in cells_of(host("broadwell-2682v4-2n")) if cell <= node)
    there = {("busy", vcpu): Guest(node, 1.0, first) for vcpu in range(8)} | {("idle", 0): Guest(node, 0.01, first)}
    places = share_out(there, (first, second), by_core(topology.cpus))
    assert sum(place == places["idle", 0] for place in places.values()) < 8
    assert set(places.values()) == {first, second}


def waited(places: list[frozenset[int]]) -> float:
    """Simulated by credit2: time waited over work done of four guests of 6 vCPUs, with a pCPU for each, every vCPU on
    its CPUs of these."""
    kinds = ("key-value", "specjbb", "sysbench-memory", "kernel-build")
    guests = [GuestSpec(kind, 6, 2048, WORKLOADS[kind], memory_nodes=(2,)) for kind in kinds]
    simulation = Simulation(GENOA, [DOM0, *guests])
    totals = [0.0, 0.0]

    def each(epoch: Epoch) -> None:
        totals[0] += float(epoch.waited_s[1:].sum())
        totals[1] += float(epoch.work_s[1:].sum())

    simulation.step_to(1)
    for number, cpus in enumerate(places):
        simulation.pin(kinds[number // 6], cpus, None, number % 6)
    simulation.run(20.0, each)
    return totals[0] / totals[1]


def test_nobody_waits_while_a_pcpu_of_its_node_is_idle() -> None:
    """What whole nodes come to under credit2, and what cells do."""
    uses = (0.3, 1.0, 1.0, 0.8)
    wanted = {("all", vcpu): Guest(NODE, uses[vcpu // 6], None) for vcpu in range(24)}
    places = share_out(wanted, cells_of(host()), CORES)
    assert waited([NODE] * 24) > 0.1
    assert waited([places["all", vcpu] for vcpu in range(24)]) < 0.001
