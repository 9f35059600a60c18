"""The model's curves: pCPU sharing and memory pressure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats, crowding, pressure, sharing


def one(value: float) -> Floats:
    return np.array([value], dtype=np.float64)


def slowdown(demand: float, cores: float, pcpus: float, fullness: float = 1.0) -> float:
    return float(sharing(one(demand), one(cores), one(pcpus), fullness, DEFAULT)[0])


def test_a_core_to_each_is_no_loss() -> None:
    assert slowdown(0, 8, 16) == 1.0
    assert slowdown(3.5, 8, 16) == 1.0
    assert slowdown(8, 8, 16) == 1.0


def test_all_threads_busy_share_cores() -> None:
    # 16 threads on 8 cores do the work of 8 * 1.25 cores
    assert slowdown(16, 8, 16) == pytest.approx(16 / 10)


def test_twice_the_pcpus_is_half_the_speed_on_a_full_host() -> None:
    assert slowdown(8, 4, 4) == pytest.approx(2.0)
    assert slowdown(32, 8, 16) == pytest.approx(2 * 16 / 10)


def test_an_overfull_node_of_an_empty_host_costs_less_than_taking_turns_but_more_than_a_near_node() -> None:
    squeezed = slowdown(8, 4, 4, fullness=0.25)
    # half of the accesses go to a node at distance 20, the other half stay
    spread = 1 + DEFAULT.memory_bound * 0.5
    assert spread < squeezed < slowdown(8, 4, 4)


@given(
    demand=st.floats(0, 200),
    more=st.floats(0, 50),
    cores=st.integers(1, 32),
    smt=st.sampled_from([1, 2, 4]),
    fullness=st.floats(0, 1),
)
def test_more_demand_never_makes_it_faster(demand: float, more: float, cores: int, smt: int, fullness: float) -> None:
    before, after = (
        slowdown(demand, cores, cores * smt, fullness),
        slowdown(demand + more, cores, cores * smt, fullness),
    )
    assert 1.0 <= before <= after + 1e-12


def test_a_node_without_cpus_is_out_of_the_question() -> None:
    assert slowdown(0, 0, 0) == 1.0
    assert slowdown(1, 0, 0) > 1e5


@given(low=st.floats(0, 3), more=st.floats(0, 3))
def test_more_traffic_never_makes_memory_faster(low: float, more: float) -> None:
    assert 0 <= float(pressure(one(low), DEFAULT)[0]) <= float(pressure(one(low + more), DEFAULT)[0]) + 1e-12


@given(low=st.floats(0, 3), more=st.floats(0, 3))
def test_more_wanted_never_makes_memory_faster(low: float, more: float) -> None:
    assert 0 <= float(crowding(one(low), DEFAULT)[0]) <= float(crowding(one(low + more), DEFAULT)[0]) + 1e-12


def test_crowding_is_where_traffic_and_latency_agree() -> None:
    """Who waits asks for less: at utilisation u, u times the stretch is wanted. Beyond the peak, it takes its time."""
    used = np.linspace(0.0, 1.0, 201)
    stretch = 1.0 + DEFAULT.memory_bound * pressure(used, DEFAULT)
    assert 1.0 + DEFAULT.memory_bound * crowding(used * stretch, DEFAULT) == pytest.approx(stretch, rel=0.04)
    beyond = np.linspace(2.5, 20.0, 50)
    assert 1.0 + DEFAULT.memory_bound * crowding(beyond, DEFAULT) == pytest.approx(beyond, rel=0.01)


def test_crowding_bends_upwards_and_needs_no_latency_bound_time() -> None:
    wanted = np.linspace(0.0, 4.0, 401)
    assert (np.diff(crowding(wanted, DEFAULT), 2) > -1e-12).all()
    assert np.isfinite(crowding(wanted, Assumptions(memory_bound=0.0))).all()
    assert np.array_equal(wanted, np.linspace(0.0, 4.0, 401)), "what is given is left as it is"
