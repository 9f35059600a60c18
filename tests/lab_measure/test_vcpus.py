"""Where vCPUs ran, out of `xl vcpu-list`."""

from __future__ import annotations

import subprocess

from hypothesis import given
from hypothesis import strategies as st

from domicile.lab.measure.vcpus import VcpuSample, parse_vcpu_list, ran_on, sampling_command, split_samples

LIST = """\
Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)
Domain-0                             0     0    4   -b-       7.8  all / all
Domain-0                             0     1    0   r--       2.1  all / all
three nice words                     3     0    6   -b-       0.2  all / 6-7
three nice words                     3     1    -   --p       0.0  all / 6-7
"""


def test_a_list() -> None:
    assert parse_vcpu_list(LIST) == (
        VcpuSample(0, 0, 4, running=False, time_s=7.8),
        VcpuSample(0, 1, 0, running=True, time_s=2.1),
        VcpuSample(3, 0, 6, running=False, time_s=0.2),
        VcpuSample(3, 1, None, running=False, time_s=0.0),
    )


def test_samples_are_told_apart() -> None:
    first, second = split_samples("--- domicile sample\n" + LIST + "--- domicile sample\n" + LIST)
    assert first == second == parse_vcpu_list(LIST)
    assert split_samples("") == []


def test_the_sampling_command_samples(tmp_path: object) -> None:
    done = subprocess.run(sampling_command(3, 0), capture_output=True, text=True, check=True)
    assert len(split_samples(done.stdout)) == 3


def test_shares_of_nodes() -> None:
    samples = [VcpuSample(1, 0, pcpu, running=True, time_s=0) for pcpu in (0, 1, 2, None, 3, 3)]
    assert ran_on(samples, {0: 0, 1: 0, 2: 1, 3: 1}) == {0: 0.4, 1: 0.6}
    assert ran_on([], {}) == {}


@given(st.text(max_size=400))
def test_anything_can_be_printed(printed: str) -> None:
    assert all(sample.vcpu >= 0 for sample in parse_vcpu_list(printed))
