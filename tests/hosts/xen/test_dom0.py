"""Dom0's plan and verification from what a Dom0 prints: recorded on Xen 4.17.7 in the lab, and from the fake one."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from domicile.hosts.xen.boot_log import parse_log
from domicile.hosts.xen.channel import Runtime
from domicile.hosts.xen.cpu_list import parse_list
from domicile.hosts.xen.memory_map import parse_memory_map
from domicile.hosts.xen.xl_vcpu_list import parse_vcpu_table
from domicile.local.paths import STATE_VARIABLE
from domicile.manager.dom0 import set_dom0_affinity, verify_dom0
from domicile.manager.journal import Journal
from domicile.policies.dom0.check import DifferenceKind, check_dom0
from domicile.policies.dom0.plan import Dom0Wish, plan_dom0
from domicile.state.model import Domain, DomainType, Snapshot, Vcpu
from domicile.topology.xl_info import parse_xl_info

if TYPE_CHECKING:
    from tests.hosts.xen.conftest import FakeDom0

XL_INFO = """\
host                   : (none)
nr_cpus                : 8
nr_nodes               : 4
total_memory           : 8191
cpu_topology           :
cpu:    core    socket     node
  0:       0        0        0
  1:       1        0        0
  2:       0        1        1
  3:       1        1        1
  4:       0        2        2
  5:       1        2        2
  6:       0        3        3
  7:       1        3        3
device topology        :
device           node
0000:41:00.0      1
0000:81:00.0      3
0000:40:00.0      1
0000:80:00.0      3
numa_info              :
node:    memsize    memfree    distances
   0:      2048       1780      10,16,22,22
   1:      2048       1978      16,10,22,22
   2:      2048       2025      22,22,10,16
   3:      2048       1298      22,22,16,10
xen_version            : 4.17.7
xen_scheduler          : credit2
xen_commandline        : console=com1 com1=115200 dom0_mem=1G loglvl=all guest_loglvl=all conring_size=1M 
"""  # noqa: W291 - as `xl` prints it
SRAT_LINES = """\
(XEN) SRAT: Node 0 PXM 0 [0000000000000000, 000000000009ffff]
(XEN) SRAT: Node 0 PXM 0 [0000000000100000, 000000007fffffff]
(XEN) SRAT: Node 1 PXM 1 [0000000100000000, 000000017fffffff]
(XEN) SRAT: Node 2 PXM 2 [0000000180000000, 00000001ffffffff]
(XEN) SRAT: Node 3 PXM 3 [0000000200000000, 000000027fffffff]
"""
MEMORY = """\
(XEN) 'u' pressed -> dumping numa info (now = 113834441831)
(XEN) NODE0 start->0 size->524288 free->389634
(XEN) NODE1 start->1048576 size->524288 free->506438
(XEN) NODE2 start->1572864 size->524288 free->452835
(XEN) NODE3 start->2097152 size->524288 free->332250
(XEN) Memory location of each domain:
(XEN) Domain 0 (total: 262144):
(XEN)     Node 0: 66153
(XEN)     Node 1: 16725
(XEN)     Node 2: 4768
(XEN)     Node 3: 174498
"""
VCPUS = """\
Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)
Domain-0                             0     0    4   -b-      18.0  all / all
Domain-0                             0     1    1   r--      19.6  all / all
Domain-0                             0     2    2   -b-      23.0  all / all
Domain-0                             0     3    3   -b-      11.0  all / all
Domain-0                             0     4    6   -b-      11.6  all / all
Domain-0                             0     5    5   -b-      13.0  all / all
Domain-0                             0     6    3   -b-      12.1  all / all
Domain-0                             0     7    6   -b-       9.2  all / all
"""


def recorded() -> Snapshot:
    """The lab's machine with a disk controller on nodes 1 and 3, of which node 1's is a guest's."""
    info = parse_xl_info(XL_INFO, "xl info")
    dump = parse_memory_map(MEMORY)
    assert dump is not None
    every = {cpu.id for cpu in info.topology.cpus}
    vcpus = tuple(
        Vcpu(row.vcpu, row.cpu, parse_list(row.hard, every), parse_list(row.soft, every))
        for row in parse_vcpu_table(VCPUS)
    )
    dom0 = Domain(
        0, "Domain-0", "0", vcpus, 1024, 1024, DomainType.PV,
        node_affinity=frozenset(range(4)), pages_by_node=dump.pages[0],
    )  # fmt: skip
    cards = ("0000:41:00.0", "0000:81:00.0")
    devices = tuple(
        replace(device, name="storage" if device.address in cards else "bridge") for device in info.topology.devices
    )
    topology = replace(info.topology, devices=devices)
    return Snapshot(topology, (dom0,), 0.0, commandline=info.commandline, assignable_devices=(cards[0],))


def test_a_recorded_dom0() -> None:
    host, pxm = recorded(), parse_log(SRAT_LINES)
    plan = plan_dom0(host, Dom0Wish(), pxm)
    assert plan.target.nodes == (3,)
    assert str(plan.new) == (
        "console=com1 com1=115200 loglvl=all guest_loglvl=all conring_size=1M "
        "dom0_nodes=3,relaxed dom0_max_vcpus=2 dom0_mem=1G,max:1G"
    )
    found = {one.kind: one.seen for one in check_dom0(host, pxm, plan.target).differences}
    assert found[DifferenceKind.ELSEWHERE] == (
        "258 MiB on node 0, 65 MiB on node 1, 19 MiB on node 2, 682 MiB on node 3: 33% elsewhere"
    )
    assert found[DifferenceKind.VCPUS] == "8 vCPUs"
    assert DifferenceKind.MEMORY not in found
    by_line = check_dom0(host, pxm, None)
    assert by_line.differences == ()
    assert any("nothing says on which nodes" in note for note in by_line.notes)


def test_a_dom0_is_asked_planned_and_verified(
    dom0: FakeDom0, runtime: Runtime, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its proximity domains are known from the SRAT alone, and are not its node ids."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path_factory.mktemp("state")))
    dom0.plug_in("0000:41:00.0", "0x020000")
    entries = b"".join(
        struct.pack("<BBBBIB3sI", 0, 16, domain, cpu, 1, 0, b"", 0) for cpu, domain in enumerate((5, 7, 6, 1))
    )
    (dom0.folder / "SRAT").write_bytes(struct.pack("<4sIB27sI8s", b"SRAT", 48 + len(entries), 3, b"", 1, b"") + entries)
    with dom0.open(runtime) as host:
        snapshot = host.snapshot()
        pxm = host.proximity_domains()
        plan = plan_dom0(snapshot, Dom0Wish(), pxm)
        assert plan.target.nodes == (1,)
        assert str(plan.new).startswith("placeholder loglvl=all dom0_nodes=7,relaxed dom0_max_vcpus=")
        cpus = snapshot.topology.cpus_of([1])
        with Journal.for_host(snapshot.host_id) as journal:
            set_dom0_affinity(host, journal, plan)
        assert {vcpu.soft_affinity for vcpu in host.snapshot().domains[0].vcpus} == {cpus}
        kinds = [one.kind for one in verify_dom0(host, pxm, plan.target).differences]
        assert DifferenceKind.OPTION in kinds
        assert DifferenceKind.SOFT_AFFINITY not in kinds
