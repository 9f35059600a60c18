"""Whatever lives on a simulated host and however its time is cut: none is made or lost, and pieces make a whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_machines import config, machine, read_guest

from domicile.hosts.actions import CreatePaused, Unpause
from domicile.hosts.simulated.acts import carry_out
from domicile.hosts.simulated.advance import SCHEDULERS, advance
from domicile.hosts.simulated.open import first_state
from domicile.hosts.simulated.placement import least_used_nodes
from domicile.hosts.simulated.state import Owner, SimulatedState
from domicile.hosts.simulated.view import snapshot_of
from domicile.local.process import this_process
from domicile.state.model import Cpupool, Snapshot

OWNER = Owner("test", this_process())
ALL = frozenset(range(8))

guests = st.fixed_dictionaries(
    {
        "vcpus": st.integers(1, 5),
        "cpu_weight": st.sampled_from([64, 256, 1000]),
        "cap": st.sampled_from([0, 0, 50, 150]),
        "extra": st.sampled_from(
            ["", "busy=1", "workload=web", "workload=kernel-build", "workload=key-value", "busy=0"]
        ),
    },
    optional={"cpus_soft": st.just([[2, 3]] * 5), "cpus": st.just([[0, 1, 4, 5]] * 5)},
)
pieces = st.lists(st.integers(1, 260).map(lambda quanta: quanta / 100), min_size=1, max_size=4)


@st.composite
def hosts(draw: st.DrawFn) -> SimulatedState:
    """A host that has just got some guests."""
    pool = Cpupool("Pool-0", ALL, draw(st.sampled_from(SCHEDULERS)))
    state = first_state("box", machine(), (pool,), seed=draw(st.integers(0, 99)))
    for number, more in enumerate(draw(st.lists(guests, max_size=4))):
        state = started(state, f"g{number}", **more)
    return state


def started(state: SimulatedState, name: str, **more: object) -> SimulatedState:
    for action in (CreatePaused(name, config(name, **more)), Unpause(name)):  # type: ignore[arg-type]
        state = carry_out(state, action, OWNER, read_guest, least_used_nodes)
    return state


def spent_ns(snapshot: Snapshot) -> int:
    return sum(domain.time_ns or 0 for domain in snapshot.domains) + sum(snapshot.pcpu_idle_ns.values())


@settings(max_examples=25)
@given(hosts(), pieces)
def test_pieces_make_a_whole(state: SimulatedState, cuts: list[float]) -> None:
    """To the last bit: also what the scheduler keeps to itself."""
    in_pieces = state
    for seconds in cuts:
        in_pieces = advance(in_pieces, seconds)
    assert in_pieces == advance(state, round(sum(cuts), 2))


@pytest.mark.parametrize("cuts", [[0.02, 0.01], [0.01, 0.01, 0.01], [0.05, 0.01]])
def test_a_piece_can_end_when_a_vcpu_has_just_changed_its_run_queue(cuts: list[float]) -> None:
    state = first_state("box", machine(), (Cpupool("Pool-0", ALL, "credit2"),), seed=1)
    for number, vcpus in enumerate((1, 2)):
        state = started(state, f"g{number}", vcpus=vcpus)
    in_pieces = state
    for seconds in cuts:
        in_pieces = advance(in_pieces, seconds)
    assert in_pieces == advance(state, round(sum(cuts), 2))


@settings(max_examples=25)
@given(hosts(), pieces)
def test_time_and_memory_are_neither_made_nor_lost(state: SimulatedState, cuts: list[float]) -> None:
    before = snapshot_of(state)
    up_ns = 0
    for seconds in cuts:
        state = advance(state, seconds)
        after = snapshot_of(state)
        up_ns += round(seconds * 1e9)
        assert state.clock.up_ns == up_ns
        assert after.taken_at >= before.taken_at
        vcpus = sum(len(domain.vcpus) for domain in after.domains)
        assert abs(spent_ns(after) - 8 * up_ns) <= vcpus + 8
        for then, now in zip(before.domains, after.domains, strict=True):
            assert now.pages_by_node == then.pages_by_node
            assert [v.time_ns or 0 for v in now.vcpus] >= [v.time_ns or 0 for v in then.vcpus]
            assert all((b.time_ns or 0) >= (a.time_ns or 0) for a, b in zip(then.vcpus, now.vcpus, strict=True))
            assert (now.waited_ns or 0) >= (then.waited_ns or 0)
            assert (now.work_ns or 0) >= (then.work_ns or 0)
        assert all(now >= before.pcpu_idle_ns[cpu] for cpu, now in after.pcpu_idle_ns.items())
        assert [node.free_mib for node in after.topology.nodes] == [node.free_mib for node in before.topology.nodes]
        for domain in after.domains:
            for vcpu in domain.vcpus:
                assert vcpu.pcpu is None or vcpu.pcpu in vcpu.hard_affinity
        before = after


@settings(max_examples=10)
@given(hosts(), st.integers(0, 99))
def test_the_seed_decides(state: SimulatedState, seed: int) -> None:
    state = replace(state, clock=replace(state.clock, seed=seed))
    assert advance(state, 1.0) == advance(state, 1.0)
