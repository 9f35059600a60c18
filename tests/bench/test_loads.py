"""Random loads: as much as their kind says, the same for a seed, for machines of any size."""

from __future__ import annotations

import pytest

from domicile.bench.against_baselines import MACHINES
from domicile.bench.loads import DOM0, KINDS, draw
from domicile.state.request import GroupKind
from domicile.topology.presets import load_preset, preset_names


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kind", KINDS)
def test_there_is_as_much_as_the_kind_says(machine: str, kind: str) -> None:
    topology, asked = load_preset(machine).topology, KINDS[kind]
    load = draw(topology, asked, 3)
    assert sum(guest.vcpus for guest in load.guests) == max(round(asked.vcpus * len(topology.cpus)), 1)
    usable = [node.memory_mib for node in topology.nodes if topology.cpus_by_node[node.id]]
    taken = sum(guest.memory_mib for guest in load.guests) / (sum(usable) - DOM0.memory_mib)
    # each guest is cut to whole MiB, and has a least size
    assert asked.memory - 0.001 <= taken <= asked.memory + 0.02
    assert len({guest.name for guest in load.guests}) == len(load.guests)


def test_the_same_for_a_seed_and_another_for_another() -> None:
    topology = load_preset("haswell-ex-4n").topology
    assert draw(topology, KINDS["full"], 5) == draw(topology, KINDS["full"], 5)
    assert draw(topology, KINDS["full"], 5) != draw(topology, KINDS["full"], 6)


def test_uneven_guests_can_be_wider_than_a_node() -> None:
    topology = load_preset("opteron-8n48c").topology
    widest = max(guest.vcpus for seed in range(5) for guest in draw(topology, KINDS["uneven"], seed).guests)
    assert widest == 8  # 1.25 times 6, rounded


def test_who_is_tied_to_what() -> None:
    load = draw(load_preset("opteron-8n48c").topology, KINDS["ties"], 1)
    assert load.intent.groups
    by_name = {guest.name: guest for guest in load.guests}
    addresses = {device.address for device in load.topology.devices}
    for group in load.intent.groups:
        assert group.kind is GroupKind.NEAR
        web, database = (by_name[name] for name in group.domains)
        assert web.peers == (database.name,)
        assert (web.workload.name, database.workload.name) == ("web", "database")
    with_device = [guest for guest in load.guests if guest.devices]
    assert len(with_device) == len(load.intent.groups) == len(addresses)
    assert all(guest.io and (guest.io.device,) == guest.devices for guest in with_device)
    assert addresses == {address for guest in with_device for address in guest.devices}
    assert not draw(load_preset("opteron-8n48c").topology, KINDS["full"], 1).topology.devices


def test_all_measured_presets_are_compared_on() -> None:
    made_up = {"default", "4node"}
    assert set(MACHINES) == set(preset_names()) - made_up
    assert all(load_preset(name).topology.latency_ns for name in MACHINES)
