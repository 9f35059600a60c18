"""From what Dom0 sent to a `Snapshot`.

`xl`'s tables are read one after another while the host lives on, so they can disagree: a domain may be in one and not
(yet, any more) in another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import attrgetter

import msgspec

from domicile.errors import BadInput, HostFailed
from domicile.hosts.xen.cpu_list import parse_list
from domicile.hosts.xen.memory_map import MemoryMap, parse_memory_map
from domicile.hosts.xen.raw import DomainConfig, RawMove, RawSnapshot
from domicile.hosts.xen.xl_claims import parse_claims_table
from domicile.hosts.xen.xl_cpupool_list import parse_cpupool_cpus, parse_cpupool_schedulers
from domicile.hosts.xen.xl_list import NO_NAME, ListRow, parse_list_table
from domicile.hosts.xen.xl_vcpu_list import VcpuRow, parse_vcpu_table
from domicile.state.model import Cpupool, Domain, DomainType, HeldVcpu, Snapshot, Vcpu, Vnode
from domicile.state.moves import INCOMING, MoveState
from domicile.topology.model import Device, Topology
from domicile.topology.pci import device_name
from domicile.topology.xl_info import XlInfo, parse_xl_info

__all__ = ["Tables", "assemble", "disagreement", "read_tables"]

DEFAULT_WEIGHT = 256
NOT_TOLD = DomainConfig()
BY_NUMBER = attrgetter("vcpu")
TYPES = {each.value: each for each in DomainType}
PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
ENDS = (INCOMING, "--migratedaway")
RESTORING = "restoring"
"""What `dom0.mover.save` calls it when it reads a saved domain back."""
UNSET_KB = 1 << 52
"""libxl's "unset" for memory is 2^64 - 1 KiB; no domain has 4 EiB."""


@dataclass(frozen=True)
class Tables:
    """What `xl` printed, read. `topology` is that of `info`, with the devices that Dom0 sees.

    `sets` has what a list as printed stands for, once for all vCPUs that share it; `node_sets` the same of nodes.
    """

    info: XlInfo
    topology: Topology
    rows: Sequence[ListRow]
    vcpus: Mapping[int, Sequence[VcpuRow]]
    claimed_mib: Mapping[int, int]
    cpupools: tuple[Cpupool, ...]
    every: frozenset[int]
    sets: dict[str, frozenset[int]] = field(default_factory=dict)
    node_sets: dict[str, frozenset[int] | None] = field(default_factory=dict)


def assemble(raw: RawSnapshot, where: str, tables: Tables | None = None) -> Snapshot:
    """The snapshot; what is only half there is left out, with a note. `tables` are those of `raw`, if they are read.

    Raises `HostFailed` where a table is garbled.
    """
    tables = tables or read_tables(raw, where)
    topology = tables.topology
    memory_map = parse_memory_map(raw.memory_map.text) if raw.memory_map else None
    notes = [*topology.notes, *raw.notes]
    if raw.memory_map and memory_map is None:
        notes.append(
            "no complete memory map in Xen's console ring: other output pushed it out; "
            "a larger ring helps (conring_size=1M on Xen's command line)"
        )
    domains = []
    for row in _without_second_copies(tables.rows):
        problem = _unusable(row, tables.vcpus.get(row.id, ()))
        if problem:
            notes.append(f"domain {row.id} ({row.name}) left out: {problem}")
        else:
            domains.append(_domain(row, tables, raw, memory_map))
    moves = _moves(raw, tables.rows, notes)
    return Snapshot(
        topology=topology,
        domains=tuple(sorted(domains, key=attrgetter("id"))),
        taken_at=raw.taken_at,
        reservations=raw.reservations,
        reservations_generation=raw.generation,
        cpupools=tables.cpupools,
        pcpu_idle_ns={
            cpu.id: raw.measured.pcpu_idle_ns[cpu.id]
            for cpu in topology.cpus
            if cpu.id < len(raw.measured.pcpu_idle_ns)
        },
        memory_map_age_s=raw.memory_map.age_s if raw.memory_map and memory_map else None,
        scheduler=tables.info.scheduler,
        xen_version=tables.info.xen_version,
        virt_caps=tables.info.virt_caps,
        backing=raw.backing,
        commandline=tables.info.commandline,
        assignable_devices=tuple(filter(PCI_ADDRESS.fullmatch, raw.assignable_devices)),
        host_id=raw.host_id,
        notes=tuple(notes),
        manager=raw.manager,
        moves=moves,
        saved=raw.saved,
        halted=raw.halted,
        holds=tuple(_hold(line, tables.every) for line in raw.holds),
    )


