"""The `libxl` policy against libxl itself: the candidate that `xl -vvv create` prints, in many states of the host.

A state is what earlier guests left: of different types, sizes and affinities, started and stopped. Guests stay paused,
so that nothing but placement costs time. libxl prints how many nodes, how many CPUs and how much free memory (in MiB,
whatever the line says) its candidate has; which nodes they are shows in the soft affinity that it sets.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from domicile.hosts.open import open_host
from domicile.hosts.protocol import Host
from domicile.lab import Lab
from domicile.lab.guests.config import ConfigValue, guest_config
from domicile.policies.baselines.libxl import Candidate, candidate
from domicile.state.model import DomainType, Snapshot
from domicile.state.request import GuestRequest
from domicile.xlcfg.guest import libxl_need_kib, read_guest
from domicile.xlcfg.overhead import Hardware
from domicile.xlcfg.syntax import parse

pytestmark = pytest.mark.lab

PRINTED = re.compile(
    r"NUMA placement candidate with (?P<nodes>\d+) nodes?, (?P<cpus>\d+) cpus? and (?P<free>\d+) KB free selected"
)
FREE_TOLERANCE_MIB = 4
"""Xen's own allocations for the domain under construction come between our look at the host and libxl's."""


@dataclass(frozen=True)
class Printed:
    """What libxl said and did."""

    nodes: frozenset[int]
    node_count: int
    cpus: int
    free_mib: int


@pytest.fixture
def host(xen: Lab) -> Iterator[Host]:
    with open_host(f"lab:///{xen.name}") as opened:
        yield opened


@pytest.mark.parametrize(
    ("seed", "states"), [(2012, 10), pytest.param(2013, 150, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])]
)
def test_predicts_what_xl_prints(
    xen: Lab, host: Host, seed: int, states: int, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(seed)
    there: list[str] = []
    differences = []
    ran = 0
    try:
        for number in range(states):
            while there and (len(there) >= 7 or chance.random() < 0.3):
                xen.run(["xl", "destroy", there.pop(chance.randrange(len(there)))])
            name = f"state{number}"
            text = random_guest(chance, name)
            before = host.snapshot()
            request = read_guest(parse(text, name), before.topology, Hardware.of(before.virt_caps))
            expected = predicted(before, request)
            found = started(xen, name, text, host)
            if found is None:
                differences.append(f"{name}: xl did not start it")
                continue
            there.append(name)
            if expected is None or not agrees(expected, found):
                differences.append(f"{name}: predicted {expected}, libxl chose {found}\n{text}")
            ran += 1
    finally:
        for name in there:
            xen.run(["xl", "destroy", name])
    record_property("states", ran)
    record_property("agreed", ran - len(differences))
    assert not differences, "\n".join(differences)
    assert ran >= 0.9 * states


def random_guest(chance: random.Random, name: str) -> str:
    """A guest that libxl places: any type, size and number of vCPUs, some with a hard affinity given as one string."""
    kind = chance.choice(list(DomainType))
    keys: dict[str, ConfigValue] = {}
    if chance.random() < 0.3:
        keys["cpus"] = chance.choice(["0-3", "2-5", "4-7", "1,3,5,7", "all", "nodes:2-3"])
    return guest_config(
        name, kind, chance.choice([1, 1, 2, 2, 3, 4]), chance.choice([128, 192, 256, 384, 640]), keys=keys
    )


def predicted(before: Snapshot, request: GuestRequest) -> Candidate | None:
    """What the policy says that libxl will choose."""
    return candidate(before, request, libxl_need_kib(request))


def started(xen: Lab, name: str, text: str, host: Host) -> Printed | None:
    """Start it paused, libxl being told to say what it does; None if xl refuses."""
    path = f"/root/{name}.cfg"
    assert xen.run(f"cat > {path}", input=text).returncode == 0
    done = xen.run(["xl", "-vvv", "create", "-p", path])
    said = PRINTED.search(done.stdout + done.stderr)
    if done.returncode != 0 or said is None:
        return None
    after = host.snapshot()
    domain = after.domain(name)
    assert domain is not None
    soft = frozenset().union(*(vcpu.soft_affinity for vcpu in domain.vcpus))
    node_of = {cpu.id: cpu.node for cpu in after.topology.cpus}
    nodes = frozenset(node for cpu in soft if (node := node_of[cpu]) is not None)
    return Printed(nodes, int(said["nodes"]), int(said["cpus"]), int(said["free"]))


def agrees(expected: Candidate, found: Printed) -> bool:
    """Whether it is the very candidate."""
    return (
        frozenset(expected.nodes) == found.nodes
        and len(expected.nodes) == found.node_count
        and expected.nr_cpus == found.cpus
        and abs(expected.free_memkb // 1024 - found.free_mib) <= FREE_TOLERANCE_MIB
    )
