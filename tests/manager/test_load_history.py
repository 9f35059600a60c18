"""What is kept of a host's load between commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from domicile.errors import HostFailed
from domicile.manager.load_history import known_demand
from domicile.state.model import Domain, Snapshot, Vcpu
from domicile.topology.model import Cpu, Node, Topology

ALL = frozenset({0, 1})


pytestmark = pytest.mark.usefixtures("state")


def look(at: float, used_s: float, host_id: str = "one") -> Snapshot:
    topology = Topology((Node(0, 1024, 512),), tuple(Cpu(n, n, 0, 0) for n in ALL), None)
    vcpus = tuple(Vcpu(n, n, ALL, ALL, time_ns=round(used_s * 1e9) * (n == 0)) for n in range(2))
    return Snapshot(topology, (Domain(1, "web", "u", vcpus, 1, 1),), at, host_id=host_id)


def test_each_command_adds_what_it_sees() -> None:
    assert known_demand(look(1000.0, 50)) == {}
    assert known_demand(look(1060.0, 110)) == {"web": pytest.approx(1.0)}
    assert known_demand(look(1120.0, 110)) == {"web": pytest.approx(1 / 3)}


def test_hosts_do_not_mix() -> None:
    known_demand(look(1000.0, 50))
    assert known_demand(look(1060.0, 110, "two")) == {}


def test_a_file_that_makes_no_sense_is_named(state: Path) -> None:
    known_demand(look(1000.0, 50))
    (path,) = (state / "load").glob("*.sqlite")
    for each in path.parent.iterdir():
        each.unlink()
    path.write_bytes(b"something else" * 100)
    with pytest.raises(HostFailed, match=r"record of load.*remove it with: rm -f"):
        known_demand(look(1060.0, 110))
