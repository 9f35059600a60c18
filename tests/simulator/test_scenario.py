"""Scenario files: what comes along is right, and what is wrong gets one line with file, key and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from domicile.errors import BadInput
from domicile.policies.registry import POLICIES
from domicile.simulator.scenario import Scenario, load_scenario, scenario_names
from domicile.simulator.scenario_check import check_scenario
from domicile.simulator.scenario_host import guests_of
from domicile.simulator.workloads import WORKLOADS
from domicile.toml_file import decode_toml
from domicile.topology.detect import read_topology
from domicile.xlcfg.affinity import parse_cpus

DOMAIN = '[[domain]]\nname = "a"\n'


def checked(text: str) -> Scenario:
    """What the text of a file says."""
    return check_scenario(decode_toml(text.encode(), "shop.toml", Scenario), "shop.toml", POLICIES)


@pytest.mark.parametrize("name", scenario_names())
def test_those_that_come_along_fit_their_machines(name: str) -> None:
    scenario = check_scenario(load_scenario(name), name, POLICIES)
    guests = guests_of(scenario, read_topology(scenario.machine), name, parse_cpus)
    assert guests[0].name == "Domain-0"
    assert len(guests) > 1
    assert scenario.title


def test_every_workload_says_where_it_is_from() -> None:
    for name, workload in WORKLOADS.items():
        assert workload.name == name
        assert workload.source


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        (DOMAIN + "memory_gib = 4", "domain[0].memory_gib", "did you mean 'memory_mib'?"),
        ("durations = 4\n" + DOMAIN, "durations", "did you mean 'duration_s'?"),
        (DOMAIN + 'memory_mib = "4GiB"', "domain[0].memory_mib", "a number of MiB"),
        ('duration_s = "1 minute"\n' + DOMAIN, "duration_s", "a number of seconds"),
        ('policy = "domicil"\n' + DOMAIN, "policy", "did you mean 'domicile'?"),
        ('scheduler = "cfs"\n' + DOMAIN, "scheduler", "there are credit2, credit, numa"),
        ("duration_s = 0\n" + DOMAIN, "duration_s", "0.01 to"),
        ("duration_s = nan\n" + DOMAIN, "duration_s", "seconds can be"),
        ("epoch_s = inf\n" + DOMAIN, "epoch_s", "seconds can be"),
        ("", "domain", "no [[domain]] is there"),
        (DOMAIN + 'workload = "specjb"', "domain[0].workload", "did you mean 'specjbb'?"),
        (DOMAIN + "cap = 300", "domain[0].cap", "0 to 200 can be"),
        (DOMAIN + "vcpus = 0", "domain[0].vcpus", "1 to 512 can be"),
        (DOMAIN + "count = 100000", "domain[0].count", "1 to 4096 can be"),
        (DOMAIN + DOMAIN, "domain[1].name", "is there twice"),
        (DOMAIN + 'peers = ["b"]', "domain[0].peers", "there is no 'b'"),
        (DOMAIN + '[[workload]]\nname = "w"\nlevel = 1e300', "workload[0].level", "0 to 1 can be"),
        (DOMAIN + '[[workload]]\nname = "w"\non_s = 0', "workload[0].on_s", "0.02 to"),
        (DOMAIN + '[[event]]\nat_s = 1\ndomain = "a"', "event[0]", "nothing is to be done"),
        (DOMAIN + '[[event]]\nat_s = 1e9\ndomain = "a"\nballoon_mib = 5', "event[0].at_s", "0 to 60 seconds can be"),
        ("[dom0]\nvcpu = 3\n" + DOMAIN, "dom0.vcpu", "did you mean 'vcpus'?"),
        ("a = ", "", "not TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, place: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        checked(text)
    assert caught.value.place == place
    assert problem in caught.value.problem
    assert str(caught.value).startswith("shop.toml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        (DOMAIN + "memory_mib = 100000", "domain[0].memory_mib", "4node has 8192 MiB altogether"),
        (DOMAIN + "memory_nodes = [7]", "domain[0].memory_nodes", "there is no 7; there are 0, 1, 2, 3"),
        (DOMAIN + 'hard = "9"', "domain[0].hard", "CPU 9 is not there"),
        (DOMAIN + 'devices = ["0000:01:00.0"]', "domain[0].devices", "there is no '0000:01:00.0'"),
    ],
)
def test_what_the_machine_has_not_is_named(text: str, place: str, problem: str) -> None:
    scenario = checked(text)
    with pytest.raises(BadInput) as caught:
        guests_of(scenario, read_topology("4node"), "shop.toml", parse_cpus)
    assert caught.value.place == place
    assert problem in caught.value.problem


def test_a_machine_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "box.toml").write_text("nodes = 2\ncores_per_node = 2\nmemory_mib = 4096\n")
    (tmp_path / "s.toml").write_text('machine = "box.toml"\n' + DOMAIN)
    scenario = load_scenario(str(tmp_path / "s.toml"))
    assert len(read_topology(scenario.machine).nodes) == 2
