"""`virsh capabilities`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.topology.libvirt_xml import read_libvirt_capabilities
from domicile.topology.model import Cpu, Node

SMT = """
<cpus num='4'>
  <cpu id='0' socket_id='0' die_id='0' core_id='0' siblings='0,2'/>
  <cpu id='1' socket_id='0' die_id='0' core_id='1' siblings='1,3'/>
  <cpu id='2' socket_id='0' die_id='0' core_id='0' siblings='0,2'/>
  <cpu id='3' socket_id='0' die_id='0' core_id='1' siblings='1,3'/>
</cpus>"""
FIRST = f"<cell id='0'><memory unit='KiB'>2097152</memory>{{}}{SMT}</cell>"
SECOND = "<cell id='3'><memory unit='GiB'>4</memory>{}<cpus num='0'/></cell>"


def capabilities(*cells: str, beside: str = "", count: int | None = None) -> bytes:
    number = len(cells) if count is None else count
    inside = f"<topology><cells num='{number}'>{''.join(cells)}</cells>{beside}</topology>"
    return f"<capabilities><host><cpu><arch>x86_64</arch></cpu>{inside}</host></capabilities>".encode()


def distances(*pairs: tuple[int, int]) -> str:
    return "<distances>" + "".join(f"<sibling id='{node}' value='{value}'/>" for node, value in pairs) + "</distances>"


def test_nodes_cpus_distances() -> None:
    # libvirt's Xen driver gives distances to absent nodes too
    first = FIRST.format(distances((0, 10), (1, -1), (3, 21)))
    second = SECOND.format(distances((0, 31), (1, -1), (3, 10)))
    machine = read_libvirt_capabilities(capabilities(first, second), "caps")
    assert machine.nodes == (Node(0, 2048), Node(3, 4096))
    assert machine.cpus == (Cpu(0, 0, 0, 0), Cpu(1, 1, 0, 0), Cpu(2, 0, 0, 0), Cpu(3, 1, 0, 0))
    assert machine.distances == ((10, 21), (31, 10))
    assert machine.notes == ()


def test_cores_that_repeat_from_die_to_die() -> None:
    cpus = "".join(
        f"<cpu id='{cpu}' socket_id='0' die_id='{cpu // 4}' core_id='{cpu // 2 % 2}' siblings='{cpu & ~1}-{cpu | 1}'/>"
        for cpu in range(8)
    )
    machine = read_libvirt_capabilities(capabilities(f"<cell id='0'><cpus num='8'>{cpus}</cpus></cell>"), "caps")
    assert machine.cores_by_node == {0: 4}
    assert [cpu.core for cpu in machine.cpus] == [0, 0, 2, 2, 4, 4, 6, 6]
    assert "renumbered" in machine.notes[0]


def test_siblings_that_contradict_each_other() -> None:
    cpus = "<cpu id='0' core_id='0' siblings='0-1'/><cpu id='1' core_id='1' siblings='1'/>"
    machine = read_libvirt_capabilities(capabilities(f"<cell id='0'><cpus>{cpus}</cpus></cell>"), "caps")
    assert machine.cores_by_node == {0: 2}
    assert "siblings dropped" in machine.notes[0]


def test_bare_cpus_among_others_are_offline() -> None:
    cpus = "<cpu id='0' socket_id='0' core_id='0' siblings='0'/><cpu id='5'/>"
    machine = read_libvirt_capabilities(capabilities(f"<cell id='0'><cpus>{cpus}</cpus></cell>"), "caps")
    assert [cpu.id for cpu in machine.cpus] == [0]
    assert machine.offline_cpus == (5,)


def test_only_bare_cpus_are_just_not_told() -> None:
    machine = read_libvirt_capabilities(
        capabilities("<cell id='0'><cpus num='2'><cpu id='0'/><cpu id='1'/></cpus></cell>"), "caps"
    )
    assert machine.cpus == (Cpu(0, None, None, 0), Cpu(1, None, None, 0))
    assert machine.cores_by_node == {0: 2}
    assert any("memory sizes not known" in note for note in machine.notes)


def test_all_cpus_siblings_as_on_xen_on_arm() -> None:
    cpus = "".join(f"<cpu id='{cpu}' socket_id='0' core_id='0' siblings='0-15'/>" for cpu in range(16))
    machine = read_libvirt_capabilities(capabilities(f"<cell id='0'><cpus>{cpus}</cpus></cell>"), "caps")
    assert machine.cores_by_node == {0: 16}


def test_hmat_and_memory_side_cache() -> None:
    cache = "<cache level='1'><size value='16' unit='GiB'/></cache>"
    figures = """<interconnects>
      <latency initiator='0' target='0' type='access' value='90'/>
      <latency initiator='0' target='0' type='read' value='80'/>
      <latency initiator='0' target='3' type='access' value='250'/>
      <latency initiator='0' target='0' cache='1' type='read' value='5'/>
      <latency initiator='0' target='0' type='write' value='7'/>
      <bandwidth initiator='0' target='3' type='read' value='9765625' unit='KiB'/>
      <bandwidth initiator='0' target='7' type='read' value='1' unit='KiB'/>
    </interconnects>"""
    machine = read_libvirt_capabilities(capabilities(FIRST.format(""), SECOND.format(cache), beside=figures), "caps")
    assert machine.latency_ns == ((80.0, 250.0), (None, None))
    assert machine.bandwidth_gbs == ((None, 10.0), (None, None))
    assert machine.node(3).memory_side_cache_mib == 16384
    assert "no such nodes" in machine.notes[0]


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (((0, 10),), "none from node 0 to node 3"),
        (((0, 20), (3, 20)), "from itself"),
        (((0, 10), (3, 0)), "no distance"),
    ],
)
def test_bogus_distances_are_dropped(first: tuple[tuple[int, int], ...], says: str) -> None:
    data = capabilities(FIRST.format(distances(*first)), SECOND.format(distances((0, 21), (3, 10))))
    machine = read_libvirt_capabilities(data, "caps")
    assert machine.distances is None
    assert says in machine.notes[0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not well-formed XML"),
        (b"<capabilities><host>", "line 1: not well-formed"),
        (b"<domainCapabilities/>", "virsh domcapabilities.*give the output of `virsh capabilities`"),
        (b"<domain type='xen'/>", "the XML of a domain"),
        (b"<topology/>", "begins with <topology>"),
        (b"<capabilities><host/></capabilities>", "tells no NUMA topology"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><capabilities/>", "DTD or entities"),
        (b"<?xml version='1.0' encoding='klingon'?><capabilities/>", "not XML|not well-formed"),
        (capabilities(), "no NUMA nodes"),
        (capabilities(FIRST.format(""), count=2), "<cells>: says that there are 2, has 1"),
        (capabilities(FIRST.replace("num='4'", "num='5'").format("")), "<cpus>: says that there are 5"),
        (capabilities(FIRST.format(""), FIRST.format("")), "there twice"),
        (capabilities("<cell><cpus/></cell>"), "cell number 1: <cell> has no id"),
        (capabilities("<cell id='x'><cpus/></cell>"), "cell x: id='x'"),
        (capabilities("<cell id='0'><memory unit='acre'>1</memory></cell>"), "'acre' is no unit"),
        (capabilities("<cell id='0'><memory>-1</memory></cell>"), "'-1' is no amount"),
        (capabilities("<cell id='0'><cpus><cpu id='0' siblings='1-'/></cpus></cell>"), "no set of CPUs"),
        (capabilities("<cell id='0'><cpus><cpu id='0' core_id='" + "9" * 5000 + "'/></cpus></cell>"), "is no number"),
    ],
)
def test_refused(data: bytes, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        read_libvirt_capabilities(data, "caps")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_deep_nesting() -> None:
    for end in (b"", b"</a>" * 100_000 + b"</capabilities>"):
        with pytest.raises(BadInput):
            read_libvirt_capabilities(b"<capabilities>" + b"<a>" * 100_000 + end, "caps")


@settings(max_examples=200, deadline=2000)
@given(st.data())
def test_garbled_is_refused_or_consistent(data: st.DataObject) -> None:
    content = capabilities(FIRST.format(distances((0, 10), (3, 21))), SECOND.format(distances((0, 31), (3, 10))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        put = data.draw(st.binary(max_size=3) | st.sampled_from([b"9", b"'", b"<a/>", b"99999999999999999999"]))
        content = content[:at] + put + content[at + data.draw(st.sampled_from([0, 1, 1, 9])) :]
    try:
        machine = read_libvirt_capabilities(content, "caps")
    except BadInput as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert {cpu.node for cpu in machine.cpus} <= set(machine.node_ids)


@settings(max_examples=100, deadline=2000)
@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(BadInput):
        read_libvirt_capabilities(data, "caps")
