"""Whatever a scenario may say, the clock goes on: the largest figures that are let through, all at once."""

from __future__ import annotations

import math

import pytest

from domicile.policies.registry import POLICIES
from domicile.simulator.run import simulate
from domicile.simulator.scenario import Scenario
from domicile.simulator.scenario_check import check_scenario
from domicile.simulator.scenario_host import event_cpus, guests_of, host_options
from domicile.toml_file import decode_toml
from domicile.topology.detect import read_topology
from domicile.xlcfg.affinity import parse_cpus

TEXT = """
machine = "default"
duration_s = 15
[sharing]
policy = "any-node"
scan_mib_s = {most}
written_mib_s = {most}
[cold_pool]
policy = "any-node"
spare_mib = 0
[[workload]]
name = "wild"
like = "stream"
dirty_mib_s = 1e6
traffic_gbs = 1000
messages_per_s = 1e8
cache_mib = 1e6
[[domain]]
name = "a"
count = 3
workload = "wild"
memory_mib = 2000
peers = ["a1"]
equal_pages = 1.0
cold = {{ephemeral = 0.9, persistent = 0.1, put_mib_s = {most}, get_mib_s = {most}}}
balloon = {{delay_s = 0, rate_mib_s = 1e6, least_mib = 0, kept_share = 0}}
io = {{device = "0000:21:00.0", gbs = 1000, bound = 100}}
[[event]]
at_s = 3
domain = "a1"
migrate = [3]
rate_gbs = {rate}
[[event]]
at_s = 4
domain = "a2"
balloon_mib = 1
[[event]]
at_s = 9
domain = "a2"
balloon_mib = 2000
[[event]]
at_s = 5
domain = "a3"
move_memory = [2]
rate_gbs = {rate}
"""


@pytest.mark.parametrize("most", [0, 1e5])
@pytest.mark.parametrize("rate", [0.001, 1000])
def test_no_figure_stalls_the_clock(most: float, rate: float) -> None:
    scenario = decode_toml(TEXT.format(most=most, rate=rate).encode(), "wild.toml", Scenario)
    check_scenario(scenario, "wild.toml", POLICIES)
    topology = read_topology(scenario.machine)
    guests = guests_of(scenario, topology, "wild.toml", parse_cpus)
    events = event_cpus(scenario, topology, "wild.toml", parse_cpus)
    options = host_options(scenario, topology, "wild.toml")
    found = simulate(scenario, topology, guests, None, events, options=options)
    assert found.complete
    assert found.seconds == pytest.approx(15.0)
    for domain in found.domains:
        assert domain.slowdown is None or math.isfinite(domain.slowdown)
        assert math.isfinite(domain.bandwidth_gbs)
        assert math.isfinite(domain.io_gbs)
    assert all(math.isfinite(node.controller) and node.free_mib >= 0 for node in found.nodes)
