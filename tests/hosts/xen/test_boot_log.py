"""Proximity domains: from what Xen printed, from the SRAT, and asked of a Dom0."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import HostFailed
from domicile.hosts.xen.boot_log import BootLog, parse_log, parse_srat, proximity_domains
from domicile.hosts.xen.channel import Runtime

if TYPE_CHECKING:
    from tests.hosts.xen.conftest import FakeDom0

XEN_4_17 = """\
(XEN) SRAT: Node 0 PXM 0 [0000000000000000, 000000000009ffff]
(XEN) SRAT: Node 0 PXM 0 [0000000000100000, 000000007fffffff]
(XEN) SRAT: Node 1 PXM 1 [0000000100000000, 000000017fffffff]
(XEN) SRAT: Node 2 PXM 2 [0000000180000000, 00000001ffffffff]
(XEN) SRAT: Node 3 PXM 3 [0000000200000000, 000000027fffffff]
(XEN) NUMA: Using 19 for the hash shift.
"""
"""Xen 4.17.7 in the lab."""

XEN_4_19 = """\
(XEN) [000000302c9cb9d0] SRAT: PXM 5 -> APIC 0000001f -> Node 0
(XEN) [000000302c9cb9d1] NUMA: Node 1 PXM 7 [0000000100000000, 000000017fffffff] (hotplug)
(XEN) [000000302c9cb9d2] SRAT: PXM 9 [0000000100000000, 000000017fffffff] overlaps with itself
"""
"""Made from the formats in xen/common/numa.c and xen/arch/x86/srat.c."""


def processor(domain: int, *, enabled: bool = True) -> bytes:
    rest = domain.to_bytes(4, "little")
    return struct.pack("<BBBBIB3sI", 0, 16, rest[0], 1, int(enabled), 0, rest[1:], 0)


def x2apic(domain: int, *, enabled: bool = True) -> bytes:
    return struct.pack("<BBHIIIII", 2, 24, 0, domain, 7, int(enabled), 0, 0)


def memory(domain: int, *, enabled: bool = True) -> bytes:
    return struct.pack("<BBIHQQIIQ", 1, 40, domain, 0, 1 << 32, 1 << 31, 0, int(enabled), 0)


def srat(*entries: bytes, revision: int = 3) -> bytes:
    body = b"".join(entries)
    return struct.pack("<4sIB27sI8s", b"SRAT", 48 + len(body), revision, b"", 1, b"") + body


def test_what_xen_prints() -> None:
    assert parse_log(XEN_4_17) == {0: 0, 1: 1, 2: 2, 3: 3}
    assert parse_log(XEN_4_19) == {0: 5, 1: 7}
    assert parse_log(XEN_4_17 + "(XEN) SRAT: Node 1 PXM 6 [0, 1]\n") == {0: 0, 2: 2, 3: 3}
    assert parse_log("(XEN) Xen version 4.17.7\n") == {}


def test_nodes_are_numbered_as_xen_meets_them() -> None:
    """x2APIC entries first, then local APICs, then memory; disabled ones do not count."""
    table = srat(memory(4), processor(9), processor(2), x2apic(6), x2apic(1, enabled=False), memory(8, enabled=False))
    assert parse_srat(table) == {0: 6, 1: 9, 2: 2, 3: 4}
    assert parse_srat(srat(processor(0x10203), memory(0x10203), revision=1)) == {0: 3}
    assert parse_srat(srat(processor(0x10203), memory(0x10203))) == {0: 0x10203}


@given(st.lists(st.integers(0, 1 << 31), min_size=1, max_size=12))
def test_every_domain_is_one_node(domains: list[int]) -> None:
    found = parse_srat(srat(*map(processor, domains), *map(memory, reversed(domains))))
    assert list(found.values()) == list(dict.fromkeys(domains))
    assert list(found) == list(range(len(found)))


@pytest.mark.parametrize("table", [b"SLIT" + bytes(60), srat(processor(1))[:-1], srat(b"\0\x02"), srat(b"\1\0"), b"SR"])
def test_a_damaged_table_is_told(table: bytes) -> None:
    with pytest.raises(HostFailed, match="here: its SRAT makes no sense"):
        proximity_domains(BootLog(srat=table), "here")


def test_what_xen_said_comes_first() -> None:
    log = BootLog("(XEN) SRAT: Node 1 PXM 7 [0, 1]", srat(processor(0), processor(3)))
    assert proximity_domains(log, "here") == {0: 0, 1: 7}


def test_a_dom0_is_asked(dom0: FakeDom0, runtime: Runtime) -> None:
    with dom0.open(runtime) as host:
        assert host.proximity_domains() == {}
        (dom0.folder / "SRAT").write_bytes(srat(processor(3), processor(1), memory(2)))
        assert host.proximity_domains() == {0: 3, 1: 1, 2: 2}


def test_what_was_seen_once_is_kept_when_the_ring_forgets(dom0: FakeDom0, runtime: Runtime) -> None:
    state = dom0.read()
    dom0.write({**state, "console": state["console"] + XEN_4_17.split("\n")})
    with dom0.open(runtime) as host:
        assert host.proximity_domains() == {0: 0, 1: 1, 2: 2, 3: 3}
    dom0.write({**state, "console": []})
    with dom0.open(runtime) as host:
        assert host.proximity_domains() == {0: 0, 1: 1, 2: 2, 3: 3}


def test_the_snapshot_tells_command_line_and_kinds_of_devices(dom0: FakeDom0, runtime: Runtime) -> None:
    dom0.plug_in("0000:41:00.0", "0x020000")
    dom0.plug_in("0000:42:00.0", "0x010802", assignable=True)
    dom0.plug_in("0000:43:00.0", "0x0c0400")
    with dom0.open(runtime) as host:
        snapshot = host.snapshot()
        calls = [call[0] for call in dom0.calls()]
    assert snapshot.commandline == "placeholder dom0_mem=1G,max:1G loglvl=all"
    assert [(device.address, device.node, device.name) for device in snapshot.topology.devices] == [
        ("0000:41:00.0", 1, "network"),
        ("0000:42:00.0", None, "storage"),
        ("0000:43:00.0", None, "fibre channel"),
    ]
    assert snapshot.assignable_devices == ("0000:42:00.0",)
    assert "dmesg" not in calls
