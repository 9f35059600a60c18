"""`XenHost` on a real Xen: both ways of asking give what `xl` prints, and what breaks leaves nothing behind."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator

import pytest

from domicile.errors import HostFailed, Refused
from domicile.hosts.actions import CreatePaused, Destroy, Manage, SetAffinity, Unpause
from domicile.hosts.xen.channel import Runtime
from domicile.hosts.xen.host import XenHost, open_xen
from domicile.hosts.xen.memory_map import parse_memory_map
from domicile.hosts.xen.transport import SshTransport
from domicile.lab import Lab
from domicile.lab.guests.config import guest_config
from domicile.lab.guests.control import running_guest
from domicile.state.model import DomainType, MemoryMapAge

pytestmark = pytest.mark.lab

SNAPSHOT_S = 1.0
NAMES = ("host-pv", "host pvh's")


def connect(xen: Lab, runtime: Runtime | None = None) -> XenHost:
    return open_xen(f"lab:///{xen.name}", SshTransport(f"lab {xen.name}", tuple(xen.ssh_argv())), runtime)


def config(name: str, kind: str, **keys: str) -> str:
    return guest_config(name, kind, 2, 128, keys=keys)


def printed(xen: Lab, *argv: str) -> str:
    done = xen.run(list(argv))
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_a_snapshot_takes_less_than_a_second(xen: Lab) -> None:
    with connect(xen, Runtime.PYTHON) as quick:
        quick.snapshot()
        assert quick.raw_snapshot(MemoryMapAge.NONE).programs == 0, quick.snapshot().notes
        times = []
        for _ in range(7):
            begun = time.monotonic()
            quick.snapshot()
            times.append(time.monotonic() - begun)
    assert statistics.median(times) < SNAPSHOT_S, times


@pytest.fixture(scope="module", params=[Runtime.PYTHON, Runtime.SHELL])
def host(xen: Lab, request: pytest.FixtureRequest) -> Iterator[XenHost]:
    """A host with two domains created and left paused, one of them with a name that needs care."""
    with connect(xen, request.param) as opened:
        for name, kind, nodes in zip(NAMES, ("pv", "pvh"), ("4-5", "2-3"), strict=True):
            opened.perform(CreatePaused(name, config(name, kind, cpus_soft=nodes)))
        yield opened


sh_in_soak = pytest.mark.parametrize(
    "host", [Runtime.PYTHON, pytest.param(Runtime.SHELL, marks=pytest.mark.soak)], indirect=True
)
"""Without Python on the host each look is several programs, slow ones where all is emulated: CI has a sample."""


def without_motion(table: str) -> list[list[str]]:
    """Rows without the heading, and without what changes from one moment to the next: CPU, state, time."""
    rows = []
    for line in table.strip("\n").split("\n")[1:]:
        still = re.sub(r" +\d+\.\d ", " ", line)
        still = re.sub(r" +(?:\d+|-) +[-r][-b][-p](?= )", " ", still)
        rows.append(re.sub(r" [-r][-b](?=[-p][-s][-rscwS?][-d] )", " ", still).split())
    return rows


@sh_in_soak
def test_the_tables_are_those_of_xl(xen: Lab, host: XenHost) -> None:
    raw = host.raw_snapshot(MemoryMapAge.NONE)
    tables = {
        raw.domains: printed(xen, "xl", "list", "-v", "-c", "-n"),
        raw.vcpus: printed(xen, "xl", "vcpu-list"),
        raw.cpupools: printed(xen, "xl", "cpupool-list", "-c"),
    }
    for ours, theirs in tables.items():
        assert without_motion(ours) == without_motion(theirs)
    info = printed(xen, "xl", "info", "-n")
    free = re.compile(r"^(?:free_memory.*|( +\d+: +\d+ +)\d+( +[\d,]+))$", re.MULTILINE)
    assert free.sub(r"\1\2", raw.info).strip() == free.sub(r"\1\2", info).strip()


@sh_in_soak
def test_free_memory_is_fresh(xen: Lab, host: XenHost) -> None:
    before = host.snapshot()
    host.perform(CreatePaused("host-more", config("host-more", "pv", cpus_soft="0-1")))
    during = host.snapshot()
    host.perform(Destroy("host-more"))
    assert before.domain("host-more") is None
    created = during.domain("host-more")
    assert created is not None
    assert created.paused
    taken = (before.topology.node(0).free_mib or 0) - (during.topology.node(0).free_mib or 0)
    assert taken >= created.memory_mib == 128
    assert all(f"{node.id}: " in printed(xen, "xl", "info", "-n") for node in during.topology.nodes)


def test_domains(host: XenHost) -> None:
    snapshot = host.snapshot(MemoryMapAge.NOW)
    dom0, pv, pvh = (snapshot.domain(name) for name in ("Domain-0", *NAMES))
    assert dom0 is not None
    assert pv is not None
    assert pvh is not None
    assert (dom0.id, dom0.type, pv.type, pvh.type) == (0, DomainType.PV, DomainType.PV, DomainType.PVH)
    assert (pv.node_affinity, pvh.node_affinity) == (frozenset({2}), frozenset({1}))
    assert [vcpu.soft_affinity for vcpu in pv.vcpus] == [{4, 5}] * 2
    assert [vcpu.hard_affinity for vcpu in pvh.vcpus] == [frozenset(range(8))] * 2
    assert pv.memory_by_node_mib == {2: 128}
    assert pvh.memory_by_node_mib is not None
    assert max(pvh.memory_by_node_mib, key=lambda node: (pvh.memory_by_node_mib or {})[node]) == 1
    assert (pv.memory_mib, pv.weight, pv.cap_percent, pv.cpupool) == (128, 256, 0, "Pool-0")


def test_processors_that_count_no_memory_traffic(xen: Lab, host: XenHost) -> None:
    """QEMU's have no such counters: nothing is told, nothing is complained about, and Xen says so too."""
    host.perform(Manage("a test"))
    snapshot = host.snapshot()
    host.perform(Manage(""))
    assert {domain.traffic_bytes for domain in snapshot.domains} == {None}
    assert not [note for note in snapshot.notes if "traffic" in note]
    assert xen.run(["xl", "psr-cmt-attach", "0"]).returncode != 0


