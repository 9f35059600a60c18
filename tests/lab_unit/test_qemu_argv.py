"""QEMU's command line and memory layout for a machine."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.lab.layout import MIB, memory_ranges
from domicile.lab.machine import Machine, load_machine, read_machine
from domicile.lab.qemu import Memory, qemu_argv

GIB = 1 << 30


def machine(devices: str = "", nodes: int = 2) -> Machine:
    text = "[[node]]\ncpus = 2\nmemory_mib = 1024\n" * nodes + devices
    return read_machine(text.encode(), "m.toml")


def test_nodes_of_2_gib_lie_where_xen_saw_them() -> None:
    ranges = load_machine("4node").memory_ranges
    assert [(r.node, r.start // GIB, r.size // GIB) for r in ranges] == [(0, 0, 2), (1, 4, 2), (2, 6, 2), (3, 8, 2)]


def test_a_node_across_the_split_has_two_ranges() -> None:
    ranges = memory_ranges([1024, 2048, 1024])
    assert [(r.node, r.start // MIB, r.size // MIB, r.backend_offset // MIB) for r in ranges] == [
        (0, 0, 1024, 0),
        (1, 1024, 1024, 0),
        (1, 4096, 1024, 1024),
        (2, 5120, 1024, 0),
    ]


def test_a_small_machine_has_all_its_memory_below_4_gib() -> None:
    assert [(r.start // MIB, r.size // MIB) for r in memory_ranges([1024, 1024])] == [(0, 1024), (1024, 1024)]


@given(st.lists(st.integers(1, 64), min_size=1, max_size=64).map(lambda steps: [128 * step for step in steps]))
def test_ranges_hold_all_memory_once(memory_mib: list[int]) -> None:
    ranges = memory_ranges(memory_mib)
    for node, mib in enumerate(memory_mib):
        mine = [r for r in ranges if r.node == node]
        assert sum(r.size for r in mine) == mib * MIB
        assert [r.backend_offset for r in mine] == [sum(r.size for r in mine[:i]) for i in range(len(mine))]
    ordered = sorted(ranges, key=lambda r: r.start)
    assert ordered == list(ranges)
    assert all(a.start + a.size <= b.start for a, b in pairwise(ordered))
    assert not any(r.start < 4 * GIB < r.start + r.size for r in ranges)


def pairs(argv: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(argv) if name == option]


def test_nodes_and_distances() -> None:
    argv = qemu_argv(load_machine("4node"), qemu="qemu", name="x")
    numa = pairs(argv, "-numa")
    assert "node,nodeid=3,cpus=6-7,memdev=mem3" in numa
    assert "dist,src=0,dst=3,val=22" in numa
    assert len([value for value in numa if value.startswith("dist,")]) == 16
    assert pairs(argv, "-smp") == ["cpus=8,sockets=4,cores=2,threads=1"]
    assert "-incoming" not in argv


def test_nodes_have_other_numbers_in_the_firmware_where_asked() -> None:
    """CPUs, distances, bridges and memory go with the node; Xen numbers nodes by their CPUs."""
    nodes = "".join(
        f"[[node]]\ncpus = 2\nmemory_mib = {1024 * (n + 1)}\nproximity_domain = {(n + 1) % 3}\n" for n in range(3)
    )
    text = f'distances = [[10, 11, 12], [21, 10, 23], [31, 32, 10]]\n{nodes}[[device]]\nkind = "network"\nnode = 1\n'
    shifted = read_machine(text.encode(), "m.toml")
    argv = qemu_argv(shifted, qemu="qemu", name="x")
    numa = pairs(argv, "-numa")
    assert numa[:3] == [
        "node,nodeid=0,cpus=4-5,memdev=mem2",
        "node,nodeid=1,cpus=0-1,memdev=mem0",
        "node,nodeid=2,cpus=2-3,memdev=mem1",
    ]
    assert "dist,src=1,dst=0,val=12" in numa
    assert any("pxb-pcie,id=pxb1," in value and "numa_node=2" in value for value in pairs(argv, "-device"))
    assert "memory-backend-ram,id=mem1,size=2048M" in pairs(argv, "-object")
    assert [(r.node, r.start // GIB) for r in shifted.memory_ranges] == [(2, 0), (2, 4), (0, 5), (1, 6)]


def test_devices_get_a_bridge_for_their_node_and_a_port_each() -> None:
    devices = '[[device]]\nkind = "network"\nnode = 1\n[[device]]\nkind = "block"\nnode = 1\n'
    values = pairs(qemu_argv(machine(devices), qemu="qemu", name="x"), "-device")
    assert "pxb-pcie,id=pxb1,bus=pcie.0,addr=0x10,numa_node=1,bus_nr=64" in values
    assert "pcie-root-port,id=port1-0,bus=pxb1,addr=0x0,chassis=2,slot=0" in values
    assert any(value.startswith("virtio-net-pci,id=dev1-0,bus=port1-0") for value in values)
    assert any(value.startswith("virtio-blk-pci,id=dev1-1,bus=port1-1") for value in values)


def test_only_a_machine_with_devices_has_an_iommu_which_comes_before_them() -> None:
    argv = qemu_argv(machine('[[device]]\nkind = "network"\nnode = 1\n'), qemu="qemu", name="x")
    assert pairs(argv, "-device")[0] == "intel-iommu"
    assert "iommu=no-sharept" in pairs(argv, "-append")[0]
    plain = qemu_argv(machine(), qemu="qemu", name="x")
    assert "iommu" not in " ".join(plain)


@pytest.mark.parametrize("nodes", [1, 2, 7, 8, 32, 64])
def test_bus_numbers_leave_room_for_every_port(nodes: int) -> None:
    count = min(nodes, 32)
    devices = "".join(f'[[device]]\nkind = "rng"\nnode = {nodes - 1 - node}\n' for node in range(count))
    values = pairs(qemu_argv(machine(devices, nodes=nodes), qemu="qemu", name="x"), "-device")
    buses = sorted(int(v.rpartition("bus_nr=")[2]) for v in values if v.startswith("pxb-pcie"))
    assert len(set(buses)) == count
    assert buses[0] > 0
    assert all(later - earlier > 1 for earlier, later in pairwise([*buses, 256]))


def test_memory_is_anonymous_written_to_files_or_taken_from_them() -> None:
    def backend(memory: Memory) -> str:
        return pairs(qemu_argv(machine(), qemu="qemu", name="x", memory=memory), "-object")[1]

    assert backend(Memory.ANONYMOUS) == "memory-backend-ram,id=mem1,size=1024M"
    assert backend(Memory.TO_BE_SAVED) == "memory-backend-file,mem-path=memory1,share=on,id=mem1,size=1024M"
    assert backend(Memory.SAVED) == "memory-backend-file,mem-path=memory1,share=off,id=mem1,size=1024M"


def test_command_lines_reach_xen_and_dom0_as_they_are() -> None:
    text = '[xen]\ncommand_line = "sched=credit dom0_nodes=0,1"\n[dom0]\nvcpus = 3\ncommand_line = "a=1,2 b"\n'
    argv = qemu_argv(machine(text), qemu="qemu", name="x", plugins=["/p.so,file=/a"])
    (xen,), (modules,) = pairs(argv, "-append"), pairs(argv, "-initrd")
    assert xen.endswith("dom0_mem=768M,max:768M dom0_max_vcpus=3 sched=credit dom0_nodes=0,1")
    # a comma that is doubled does not end the module
    assert modules.startswith("vmlinux ")
    assert modules.endswith("a=1,,2 b,initrd.img")
    assert pairs(argv, "-plugin") == ["/p.so,file=/a"]
