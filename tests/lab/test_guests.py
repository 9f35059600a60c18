"""The tiny guests on the real Xen: each type boots, says what it sees, and does as it is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from domicile.errors import BadInput
from domicile.hosts.xen.xl_vcpu_list import parse_vcpu_table
from domicile.lab import Lab
from domicile.lab.guests import IDLE, LEAST_MEMORY_MIB, Load, guest_config
from domicile.lab.guests.config import ConfigValue
from domicile.lab.guests.control import TinyGuest, output, start_guest
from domicile.state.model import DomainType

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


@pytest.fixture(name="lab")
def shared_lab(xen: Lab) -> Lab:
    """Four nodes of two CPUs; the guests are gone after each test."""
    return xen


@pytest.fixture(name="start")
def guest_starter(lab: Lab) -> Iterator[Any]:
    """Starts a tiny guest and waits until it is ready; all are destroyed at the end of the test."""
    started: list[str] = []

    def start(
        name: str, kind: DomainType, vcpus: int, memory_mib: int, load: Load = IDLE, **keys: ConfigValue
    ) -> tuple[TinyGuest, str]:
        started.append(name)
        guest = start_guest(lab, name, guest_config(name, kind, vcpus, memory_mib, load=load, keys=keys))
        return guest, guest.wait_until_ready()

    yield start
    for name in started:
        lab.run(["xl", "destroy", name])


def cpu_s(lab: Lab, guest: TinyGuest) -> dict[int, float]:
    """CPU seconds used so far by each vCPU."""
    listed = parse_vcpu_table(output(lab, ["xl", "vcpu-list", guest.name]))
    return {row.vcpu: row.time_s for row in listed}


@pytest.mark.parametrize("kind", [pytest.param(DomainType.PV, marks=pytest.mark.soak), DomainType.PVH])
def test_each_type_says_what_it_sees(start: Any, kind: DomainType) -> None:
    guest, report = start(f"tiny-{kind}", kind, 2, LEAST_MEMORY_MIB[kind])
    kernel, *nodes = report.splitlines()
    assert ", 2 vCPUs, " in kernel
    assert len(nodes) == 1
    assert nodes[0].startswith("node 0: cpus 0-1, ")
    console = guest.console()
    assert "domicile-guest: ready" in console
    assert f"domicile-guest: {nodes[0]}" in console


@pytest.mark.soak
def test_an_hvm_guest_with_virtual_nodes_says_so(start: Any) -> None:
    """It unpacks its kernel under emulation, which takes two minutes; `test_vnuma` has one that does it always."""
    vnuma = [
        ["pnode=1", "size=128", "vcpus=0-1", "vdistances=10,20"],
        ["pnode=2", "size=128", "vcpus=2-3", "vdistances=20,10"],
    ]
    _, report = start("wide", DomainType.HVM, 4, 256, maxvcpus=4, maxmem=256, vnuma=vnuma)
    kernel, first, second = report.splitlines()
    assert ", 4 vCPUs, " in kernel
    assert first.startswith("node 0: cpus 0-1, ")
    assert first.endswith("distances 10 20")
    assert second.startswith("node 1: cpus 2-3, ")
    assert second.endswith("distances 20 10")


@pytest.mark.soak
def test_busy_vcpus_use_the_cpu_and_idle_ones_do_not(lab: Lab, start: Any) -> None:
    guest, _ = start("busy", DomainType.PVH, 2, 128, Load(1, 32, pattern=True))
    before = cpu_s(lab, guest)
    time.sleep(10)
    used = {vcpu: now - before[vcpu] for vcpu, now in cpu_s(lab, guest).items()}
    assert used[0] > 5
    assert used[1] < used[0] / 4
    assert guest.sweeps() > 0

    guest.carry(IDLE)
    before = cpu_s(lab, guest)
    time.sleep(10)
    assert all(now - before[vcpu] < 2 for vcpu, now in cpu_s(lab, guest).items())
    assert guest.sweeps() == 0

    guest.carry(Load(2, 16))
    assert guest.published("state") == Load(2, 16).text
    with pytest.raises(BadInput, match="only 2 vCPUs here, 3 asked for"):
        guest.carry(Load(3))
    with pytest.raises(BadInput, match=r"only \d+ MiB free here, 4096 asked for"):
        guest.carry(Load(1, 4096))


@pytest.mark.soak
def test_shutting_down_is_obeyed(lab: Lab, start: Any) -> None:
    guest, _ = start("brief", DomainType.PV, 1, LEAST_MEMORY_MIB[DomainType.PV])
    output(lab, ["xl", "shutdown", "-w", guest.name], timeout_s=120)
    assert lab.run(["xl", "domid", guest.name]).returncode != 0
