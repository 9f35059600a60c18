"""Affinity that follows memory, on the real Xen: vCPUs come home, are held there, and are free again afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from domicile.hosts.open import open_host
from domicile.lab import Lab
from domicile.lab.guests import Load, guest_config
from domicile.lab.guests.control import output, start_carrying
from domicile.policies.scheduling.watch import Watch, observe
from domicile.state.model import Domain, DomainType

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

ALL = frozenset(range(8))
HOME, WRONG = frozenset({4, 5}), frozenset({2, 3})


@pytest.fixture(autouse=True)
def _own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOMICILE_STATE", str(tmp_path / "state"))


@pytest.fixture
def stray(xen: Lab) -> Iterator[str]:
    """A busy guest with its memory on node 2, and its soft affinity then set to node 1."""
    config = guest_config("stray", DomainType.PVH, 2, 128, keys={"cpus_soft": "nodes:2"})
    start_carrying(xen, "stray", config, Load(2, 32))
    try:
        output(xen, ["xl", "vcpu-pin", "stray", "all", "-", "2-3"])
        yield "stray"
    finally:
        xen.run(["xl", "destroy", "stray"])


def domicile(lab: Lab, *arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "domicile", *arguments, "-c", f"lab:///{lab.name}"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy())


def succeeds(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def guest(lab: Lab, name: str) -> Domain:
    with open_host(f"lab:///{lab.name}") as host:
        found = host.snapshot().domain(name)
    assert found is not None
    return found


def wait_for(what: Callable[[], bool], limit_s: float = 180) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(1)


def held(lab: Lab, name: str) -> bool:
    return all(vcpu.hard_affinity == HOME for vcpu in guest(lab, name).vcpus)


def free(lab: Lab, name: str) -> bool:
    return all(vcpu.hard_affinity == ALL for vcpu in guest(lab, name).vcpus)


@pytest.mark.parametrize(("cpus", "used"), [("2", 1.0), ("all", 2.0)])
def test_who_waits_for_a_pcpu_is_seen(xen: Lab, stray: str, cpus: str, used: float) -> None:
    """Two busy vCPUs that share a pCPU use one, and want two; with a pCPU each, none waits."""
    output(xen, ["xl", "vcpu-pin", stray, "all", cpus, "-"])
    watch = Watch()
    with open_host(f"lab:///{xen.name}") as host:
        for _ in range(30):
            watch = observe(watch, host.snapshot())
            time.sleep(1)
    assert watch.last is not None
    domain = watch.last.domain(stray)
    assert domain is not None
    assert watch.used[domain.uuid] == pytest.approx(used, abs=0.3)
    assert watch.demand[domain.uuid] == pytest.approx(2.0, abs=0.4)


def test_a_guest_on_the_wrong_node_comes_home_and_can_be_sent_back(xen: Lab, stray: str) -> None:
    assert "soft affinity to node 2" in succeeds(domicile(xen, "balance", "--window", "4"))
    assert all(vcpu.soft_affinity == HOME for vcpu in guest(xen, stray).vcpus)
    assert free(xen, stray)
    succeeds(domicile(xen, "undo"))
    assert all(vcpu.soft_affinity == WRONG for vcpu in guest(xen, stray).vcpus)
    assert "soft affinity of stray" in succeeds(domicile(xen, "history"))


def test_what_is_held_is_free_again_whatever_ends_the_manager(xen: Lab, stray: str) -> None:
    for end in (signal.SIGTERM, signal.SIGKILL):
        manager = domicile(xen, "run", "--interval", "3")
        try:
            wait_for(lambda: held(xen, stray))
            assert all(vcpu.pcpu in HOME for vcpu in guest(xen, stray).vcpus)
            second = domicile(xen, "balance", "--window", "1")
            _, err = second.communicate(timeout=120)
            assert second.returncode == 1
            assert "managed by domicile run, pid" in err
        finally:
            manager.send_signal(end)
            manager.communicate(timeout=120)
        wait_for(lambda: free(xen, stray))


def test_a_vcpu_whose_affinity_is_set_to_what_it_is_looks_for_a_pcpu_anew(xen: Lab) -> None:
    """What `pairs` goes by: one that never sleeps stays where it is until then."""
    config = guest_config("busy", DomainType.PVH, 1, 128, keys={"cpus_soft": "nodes:2"})
    start_carrying(xen, "busy", config, Load(1, 16))

    def place() -> int | None:
        return guest(xen, "busy").vcpus[0].pcpu

    try:
        output(xen, ["xl", "vcpu-pin", "busy", "0", "4-5", "-"])
        assert len({place() for _ in range(4)}) == 1
        found = []
        for _ in range(4):
            output(xen, ["xl", "vcpu-pin", "busy", "0", "4-5", "-"])
            found.append(place())
        assert set(found) == HOME
    finally:
        xen.run(["xl", "destroy", "busy"])