def _moves(raw: RawSnapshot, rows: Sequence[ListRow], notes: list[str]) -> tuple[MoveState, ...]:
    """The moves that make sense; the others are noted."""
    found = []
    for each in raw.moves:
        try:
            found.append(_move(msgspec.convert(each, RawMove, strict=False), rows))
        except msgspec.ValidationError as error:
            notes.append(f"a move left out, in /run/domicile/moves: {error}")
    return tuple(found)


def _move(raw: RawMove, rows: Sequence[ListRow]) -> MoveState:
    """A move, with what its domain's second copy has so far: one that is received, or one that is read back."""
    order = raw.order
    second = order.domain if raw.stage == RESTORING else order.domain + INCOMING
    taken = sum(row.memory_mib for row in rows if row.name == second and row.uuid == order.uuid and not row.dying)
    end = raw.result.ended if raw.result else None
    return MoveState(order, raw.stage, raw.done_mib, taken, end, raw.result.why if raw.result else "")


def _hold(line: str, every: frozenset[int]) -> HeldVcpu:
    """A line of `RawSnapshot.holds`."""
    which, before, given = line.split()
    uuid, _, vcpu = which.rpartition(".")
    return HeldVcpu(uuid, int(vcpu), parse_list(given, every), parse_list(before, every))


@lru_cache(maxsize=4)
def _machine(
    info: str, where: str, pci_devices: tuple[str, ...], pci_classes: tuple[tuple[str, str], ...]
) -> tuple[XlInfo, Topology]:
    """`xl info -n`, read. While no memory is given or taken it is the same text: the same records, with all that was
    worked out from them. Raises `BadInput`.
    """
    found = parse_xl_info(info, f"{where}: `xl info -n`")
    devices = _devices(found.topology, pci_devices, dict(pci_classes))
    return found, replace(found.topology, source=where, devices=devices)


def _devices(topology: Topology, pci_devices: Sequence[str], pci_classes: Mapping[str, str]) -> tuple[Device, ...]:
    """Xen's table, which has only devices whose node the platform tells, and the others that Dom0 sees."""
    nodes = {device.address: device.node for device in topology.devices}
    found = sorted({*nodes, *(address for address in pci_devices if PCI_ADDRESS.fullmatch(address))})
    return tuple(
        Device(address, nodes.get(address), device_name(pci_classes.get(address), None, None)) for address in found
    )


def disagreement(tables: Tables) -> bool:
    """Whether a domain started or ended between the tables: another snapshot may be whole."""
    half = any(_unusable(row, tables.vcpus.get(row.id, ())) and not row.dying for row in tables.rows)
    return half or not set(tables.vcpus) <= {row.id for row in tables.rows}


def read_tables(raw: RawSnapshot, where: str) -> Tables:
    """All tables. Raises `HostFailed` for a garbled one."""
    try:
        info, topology = _machine(raw.info, where, raw.pci_devices, tuple(raw.pci_classes.items()))
        schedulers = parse_cpupool_schedulers(raw.schedulers) if raw.schedulers else {}
        pools = parse_cpupool_cpus(raw.cpupools, schedulers)
        vcpus: dict[int, list[VcpuRow]] = {}
        for vcpu in parse_vcpu_table(raw.vcpus):
            vcpus.setdefault(vcpu.domain, []).append(vcpu)
        rows = parse_list_table(raw.domains, pools)
        claimed = parse_claims_table(raw.claims) if raw.claims else {}
    except BadInput as error:
        raise HostFailed(str(error)) from error
    except HostFailed as error:
        raise HostFailed(f"{where}: {error}") from error
    cpupools = tuple(Cpupool(name, cpus, schedulers.get(name, info.scheduler)) for name, cpus in pools.items())
    every = frozenset(cpu.id for cpu in topology.cpus)
    return Tables(info, topology, rows, vcpus, claimed, cpupools, every)


