"""The all-core bandwidth matrices of the 8-node Opteron (MCTOP, EuroSys 2017), predicted from its link graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domicile.performance.curves import Floats
from domicile.performance.links import OPTERON, LinkGraph, bandwidth_matrices
from domicile.topology.model import MeasuredMatrix
from domicile.topology.presets import load_preset

__all__ = ["MatrixError", "matrix_errors", "measured_matrices"]


@dataclass(frozen=True, slots=True)
class MatrixError:
    """Errors of the 64 pairs as shares of the measured: mean, worst, and where that is (CPUs' node, memory's node)."""

    mean: float
    worst: float
    at: tuple[int, int]


def measured_matrices() -> tuple[Floats, Floats]:
    """Read and write bandwidth as measured, GB/s."""
    machine = load_preset("opteron-8n48c")
    return _complete(machine.topology.bandwidth_gbs), _complete(machine.write_bandwidth_gbs)


def _complete(matrix: MeasuredMatrix | None) -> Floats:
    return np.array(matrix, dtype=np.float64)


def matrix_errors(graph: LinkGraph = OPTERON) -> tuple[MatrixError, MatrixError]:
    """How far the predicted matrices are off: read, write."""
    errors = []
    for predicted, measured in zip(bandwidth_matrices(graph), measured_matrices(), strict=True):
        error = np.abs(predicted / measured - 1.0)
        row, column = np.unravel_index(int(error.argmax()), error.shape)
        errors.append(MatrixError(float(error.mean()), float(error.max()), (int(row), int(column))))
    return errors[0], errors[1]
