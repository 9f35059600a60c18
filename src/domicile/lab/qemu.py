"""From a machine to QEMU's command line.

Sources: QEMU 7.2 `docs/pci_expander_bridge.txt`, `hw/i386/multiboot.c` (modules in `-initrd`). What works with Xen was
found by trying: qemu64 with npt, a root port with `addr=0`, the disk at an address of its own. All file names are
relative to the lab's folder, which QEMU runs in, so that no name of the user's gets into an option that has commas.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from domicile.lab.machine import DeviceKind, Machine

__all__ = ["Memory", "memory_file", "qemu_argv"]

XEN_COMMAND_LINE = (
    "console=com1 com1=115200 loglvl=all guest_loglvl=all conring_size=1M bootscrub=0 no-real-mode spec-ctrl=no"
)
"""`bootscrub=0`: scrubbing would touch (and so take on this computer) all of the machine's memory. `spec-ctrl=no`: what
protects from speculation costs at each entry into Xen, and an emulated CPU does not speculate."""
DOM0_COMMAND_LINE = "console=hvc0 panic=5 net.ifnames=0 mitigations=off init_on_alloc=0 apparmor=0 audit=0"


class Memory(Enum):
    """What the machine's memory is made of (QEMU `docs/system/vm-templating.rst`)."""

    ANONYMOUS = "its own"
    TO_BE_SAVED = "files that it writes through to"
    SAVED = "those files, with what it changes kept to itself"


QEMU_KINDS = {
    DeviceKind.NETWORK: "virtio-net-pci",
    DeviceKind.BLOCK: "virtio-blk-pci",
    DeviceKind.RNG: "virtio-rng-pci",
    DeviceKind.SERIAL: "virtio-serial-pci",
    DeviceKind.SCSI: "virtio-scsi-pci",
    DeviceKind.E1000E: "e1000e",
}