def _without_second_copies(rows: Sequence[ListRow]) -> list[ListRow]:
    """A domain that is migrated to its own host is there twice for a while, once under a longer name."""
    named = {(row.uuid, row.name) for row in rows if not row.dying}
    return [
        row
        for row in rows
        if not any((row.uuid, row.name.removesuffix(end)) in named for end in ENDS if row.name.endswith(end))
    ]


def _unusable(row: ListRow, vcpus: Sequence[VcpuRow]) -> str:
    """Why a row is no domain yet, or no more; "" if it is one. One that is being built has no vCPUs at first."""
    if row.dying:
        return "it is being destroyed"
    if row.name == NO_NAME:
        return "it has no name"
    if not vcpus and not row.paused:
        return "its vCPUs are not listed"
    return ""


def _domain(row: ListRow, tables: Tables, raw: RawSnapshot, memory_map: MemoryMap | None) -> Domain:
    """One domain out of all tables."""
    config = raw.configs.get(row.id, NOT_TOLD)
    claimed_mib = tables.claimed_mib.get(row.id, 0)
    memory_mib = max(row.memory_mib - claimed_mib, 0)
    max_memory_mib = (config.max_memkb or 0) // 1024 if (config.max_memkb or 0) < UNSET_KB else 0
    scheduling = raw.measured.weights.get(row.id, config.sched_params)
    return Domain(
        id=row.id,
        name=row.name,
        uuid=row.uuid,
        vcpus=_vcpus(row, tables, raw),
        memory_mib=memory_mib,
        max_memory_mib=max(max_memory_mib, row.memory_mib),
        type=TYPES.get(config.type or ""),
        node_affinity=_node_affinity(row.nodes, tables),
        pages_by_node=memory_map.pages.get(row.id) if memory_map else None,
        cpupool=row.cpupool,
        weight=scheduling.weight if scheduling.weight > 0 else DEFAULT_WEIGHT,
        cap_percent=max(scheduling.cap, 0),
        devices=tuple([device.address for device in config.pcidevs]),
        backends=config.backends,
        vnodes=tuple(
            [
                Vnode(node.pnode, node.memkb // 1024, frozenset(node.vcpus), node.distances)
                for node in config.vnuma_nodes
            ]
        ),
        claimed_mib=claimed_mib,
        paused=row.paused,
        target_mib=target_kb // 1024 if (target_kb := raw.measured.target_kb.get(row.id)) is not None else None,
        started_at=raw.measured.started_at.get(row.id),
        traffic_bytes=raw.measured.traffic_bytes.get(row.id),
    )


def _vcpus(row: ListRow, tables: Tables, raw: RawSnapshot) -> tuple[Vcpu, ...]:
    """A domain's vCPUs, ascending."""
    times, sets = raw.measured.vcpu_time_ns.get(row.id, ()), tables.sets
    found = []
    for _, vcpu, cpu, running, blocked, time_s, hard, soft in sorted(tables.vcpus.get(row.id, ()), key=BY_NUMBER):
        time_ns = times[vcpu] if vcpu < len(times) else round(time_s * 1e9)
        both = sets.get(hard) or _set(hard, tables), sets.get(soft) or _set(soft, tables)
        # runnable is all that neither runs nor is blocked, of a domain that may run
        waiting = cpu is not None and not (running or blocked or row.paused or row.shut_down or row.dying)
        found.append(Vcpu(vcpu, cpu, *both, cpu is not None, running, time_ns, waiting))
    return tuple(found)


def _set(text: str, tables: Tables) -> frozenset[int]:
    """The CPUs in a list as printed."""
    found = tables.sets.get(text)
    if found is None:
        found = tables.sets[text] = parse_list(text, tables.every)
    return found


def _node_affinity(nodes: str, tables: Tables) -> frozenset[int] | None:
    """Node affinity; None where `xl` cannot tell.

    It prints only the first nr_nodes bits of the set: with gaps in the ids, a set of later nodes looks empty.
    """
    if nodes not in tables.node_sets:
        there = tables.topology.node_ids
        tables.node_sets[nodes] = parse_list(nodes, there) & set(there) or None
    return tables.node_sets[nodes]
