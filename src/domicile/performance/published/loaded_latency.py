"""Published bandwidth-latency curves, and how far the predicted ones are from them.

The two machines among the presets that have curves are fitted on one and predicted for the other; the curves of further
machines (`loaded_latency.toml`) had no part in the form's constants but for `lines_per_core`, the median
`saturated` and the highest, `saturated_most`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import files

import msgspec
import numpy as np

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.loaded import fitted, predicted_latency
from domicile.topology.machine_file import MachineFile
from domicile.topology.presets import load_preset

__all__ = ["CurveError", "LoadedMachine", "curve_error", "further_machines", "preset_machine", "when_fitted_on"]

BELOW = 0.95
"""Share of the peak up to which a curve is mostly the memory's own."""


class LoadedMachine(msgspec.Struct, frozen=True):
    """A machine's curve: `points` are (GB/s, ns) of `cores` cores reading their own node's memory, all together."""

    name: str
    cpu: str
    source: str
    cores: int
    idle_ns: float
    points: tuple[tuple[float, float], ...]

    @property
    def peak_gbs(self) -> float:
        """The highest bandwidth measured."""
        return max(bandwidth for bandwidth, _ in self.points)


class _File(msgspec.Struct):
    machine: list[LoadedMachine]


@dataclass(frozen=True, slots=True)
class CurveError:
    """Errors of predicted latency over a curve's points, as shares of the measured: mean and worst of all points, and
    mean of those below `BELOW` of the peak."""

    mean: float
    worst: float
    mean_below: float


def preset_machine(name: str) -> LoadedMachine:
    """The curve of a preset that has one."""
    return _of_file(load_preset(name))


def _of_file(machine: MachineFile) -> LoadedMachine:
    latency = machine.topology.latency_ns or ()
    local = [row[node] for node, row in enumerate(latency) if row[node] is not None]
    return LoadedMachine(
        name=machine.topology.name,
        cpu=machine.cpu,
        source=machine.provenance,
        cores=sum(machine.topology.cores_by_node.values()),
        idle_ns=float(np.mean(np.array(local, dtype=np.float64))),
        points=machine.loaded_latency,
    )


def further_machines() -> tuple[LoadedMachine, ...]:
    """The curves of machines beside the presets."""
    return tuple(msgspec.toml.decode((files(__package__) / "loaded_latency.toml").read_bytes(), type=_File).machine)


def curve_error(machine: LoadedMachine, assumptions: Assumptions = DEFAULT, *, cores_known: bool = True) -> CurveError:
    """How far the curve predicted from idle latency and peak bandwidth is from the measured one."""
    bandwidth, latency = np.array(machine.points, dtype=np.float64).T
    predicted = predicted_latency(
        bandwidth, machine.idle_ns, machine.peak_gbs, machine.cores if cores_known else None, assumptions
    )
    error = np.abs(predicted / latency - 1.0)
    below = error[bandwidth < BELOW * machine.peak_gbs]
    return CurveError(float(error.mean()), float(error.max()), float(below.mean()))


def when_fitted_on(machine: LoadedMachine, assumptions: Assumptions = DEFAULT) -> Assumptions:
    """The assumptions with all of the curve's constants fitted on this machine alone."""
    found = fitted(machine.points, machine.idle_ns, machine.cores)
    return replace(
        assumptions,
        pressure_linear=found.linear,
        pressure_bend=found.bend,
        saturated=found.saturated,
        lines_per_core=found.lines_per_core,
    )
