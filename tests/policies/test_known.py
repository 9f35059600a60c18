"""What is known of a host's domains is worked out once for one question, and anew for another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from domicile.performance.assumptions import DEFAULT
from domicile.performance.remembered import remembered_machine
from domicile.performance.tenants import Tenants
from domicile.policies.known import characters, known_tenants
from domicile.state.model import Domain, Snapshot, Vcpu
from domicile.state.request import Character, Intent
from domicile.topology.presets import load_preset


def host(weight: int = 256) -> Snapshot:
    topology = load_preset("haswell-ex-4n").topology
    everywhere = frozenset(cpu.id for cpu in topology.cpus)
    domains = tuple(
        Domain(
            number,
            f"r{number}",
            f"{number:032x}",
            # an affinity of its own, equal to that of others
            tuple(Vcpu(v, None, everywhere, frozenset(topology.cpus_by_node[number % 4])) for v in range(number)),
            1024,
            1024,
            weight=weight,
        )
        for number in range(1, 9)
    )
    return Snapshot(topology, domains, 0.0)


def known(snapshot: Snapshot, intent: Intent, load: dict[str, float]) -> Tenants:
    machine = remembered_machine(snapshot.topology, snapshot.cpupools)
    return known_tenants(machine, snapshot, intent, load, DEFAULT)


def test_another_load_intent_or_host_has_another_answer() -> None:
    here, intent = host(), Intent()
    first = known(here, intent, {"r2": 0.5})
    assert known(here, intent, {"r2": 0.5}) is first
    assert first.demand.tolist() == [1, 0.5, 3, 4, 5, 6, 7, 8]
    assert known(here, intent, {"r2": 0.25}).demand[1] == 0.25
    assert known(here, Intent(domains=(Character("r3", busy_vcpus=1.5),)), {}).demand[2] == 1.5
    assert known(host(512), intent, {}).weight is not None
    fewer = replace(here, domains=here.domains[:3])
    assert known(fewer, intent, {}).names == ("r1", "r2", "r3")


def test_a_load_that_changes_afterwards_is_another() -> None:
    here, intent, load = host(), Intent(), {"r2": 0.5}
    known(here, intent, load)
    load["r2"] = 1.5
    assert known(here, intent, load).demand[1] == 1.5


def test_vcpus_are_on_the_nodes_of_their_affinity_whichever_set_tells() -> None:
    snapshot = host()
    wanted = np.eye(4)[[number % 4 for number in range(1, 9)]]
    assert np.allclose(known(snapshot, Intent(), {}).vcpu_share, wanted)
    assert np.allclose(known(host(), Intent(), {}).vcpu_share, wanted)


def test_what_the_administrator_states_goes_before_what_was_measured() -> None:
    stated = (Character("db", memory_bound=0.7), Character("web", traffic_gbs=2.0))
    found = {each.domain: each for each in characters(stated, {"db": 5.0, "web": 9.0, "new": 0.5})}
    assert found["db"] == Character("db", memory_bound=0.7, traffic_gbs=5.0)
    assert found["web"] == Character("web", traffic_gbs=2.0)
    assert found["new"] == Character("new", traffic_gbs=0.5)
    assert characters(stated, {}) == stated
