"""Predicted bandwidth-latency curves against measured ones."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.performance.assumptions import DEFAULT
from domicile.performance.loaded import CELLS, fitted, measured_curve, predicted_latency, saturated_ratio
from domicile.performance.published.loaded_latency import (
    LoadedMachine,
    curve_error,
    further_machines,
    preset_machine,
    when_fitted_on,
)

BROADWELL, CASCADE_LAKE = "broadwell-2682v4-2n", "cascadelake-8269cy-2n"


def test_the_constants_are_those_fitted_on_cascade_lake() -> None:
    machine = preset_machine(CASCADE_LAKE)
    found = fitted(machine.points, machine.idle_ns, machine.cores)
    assert DEFAULT.pressure_linear == pytest.approx(found.linear, abs=0.01)
    assert DEFAULT.pressure_bend == pytest.approx(found.bend, abs=0.01)
    assert DEFAULT.lines_per_core == pytest.approx(found.lines_per_core, rel=0.07)


@pytest.mark.parametrize(("on", "of", "mean", "worst"), [(CASCADE_LAKE, BROADWELL, 0.055, 0.17),
                                                         (BROADWELL, CASCADE_LAKE, 0.04, 0.10)])  # fmt: skip
def test_fitted_on_one_machine_it_predicts_the_other(on: str, of: str, mean: float, worst: float) -> None:
    error = curve_error(preset_machine(of), when_fitted_on(preset_machine(on)))
    assert error.mean < mean
    assert error.worst < worst


def test_fitted_on_one_machine_its_own_saturation_serves_where_cores_are_not_known() -> None:
    error = curve_error(preset_machine(BROADWELL), when_fitted_on(preset_machine(CASCADE_LAKE)), cores_known=False)
    assert error.mean < 0.06
    assert error.worst < 0.20


def test_further_machines_that_had_no_part_in_the_fit() -> None:
    """Up to 95 % of the peak all are alike; at the peak the number of cores decides."""
    xeons = [machine for machine in further_machines() if "Xeon" in machine.cpu and "MLC" in machine.source]
    assert len(xeons) >= 11
    errors = [curve_error(machine) for machine in xeons]
    assert np.mean([error.mean for error in errors]) < 0.06
    assert max(error.mean for error in errors) < 0.10
    assert np.mean([error.mean_below for error in errors]) < 0.045
    blind = [curve_error(machine, cores_known=False) for machine in xeons]
    assert np.mean([error.mean for error in blind]) < 0.10
    assert np.mean([error.mean for error in errors]) < np.mean([error.mean for error in blind])


@pytest.mark.parametrize("machine", further_machines(), ids=lambda machine: str(machine.name))
def test_no_machine_is_far_off_below_its_peak(machine: LoadedMachine) -> None:
    """Where others than Intel's tool measured, the newest memories among them, curves are flatter."""
    assert curve_error(machine, cores_known=False).mean_below < (0.07 if "MLC" in machine.source else 0.22)


@pytest.mark.parametrize("name", [BROADWELL, CASCADE_LAKE])
def test_the_presets_have_the_figures_of_the_measured_machines(name: str) -> None:
    shared = Path(os.environ.get("DOMICILE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = shared / "machines" / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path} is not there; set DOMICILE_SHARED_DATA")
    measured = json.loads(path.read_text())["loaded_latency"]
    assert [list(point) for point in preset_machine(name).points] == measured


@given(idle=st.floats(50, 400), peak=st.floats(5, 900), cores=st.none() | st.integers(1, 256))
def test_latency_starts_idle_never_falls_and_ends_as_little_has_it(idle: float, peak: float, cores: int | None) -> None:
    latency = predicted_latency(np.linspace(0, peak, 200), idle, peak, cores)
    assert latency[0] == pytest.approx(idle)
    assert (np.diff(latency) >= -1e-9).all()
    least = 1 + DEFAULT.pressure_linear + DEFAULT.pressure_bend
    assert latency[-1] == pytest.approx(idle * max(saturated_ratio(idle, peak, cores), least))


def test_a_measured_curve_goes_through_its_points_without_the_noise() -> None:
    curve = measured_curve([(0.0, 100.0), (50.0, 150.0), (75.0, 140.0), (100.0, 300.0)])
    assert len(curve) == CELLS + 1
    assert curve[[0, CELLS // 2, CELLS * 3 // 4, CELLS]] == pytest.approx([0.0, 0.45, 0.45, 2.0])


def test_no_end_of_a_curve_is_higher_than_any_measured() -> None:
    """Many cores on little memory: some have fewer lines on the way than those of Intel."""
    assert saturated_ratio(100.0, 30.0, 64) == DEFAULT.saturated_most
    assert saturated_ratio(100.0, 100.0, 20) < DEFAULT.saturated_most