@sh_in_soak
def test_the_memory_map_is_that_of_the_console(xen: Lab, host: XenHost) -> None:
    snapshot = host.snapshot(MemoryMapAge.NOW)
    console = printed(xen, "xl", "dmesg")
    # earlier dumps are of other domains
    dump = parse_memory_map(console[console.rindex("(XEN) 'u' pressed") :])
    assert dump is not None
    assert {domain.id: domain.pages_by_node for domain in snapshot.domains} == dump.pages
    assert snapshot.memory_map_age_s is not None


def test_actions(xen: Lab, host: XenHost) -> None:
    name = "host-acts"
    host.perform(CreatePaused(name, config(name, "pvh")))
    with pytest.raises(Refused):
        host.perform(CreatePaused(name, config(name, "pvh")))
    host.perform(SetAffinity(name, 1, hard=frozenset({0, 1, 5}), soft=frozenset({5})))
    host.perform(SetAffinity(name, 1, soft=frozenset({0, 1})))
    host.perform(Unpause(name))
    running, listed = host.snapshot().domain(name), printed(xen, "xl", "list")
    if running is None or f"{name} " not in listed:
        running_guest(xen, name)
    assert running is not None
    assert not running.paused
    assert running.vcpus[1].hard_affinity == {0, 1, 5}
    assert running.vcpus[1].soft_affinity == {0, 1}
    assert f"{name} " in listed
    host.perform(Destroy(name))
    host.perform(Destroy(name))
    assert f"{name} " not in printed(xen, "xl", "list")


@sh_in_soak
def test_what_the_real_xl_says(host: XenHost) -> None:
    for settings, told in (
        ({"kernel": "/nowhere/vmlinuz"}, "/nowhere/vmlinuz"),
        ({"type": "no-such-type"}, "no-such-type|[Ii]nvalid"),
        ({"vif": "bridge=no-such-bridge"}, "."),
    ):
        text = config("host-fails", "pv") + "".join(f'{key} = "{value}"\n' for key, value in settings.items())
        with pytest.raises(HostFailed, match=told) as caught:
            host.perform(
                CreatePaused("host-fails", text + ('disk = ["/nowhere,raw,xvda,w"]\n' if "vif" in settings else ""))
            )
        assert "\n" not in str(caught.value)
        assert host.snapshot().domain("host-fails") is None


@sh_in_soak
def test_leaving_destroys_what_was_not_unpaused(xen: Lab, host: XenHost) -> None:
    runtime = Runtime.SHELL if "no Python" in host.capabilities().via else Runtime.PYTHON
    with connect(xen, runtime) as leaving:
        leaving.perform(CreatePaused("host-left", config("host-left", "pv")))
    assert host.snapshot().domain("host-left") is None


def test_the_agent_killed_in_the_middle_of_create(xen: Lab, host: XenHost) -> None:
    runtime = Runtime.SHELL if "no Python" in host.capabilities().via else Runtime.PYTHON
    leaving = connect(xen, runtime)
    leaving.perform(CreatePaused("host-left", config("host-left", "pv")))
    xen.run(
        "for f in /run/domicile/building/*; do grep -q host-left $f && kill -KILL $(head -n 1 $f | cut -d' ' -f1); done"
    )
    with pytest.raises(HostFailed):
        leaving.snapshot()
    leaving.close()
    with connect(xen) as after:
        assert after.snapshot().domain("host-left") is None