def qemu_argv(
    machine: Machine,
    *,
    qemu: str,
    name: str,
    memory: Memory = Memory.ANONYMOUS,
    plugins: Sequence[str] = (),
) -> list[str]:
    """QEMU's command line for a lab in the current folder.

    The folder has `xen`, `vmlinux`, `initrd.img` and `disk.qcow2`; `console.log` and `qmp.sock` are made there.
    With `Memory.SAVED` QEMU waits to be told where the devices' state is. `plugins` are values for `-plugin`.
    """
    argv = [qemu, "-name", name, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"]
    argv += _iommu(machine)
    argv += ["-accel", "tcg,thread=multi", "-cpu", "qemu64,+svm,+npt", "-m", f"{machine.memory_mib}M"]
    argv += ["-smp", _smp(machine)]
    argv += _numa(machine, memory)
    argv += ["-kernel", "xen", "-append", _xen_command_line(machine)]
    argv += ["-initrd", f"vmlinux {_module_text(_dom0_command_line(machine))},initrd.img"]
    argv += ["-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console"]
    argv += ["-qmp", "unix:qmp.sock,server=on,wait=off"]
    argv += ["-drive", "if=none,id=disk,file=disk.qcow2,format=qcow2,cache=unsafe,discard=unmap"]
    argv += ["-device", "virtio-blk-pci,drive=disk,bus=pcie.0,addr=4"]
    argv += ["-netdev", "user,id=net,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:0-10.0.2.15:22"]
    argv += ["-device", "virtio-net-pci,id=nic,netdev=net,bus=pcie.0,addr=5,romfile="]
    argv += ["-device", "virtio-rng-pci,bus=pcie.0,addr=6"]
    argv += _devices(machine)
    for plugin in plugins:
        argv += ["-plugin", plugin]
    if memory is Memory.SAVED:
        argv += ["-incoming", "defer"]
    return argv


def _iommu(machine: Machine) -> list[str]:
    """An IOMMU where there are devices to pass through: without one libxl cannot quarantine a device. It has to come
    before them."""
    return ["-device", "intel-iommu"] if machine.devices else []


def _smp(machine: Machine) -> str:
    """A socket for each node where they are alike, else one for each CPU."""
    per_node = {node.cpus for node in machine.nodes}
    cores = per_node.pop() if len(per_node) == 1 else 1
    return f"cpus={machine.cpus},sockets={machine.cpus // cores},cores={cores},threads=1"


def _numa(machine: Machine, memory: Memory) -> list[str]:
    argv = []
    domains = machine.proximity_domains
    for index in machine.by_proximity_domain:
        cpus, memory_mib = machine.cpus_of(index), machine.nodes[index].memory_mib
        argv += ["-object", _backend(index, memory) + f",id=mem{index},size={memory_mib}M"]
        # QEMU's node ids are what its firmware tables have as proximity domains
        argv += ["-numa", f"node,nodeid={domains[index]},cpus={cpus[0]}-{cpus[-1]},memdev=mem{index}"]
    for i, row in enumerate(machine.distances or ()):
        for j, distance in enumerate(row):
            argv += ["-numa", f"dist,src={domains[i]},dst={domains[j]},val={distance}"]
    return argv


def _backend(node: int, memory: Memory) -> str:
    if memory is Memory.ANONYMOUS:
        return "memory-backend-ram"
    share = "on" if memory is Memory.TO_BE_SAVED else "off"
    return f"memory-backend-file,mem-path={memory_file(node)},share={share}"


def memory_file(node: int) -> str:
    """The file that a node's memory is saved in, in the lab's folder."""
    return f"memory{node}"


def _xen_command_line(machine: Machine) -> str:
    dom0 = f"dom0_mem={machine.dom0.memory_mib}M,max:{machine.dom0.memory_mib}M"
    if machine.dom0.vcpus is not None:
        dom0 += f" dom0_max_vcpus={machine.dom0.vcpus}"
    if machine.devices:
        # its page tables are VT-d's, those of guests are AMD's: Xen must not share them
        dom0 += " iommu=no-sharept"
    return f"{XEN_COMMAND_LINE} {dom0} {machine.xen.command_line}".strip()


def _dom0_command_line(machine: Machine) -> str:
    return f"{DOM0_COMMAND_LINE} {machine.dom0.command_line}".strip()


def _module_text(text: str) -> str:
    """A module's command line in `-initrd`, where a comma ends the module unless it is doubled."""
    return text.replace(",", ",,")


def _devices(machine: Machine) -> list[str]:
    """A bridge with a bus number of its own on each node that has devices, and a root port for each device."""
    nodes = sorted({device.node for device in machine.devices})
    argv = []
    for place, node in enumerate(nodes):
        mine = [device for device in machine.devices if device.node == node]
        bridge, domain = f"pxb{node}", machine.proximity_domains[node]
        argv += [
            "-device",
            f"pxb-pcie,id={bridge},bus=pcie.0,addr={0x10 + place:#x},numa_node={domain},bus_nr={_bus(nodes, place)}",
        ]
        for index, device in enumerate(mine):
            port = f"port{node}-{index}"
            # without `addr=0` for the first the firmware does not find what is behind it
            argv += [
                "-device",
                f"pcie-root-port,id={port},bus={bridge},addr={index:#x},chassis={node + 1},slot={index}",
            ]
            argv += _device(device.kind, f"dev{node}-{index}", port)
    return argv


def _bus(nodes: list[int], place: int) -> int:
    """The first bus number of a node's bridge: 0x20 apart by node while they fit, else evenly spread."""
    if nodes[-1] < 7:
        return 0x20 + 0x20 * nodes[place]
    return 0x20 + (0xE0 // len(nodes)) * place


def _device(kind: DeviceKind, name: str, port: str) -> list[str]:
    argv = []
    options = ""
    if kind is DeviceKind.BLOCK:
        argv = ["-blockdev", f"driver=null-co,read-zeroes=on,size=1G,node-name={name}-disk"]
        options = f",drive={name}-disk"
    elif kind in (DeviceKind.NETWORK, DeviceKind.E1000E):
        argv = ["-netdev", f"hubport,id={name}-net,hubid={int(name.partition('dev')[2].replace('-', '')) + 1}"]
        options = f",netdev={name}-net,romfile="
    return [*argv, "-device", f"{QEMU_KINDS[kind]},id={name},bus={port}{options}"]
