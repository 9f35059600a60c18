"""Recorded VMs: read, made gapless, replayed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sim_scheduling import numa_machine

from domicile.errors import BadInput
from domicile.simulator.engine import Simulation
from domicile.simulator.guests import GuestSpec
from domicile.simulator.traces import RecordedVm, read_traces
from domicile.simulator.workloads import WORKLOADS

SHARED = Path(os.environ.get("DOMICILE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
RECORDING = SHARED / "traces" / "bitbrains-small.trace.parquet"
GUEST = GuestSpec("vm", 1, 256, replace(WORKLOADS["idle"], memory_bound=0.0), trace="x")


def test_a_recording_is_replayed_and_begins_again() -> None:
    vm = RecordedVm("x", 1, 256, np.array([2.0, 3.0, 4.0]), np.array([0.5, 0.0, 1.0]))
    dom0 = GuestSpec("Domain-0", 1, 512, WORKLOADS["idle"])
    made = Simulation(numa_machine(1, 2), [dom0, GUEST], traces={"x": vm})
    used: list[float] = []
    made.run(8.0, lambda epoch: used.append(float(epoch.ran_s[1].sum())))
    assert used == pytest.approx([0.5, 0.5, 0.0, 1.0] * 2, abs=0.02)  # in whole quanta


def test_the_fifty_recorded_vms() -> None:
    if not RECORDING.is_file():
        pytest.skip("the recording is not here")
    vms = read_traces(RECORDING)
    assert len(vms) == 50
    for vm in vms.values():
        assert (np.diff(vm.until_s) > 0).all()
        assert (vm.level >= 0).all()
        assert (vm.level <= 1).all()
    assert max(vm.until_s[-1] for vm in vms.values()) == pytest.approx(30 * 86400, rel=0.01)


def test_what_is_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.trace.parquet"
    path.write_bytes(b"no Parquet")
    with pytest.raises(BadInput, match="no Parquet with the columns"):
        read_traces(path)
