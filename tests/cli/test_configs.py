"""What commands that place guests are told of a host's load."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domicile.cli.configs import intent_now
from domicile.policies.placement import place
from domicile.state.model import Domain, DomainType, Snapshot, Vcpu
from domicile.state.request import Character, GuestRequest, Intent
from domicile.topology.presets import load_preset

TOPOLOGY = load_preset("ivybridge-2n").topology
EVERYWHERE = frozenset(cpu.id for cpu in TOPOLOGY.cpus)
SECOND_NS = 10**9


def host(at: float, traffic_gbs: tuple[float, float]) -> Snapshot:
    """A guest of four busy vCPUs on each node, with so much memory traffic in all."""
    domains = []
    for node, gbs in enumerate(traffic_gbs):
        cpus = TOPOLOGY.cpus_of([node])
        vcpus = tuple(
            Vcpu(vcpu, min(cpus) + vcpu, EVERYWHERE, cpus, running=True, time_ns=round(at * SECOND_NS))
            for vcpu in range(4)
        )
        name, counted = f"on{node}", round(gbs * at * SECOND_NS)
        domains.append(Domain(node + 1, name, f"uuid-{name}", vcpus, 4096, 4096, traffic_bytes=counted))
    nodes = tuple(replace(node, free_mib=32768) for node in TOPOLOGY.nodes)
    return Snapshot(replace(TOPOLOGY, nodes=nodes), tuple(domains), at)


@pytest.mark.parametrize(("traffic_gbs", "home"), [((36.0, 0.4), 1), ((0.4, 36.0), 0)])
def test_a_newcomer_is_kept_from_who_streams(traffic_gbs: tuple[float, float], home: int) -> None:
    """As busy as the other, by its CPU time: only what the host counts tells them apart."""
    earlier, now = host(10.0, traffic_gbs), host(15.0, traffic_gbs)
    intent = intent_now(Intent(), now, earlier)
    assert {each.domain: each.traffic_gbs for each in intent.domains} == pytest.approx(
        {"on0": traffic_gbs[0] / 4, "on1": traffic_gbs[1] / 4}
    )
    guest = GuestRequest("new", DomainType.PVH, 2, 2, 1024, 1024, 4)
    load = {"on0": 4.0, "on1": 4.0}
    (placement,) = place(now, [guest], intent, load=load).placements
    assert placement.nodes == (home,)


def test_without_a_window_nothing_is_known() -> None:
    intent = Intent(domains=(Character("db", memory_bound=0.7),))
    assert intent_now(intent, host(15.0, (36.0, 0.4)), None) is intent
