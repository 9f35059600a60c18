"""The Opteron's bandwidth from its link graph."""

import json
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from domicile.performance.evaluate import evaluate
from domicile.performance.links import OPTERON, SYMMETRIC, LinkConstants, bandwidth_matrices
from domicile.performance.machine import Machine
from domicile.performance.machine_load import MachineLoad
from domicile.performance.published.opteron import matrix_errors, measured_matrices
from domicile.topology.presets import load_preset


def test_all_64_pairs_follow_from_the_graph_and_six_constants() -> None:
    assert len(fields(LinkConstants)) <= 6
    read, write = matrix_errors()
    assert read.mean < 0.04
    assert read.worst < 0.13
    assert write.mean < 0.03
    assert write.worst < 0.13


def test_a_graph_whose_links_are_all_alike_explains_far_less() -> None:
    read, write = matrix_errors(SYMMETRIC)
    assert read.mean > 2 * matrix_errors()[0].mean
    assert write.mean > 2 * matrix_errors()[1].mean


def test_what_is_joined_follows_from_the_latencies() -> None:
    latency = np.array(load_preset("opteron-8n48c").topology.latency_ns, dtype=np.float64)
    joined = (latency < 300 / 2.1) & ~np.eye(8, dtype=bool)
    assert {tuple(pair) for pair in np.argwhere(joined).tolist()} == set(OPTERON.kind)


def test_the_preset_has_the_measured_figures() -> None:
    shared = Path(os.environ.get("DOMICILE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = shared / "machines" / "opteron-8n48c.json"
    if not path.exists():
        pytest.skip(f"{path} is not there; set DOMICILE_SHARED_DATA")
    data = json.loads(path.read_text())
    read, write = measured_matrices()
    assert read.tolist() == data["read_bandwidth"]
    assert write.tolist() == data["write_bandwidth"]


def test_the_model_comes_to_the_same_bandwidth_as_the_graph() -> None:
    """Six vCPUs that stream on a node, from a node: what `evaluate` gives them is the matrix."""
    file = load_preset("opteron-8n48c")
    machine = Machine.of(file.topology, measured=file)
    pairs = np.argwhere(np.ones((8, 8)))
    cpu, memory = np.zeros((64, 1, 8)), np.zeros((64, 1, 8))
    cpu[np.arange(64), 0, pairs[:, 0]] = 6.0
    memory[np.arange(64), 0, pairs[:, 1]] = 1.0
    expected = bandwidth_matrices(OPTERON)
    for reads, matrix in ((1.0, expected[0]), (0.5, 2 * expected[1])):
        load = MachineLoad.of(cpu, memory, traffic_gbs=20.0, read_fraction=reads, memory_bound=0.0)
        assert evaluate(machine, load).bandwidth_gbs.reshape(8, 8) == pytest.approx(matrix, rel=1e-6)
