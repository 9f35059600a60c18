"""A machine from a Linux `/sys`: live, or saved in a folder or a tar (hwloc-gather-topology makes such tars).

What is read, and from which kernels, is in the modules beside this one: `sysfs_cpus`, `sysfs_nodes`, `sysfs_memory`,
`sysfs_devices`. The machine is what the kernel has online; the limits of a cgroup that the recorder ran in are no
property of the machine and left aside.
"""

from __future__ import annotations

from pathlib import Path

from domicile.topology.bitmaps import mask_of
from domicile.topology.check import checked
from domicile.topology.cores import Placed, number_cores
from domicile.topology.measured import figures_matrix
from domicile.topology.model import Node, Topology
from domicile.topology.sysfs_cpus import read_cpus
from domicile.topology.sysfs_devices import read_devices
from domicile.topology.sysfs_files import Attributes, MachineFiles, open_machine
from domicile.topology.sysfs_memory import memory_kinds, read_performance, side_cache_mib
from domicile.topology.sysfs_nodes import assign_cpus, lone_node, read_distances, read_nodes

__all__ = ["read_sysfs"]

MAX_NAME = 80
UNDER_XEN = "this is a Linux under Xen, which does not see the machine as it is: read `xl info -n` instead"
FAKED = "the kernel was told to make up nodes (numa=fake): they are not the machine's"


def read_sysfs(path: Path, source: str) -> Topology:
    """The machine whose `/sys` is in this folder or tar.

    `source` is what the user called it. Raises `BadInput` where there is no `/sys` tree, where it is damaged, and where
    it could not be a machine's; what was dropped or mended is in the topology's notes.
    """
    files = open_machine(path, source)
    cpus = read_cpus(files)
    online = mask_of(cpu.id for cpu in cpus.online)
    nodes, node_notes = read_nodes(files.sys)
    if not nodes:
        node, node_notes = lone_node(files, online)
        nodes = [node]
    owner, owner_notes = assign_cpus(nodes, online, mask_of(cpus.offline))
    ids = [node.id for node in nodes]
    with_cpus = set(owner.values())
    performance = read_performance(files.sys, ids, with_cpus)
    kinds = memory_kinds(files, ids, with_cpus, performance.bandwidth_gbs)
    distances, distance_notes = read_distances(files.sys, nodes)
    devices, device_notes = read_devices(files.sys, ids, owner)
    placed, core_notes = number_cores(
        Placed(cpu.id, cpu.socket, owner.get(cpu.id), cpu.group, cpu.core) for cpu in cpus.online
    )
    return checked(
        source=source,
        nodes=[
            Node(
                node.id,
                node.memory_mib or 0,
                node.free_mib,
                kinds[node.id],
                side_cache_mib(files.sys, node.id),
            )
            for node in nodes
        ],
        cpus=placed,
        distances=distances,
        devices=devices,
        latency_ns=figures_matrix(ids, performance.latency_ns),
        bandwidth_gbs=figures_matrix(ids, performance.bandwidth_gbs),
        offline_cpus=cpus.offline,
        name=_machine_name(files.sys),
        notes=[*_doubts(files), *cpus.notes, *node_notes, *owner_notes, *distance_notes, *device_notes, *core_notes],
    )


def _doubts(files: MachineFiles) -> list[str]:
    """What makes the whole of this `/sys` other than the machine."""
    notes = [UNDER_XEN] if files.sys.text("hypervisor/type") == "xen" else []
    if files.proc and "numa=fake=" in (files.proc.tree.read_start("cmdline") or ""):
        notes.append(FAKED)
    return notes


def _machine_name(sys: Attributes) -> str:
    """What the firmware calls the machine; empty where it does not say."""
    name = sys.text("class/dmi/id/product_name") or ""
    return "".join(letter for letter in name if letter.isprintable())[:MAX_NAME].strip()
