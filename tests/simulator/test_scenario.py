"""Scenario files: what comes along is right, and what is wrong gets one line with file, key and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from domicile.errors import BadInput
from domicile.policies.registry import POLICIES
from domicile.simulator.cold_pages import PoolOptions
from domicile.simulator.host_memory import HostOptions
from domicile.simulator.memory.coldpool import PoolPolicy
from domicile.simulator.page_sharing import SharingOptions
from domicile.simulator.scenario import Scenario, load_scenario, scenario_names
from domicile.simulator.scenario_check import check_scenario
from domicile.simulator.scenario_host import event_cpus, guests_of, host_options
from domicile.simulator.workloads import WORKLOADS
from domicile.toml_file import decode_toml
from domicile.topology.detect import read_topology
from domicile.xlcfg.affinity import parse_cpus

DOMAIN = '[[domain]]\nname = "a"\n'
EVENT = '[[event]]\ndomain = "a"\nat_s = 1\n'


def checked(text: str) -> Scenario:
    """What the text of a file says."""
    return check_scenario(decode_toml(text.encode(), "shop.toml", Scenario), "shop.toml", POLICIES)


def put_on_machine(scenario: Scenario, machine: str) -> None:
    """What a run of it looks up on its machine."""
    guests_of(scenario, read_topology(machine), "shop.toml", parse_cpus)
    event_cpus(scenario, read_topology(machine), "shop.toml", parse_cpus)
    host_options(scenario, read_topology(machine), "shop.toml")


@pytest.mark.parametrize("name", scenario_names())
def test_those_that_come_along_fit_their_machines(name: str) -> None:
    scenario = check_scenario(load_scenario(name), name, POLICIES)
    guests = guests_of(scenario, read_topology(scenario.machine), name, parse_cpus)
    host_options(scenario, read_topology(scenario.machine), name)
    assert guests[0].name == "Domain-0"
    assert len(guests) > 1
    assert scenario.title


def test_every_workload_says_where_it_is_from() -> None:
    for name, workload in WORKLOADS.items():
        assert workload.name == name
        assert workload.source
        assert "assumed:" in workload.source


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
        (DOMAIN + EVENT + 'demand = "busier"', "event[0].demand", "did you mean 'busy'?"),
        (DOMAIN + EVENT + 'demand = "busy"\nbusy_vcpus = -1', "event[0].busy_vcpus", "0 to 4096 can be"),
        (DOMAIN + EVENT + "balloon_mib = 5\nbusy_vcpus = 1", "event[0].busy_vcpus", "give demand too"),
        (DOMAIN + EVENT + "migrate = []", "event[0].migrate", "names no node"),
        (DOMAIN + EVENT + "migrate = [1]\nmove_memory = [1]", "event[0].migrate", "not both"),
        (DOMAIN + EVENT + "migrate = [1]\nrate_gbs = 0", "event[0].rate_gbs", "0.001 to 1000 GB/s can be"),
        (DOMAIN + EVENT + 'migrate = [1]\nrate_gbs = "1"', "event[0].rate_gbs", "a number of GB/s"),
        (DOMAIN + EVENT.replace('"a"', '"Domain-0"') + "migrate = [1]", "event[0].migrate", "Dom0 cannot be"),
        (DOMAIN + "balloon = {delay = 1}", "domain[0].balloon.delay", "did you mean 'delay_s'?"),
        (DOMAIN + "balloon = {kept_share = 1.5}", "domain[0].balloon.kept_share", "0 to 1 can be"),
        (DOMAIN + "balloon = {rate_mib_s = 0}", "domain[0].balloon.rate_mib_s", "0.01 to 1000000 MiB/s can be"),
        (DOMAIN + "balloon = {least_mib = nan}", "domain[0].balloon.least_mib", "a number of MiB"),
        (DOMAIN + "balloon = {delay_s = nan}", "domain[0].balloon.delay_s", "seconds can be"),
        ('[sharing]\npolicy = "near"\n' + DOMAIN, "sharing.policy", "there are off, same-node, any-node"),
        ('[sharing]\nmode = "near"\n' + DOMAIN, "sharing.mode", "there are off, same-node, any-node"),
        ('[sharing]\nmode = "off"\npolicy = "off"\n' + DOMAIN, "sharing.policy", "give one of them"),
        ('[tiering]\nmode = "far"\n' + DOMAIN, "tiering.mode", "there are off, other-nodes, far-memory"),
        ("[tiering]\nfar_nodes = []\n" + DOMAIN, "tiering.far_nodes", "names no node"),
        ("[tiering]\nspare_mib = -1\n" + DOMAIN, "tiering.spare_mib", "MiB can be"),
        ('[tiering]\nmode = "far-memory"\n[cold_pool]\npolicy = "far"\n' + DOMAIN, "cold_pool.policy", "give one"),
        (DOMAIN + 'sharing = "near"', "domain[0].sharing", "Invalid enum value 'near'"),
        (DOMAIN + 'tiering = "far"', "domain[0].tiering", "Invalid enum value 'far'"),
        ("[sharing]\nscan_mib_s = -1\n" + DOMAIN, "sharing.scan_mib_s", "0 to 100000 MiB/s can be"),
        ("[sharing]\nwritten_mib_s = nan\n" + DOMAIN, "sharing.written_mib_s", "MiB/s can be"),
        ('sharing = "off"\n' + DOMAIN, "sharing", "Expected `object`"),
        ('[cold_pool]\npolicy = "cxl"\n' + DOMAIN, "cold_pool.policy", "there are off, any-node, not-own, far"),
        ("[cold_pool]\nfar_nodes = []\n" + DOMAIN, "cold_pool.far_nodes", "names no node"),
        ('[cold_pool]\nspare_mib = "1"\n' + DOMAIN, "cold_pool.spare_mib", "a number of MiB"),
        (DOMAIN + "equal_pages = 30", "domain[0].equal_pages", "0 to 1 can be"),
        (DOMAIN + "cold = {ephemeral = 0.6, persistent = 0.5}", "domain[0].cold.persistent", "0 to 0.4 can be"),
        (DOMAIN + "cold = {ephemeral = nan}", "domain[0].cold.ephemeral", "0 to 1 can be"),
        (DOMAIN + "cold = {put_mib = 5}", "domain[0].cold.put_mib", "did you mean 'put_mib_s'?"),
        (DOMAIN + "cold = {get_mib_s = inf}", "domain[0].cold.get_mib_s", "0 to 100000 MiB/s can be"),
        ('xen_memory = "node0"\n' + DOMAIN, "xen_memory", "there are boot-node, local-stacks, local"),
        ('[dom0]\ndma_buffers = "near"\n' + DOMAIN, "dom0.dma_buffers", "there are dom0, low, near-device"),
        ("[dom0]\ndma_mib = 2000\n" + DOMAIN, "dom0.dma_mib", "1 to 1024 MiB can be"),
        (DOMAIN + 'io = {device = "0000:41:00.0"}', "domain[0].io", "`gbs`"),
        (DOMAIN + 'io = {device = "0000:41:00.0", gbs = "2GB/s"}', "domain[0].io.gbs", "a number of GB/s"),
        (DOMAIN + 'io = {device = "0000:41:00.0", gbs = inf}', "domain[0].io.gbs", "0 to 1000 GB/s can be"),
        (DOMAIN + 'io = {device = "0000:41:00.0", gbs = 1, bound = -1}', "domain[0].io.bound", "0 to 100 can be"),
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
        (DOMAIN + EVENT + "migrate = [4]", "event[0].migrate", "there is no 4; there are 0, 1, 2, 3"),
        ('[cold_pool]\npolicy = "far"\n' + DOMAIN, "cold_pool.far_nodes", "every node with memory has CPUs"),
        ('[cold_pool]\npolicy = "far"\nfar_nodes = [4]\n' + DOMAIN, "cold_pool.far_nodes", "there is no 4"),
        ('[tiering]\nmode = "far-memory"\n' + DOMAIN, "tiering.far_nodes", "every node with memory has CPUs"),
        (DOMAIN + 'tiering = "far-memory"', "tiering.far_nodes", "every node with memory has CPUs"),
        ("[tiering]\nfar_nodes = [9]\n" + DOMAIN + 'tiering = "far-memory"', "tiering.far_nodes", "there is no 9"),
        (DOMAIN + 'io = {device = "0:1:0.0", gbs = 1}', "domain[0].io.device", "there is no '0:1:0.0'"),
        (DOMAIN + "memory_nodes = [7]", "domain[0].memory_nodes", "there is no 7; there are 0, 1, 2, 3"),
        (DOMAIN + 'hard = "9"', "domain[0].hard", "CPU 9 is not there"),
        (DOMAIN + 'devices = ["0000:01:00.0"]', "domain[0].devices", "there is no '0000:01:00.0'"),
    ],
)
def test_what_the_machine_has_not_is_named(text: str, place: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        put_on_machine(checked(text), "4node")
    assert caught.value.place == place
    assert problem in caught.value.problem


def options(text: str) -> HostOptions:
    return host_options(checked(text + DOMAIN), read_topology("genoa-9224-nps2-cxl"), "shop.toml")


def test_two_words_for_one_thing() -> None:
    assert options('[sharing]\nmode = "same-node"\n') == options('[sharing]\npolicy = "same-node"\n')
    assert options('[tiering]\nmode = "other-nodes"\n') == options('[cold_pool]\npolicy = "not-own"\n')
    far = options('[tiering]\nmode = "far-memory"\nspare_mib = 5\n')
    assert far == options('[cold_pool]\npolicy = "far"\nspare_mib = 5\n')
    assert far.pool == PoolOptions(PoolPolicy.FAR, (4,), 5)


def test_a_domains_mode_makes_a_pool_of_a_host_without() -> None:
    scenario = checked(DOMAIN + 'tiering = "far-memory"\nsharing = "any-node"')
    found = host_options(scenario, read_topology("genoa-9224-nps2-cxl"), "shop.toml")
    assert found.pool == PoolOptions(None, (4,), 64)
    assert found.sharing == SharingOptions(None)
    off = checked(DOMAIN + 'tiering = "off"\nsharing = "off"')
    assert host_options(off, read_topology("4node"), "shop.toml") == options("")


def test_a_machine_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "box.toml").write_text("nodes = 2\ncores_per_node = 2\nmemory_mib = 4096\n")
    (tmp_path / "s.toml").write_text('machine = "box.toml"\n' + DOMAIN)
    scenario = load_scenario(str(tmp_path / "s.toml"))
    assert len(read_topology(scenario.machine).nodes) == 2
