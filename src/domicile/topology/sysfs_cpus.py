"""The CPUs of a Linux `/sys`: which are online, and which share a core and a package.

Source: Documentation/admin-guide/cputopology.rst and drivers/base/{cpu,topology}.c (Linux 2.6.16 to 6.12): files
`online`, `cpuN/online`, `cpuN/topology/{core_id,physical_package_id,die_id,thread_siblings,core_cpus}`. A CPU that is
offline has no `topology` folder.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass

from domicile.topology.bitmaps import ids_of, mask_of
from domicile.topology.check import MAX_CPU_ID
from domicile.topology.ids import format_ids
from domicile.topology.sysfs_files import Attributes, MachineFiles, first_processor

__all__ = ["FoundCpu", "FoundCpus", "read_cpus"]

CPUS = "devices/system/cpu"
CPU_FOLDER = re.compile(r"cpu(0|[1-9]\d{0,8})", re.ASCII)
COMPUTE_UNIT_FAMILIES = ("21", "22")
UNKNOWN_IDS = (-1, 0xFFFF, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class FoundCpu:
    """An online CPU. `group` is equal for SMT siblings only, None where the kernel does not tell."""

    id: int
    socket: int | None
    core: int | None
    group: Hashable


@dataclass(frozen=True, slots=True)
class FoundCpus:
    """All CPUs: the online ones, the ids of the others, and what was odd."""

    online: tuple[FoundCpu, ...]
    offline: tuple[int, ...]
    notes: tuple[str, ...]


def read_cpus(files: MachineFiles) -> FoundCpus:
    """The CPUs of this machine. `BadInput` if it has none or a file of theirs is garbled."""
    sys = files.sys
    present = _present(sys)
    if not present:
        raise sys.tree.bad(CPUS, "no CPUs in it")
    online = _online(sys, present)
    notes = []
    said = sys.cpu_list(f"{CPUS}/online")
    absent = 0 if said is None else said & ~mask_of(present)
    if absent:
        notes.append(f"CPUs {format_ids(ids_of(absent))} are said to be online but have no files: left out")
    mask = mask_of(online)
    split = _has_compute_units(files)
    return FoundCpus(
        tuple(_read_cpu(sys, cpu, mask, split=split) for cpu in online),
        tuple(cpu for cpu in present if not mask >> cpu & 1),
        tuple(notes),
    )


def _present(sys: Attributes) -> list[int]:
    ids = []
    for name in sys.tree.names(CPUS):
        match = CPU_FOLDER.fullmatch(name)
        if match and sys.tree.is_folder(f"{CPUS}/{name}"):
            if int(match[1]) > MAX_CPU_ID:
                raise sys.tree.bad(f"{CPUS}/{name}", f"no such CPU can be (0 to {MAX_CPU_ID})")
            ids.append(int(match[1]))
    return sorted(set(ids))


def _online(sys: Attributes, present: list[int]) -> list[int]:
    """By the list, else by each CPU's own file, else by who has a `topology` (where anybody has)."""
    listed = sys.cpu_list(f"{CPUS}/online")
    if listed is not None:
        return [cpu for cpu in present if listed >> cpu & 1]
    described = {cpu for cpu in present if sys.tree.is_folder(f"{CPUS}/cpu{cpu}/topology")}
    online = []
    for cpu in present:
        own = sys.integer(f"{CPUS}/cpu{cpu}/online")
        if own != 0 and (own is not None or cpu in described or not described):
            online.append(cpu)
    return online


def _has_compute_units(files: MachineFiles) -> bool:
    """Whether siblings with core ids of their own are cores: AMD's compute units (families 21 and 22), as for hwloc."""
    processor = first_processor(files.proc) if files.proc else {}
    return processor.get("vendor_id") == "AuthenticAMD" and processor.get("cpu family", "") in COMPUTE_UNIT_FAMILIES


def _read_cpu(sys: Attributes, cpu: int, online: int, *, split: bool) -> FoundCpu:
    folder = f"{CPUS}/cpu{cpu}/topology"
    socket = _known(sys.integer(f"{folder}/physical_package_id"))
    core = _known(sys.integer(f"{folder}/core_id"))
    siblings = sys.cpu_mask(f"{folder}/core_cpus")
    if siblings is None:
        siblings = sys.cpu_mask(f"{folder}/thread_siblings")
    group: Hashable = None
    if siblings is not None:
        group = (siblings & online | 1 << cpu, core if split else None)
    elif core is not None:
        group = (socket, _known(sys.integer(f"{folder}/die_id")), core)
    return FoundCpu(cpu, socket, core, group)


def _known(number: int | None) -> int | None:
    """An id, or None for what kernels write when they know none."""
    return None if number is None or number < 0 or number in UNKNOWN_IDS else number
