"""From `sim:///NAME` to a simulated host: the one on disk, or a new one of the preset with that name."""

from __future__ import annotations

import shlex
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from domicile.errors import BadInput, HostFailed
from domicile.hosts.simulated.address import DEFAULT_SCHEDULER, Address, parse_address
from domicile.hosts.simulated.build import ReadGuest
from domicile.hosts.simulated.host import SimulatedHost
from domicile.hosts.simulated.memory import node_affinity
from domicile.hosts.simulated.placement import ChooseNodes, least_used_nodes
from domicile.hosts.simulated.state import Clock, Machine, Resident, SimulatedState
from domicile.hosts.simulated.store import Store
from domicile.local.paths import state_folder
from domicile.state.model import PAGES_PER_MIB, Cpupool, Domain, DomainType, Vcpu
from domicile.topology.model import Topology

__all__ = ["Presets", "create_simulated", "first_state", "open_simulated", "remove_simulated", "simulated_folder"]

Presets = Mapping[str, Callable[[], Topology]]
"""A preset's name to what loads it."""

XEN_SHARE = 128
"""Xen keeps 32 bytes for every page of 4 KiB (its frame table, xen/arch/x86/mm.c): one page in 128."""

DOM0_SHARE = 16
DOM0_MIB = (64, 4096)
DOM0_VCPUS = 8
"""Dom0 gets a 16th of the memory and at most 8 vCPUs, as administrators set with dom0_mem= and dom0_max_vcpus=."""


def open_simulated(
    uri: str, *, presets: Presets, read_guest: ReadGuest, choose_nodes: ChooseNodes = least_used_nodes
) -> SimulatedHost:
    """The simulated host that a URI names; a preset's name creates it at its first use.

    Raises `BadInput` for a name that is neither on disk nor a preset's, or where the host that is there is another than
    the URI says, `HostFailed` for a file that is damaged or from a newer domicile.
    """
    address = parse_address(uri)
    path = _file(address.name)
    load = presets.get(address.machine)
    if load is None and ("machine" in address.said or not path.exists()):
        known = ", ".join(sorted(presets))
        what = "no preset" if "machine" in address.said else "no simulated host and no preset"
        raise BadInput(uri, f"{what} is called {address.machine!r}; presets: {known}")

    def first() -> SimulatedState:
        if load is None:
            raise HostFailed(f"{path}: is empty; remove it with: {shlex.join(['rm', '-r', str(path.parent)])}")
        topology = load()
        pool = Cpupool("Pool-0", frozenset(cpu.id for cpu in topology.cpus), address.scheduler)
        return first_state(address.name, topology, (pool,), preset=address.machine, seed=address.seed)

    store = Store(path, first)
    try:
        _require_as_said(address, store.read())
    except BaseException:
        store.close()
        raise
    return SimulatedHost(uri, store, read_guest, choose_nodes)


def _require_as_said(address: Address, state: SimulatedState) -> None:
    """Raise `BadInput` where the host is another than its URI says."""
    machine = state.machine
    found = {
        "machine": machine.preset or address.name,
        "scheduler": machine.cpupools[0].scheduler,
        "seed": str(state.clock.seed),
    }
    said = dict(address.said) | ({"seed": str(address.seed)} if "seed" in address.said else {})
    for word, value in said.items():
        if value != found[word]:
            remove = shlex.join(["rm", "-r", str(simulated_folder(address.name))])
            raise BadInput(
                address.uri,
                f"{address.name} is there already, with {word}={found[word]}; take another name "
                f"(sim:///NAME?machine={found['machine']}&{word}={value}), or remove it with: {remove}",
            )


def create_simulated(
    name: str,
    topology: Topology,
    *,
    read_guest: ReadGuest,
    choose_nodes: ChooseNodes = least_used_nodes,
    cpupools: Sequence[Cpupool] = (),
) -> SimulatedHost:
    """A new simulated host of this machine, reachable as `sim:///NAME` from now on.

    Without cpupools all CPUs are in Pool-0 under credit2. Raises `BadInput` where the name is taken or no name.
    """
    uri = f"sim:///{name}"
    path = _file(parse_address(uri).name)
    if path.exists():
        raise BadInput(uri, "is there already; take another name")
    store = Store(path, lambda: first_state(name, topology, cpupools))
    return SimulatedHost(uri, store, read_guest, choose_nodes)


def remove_simulated(name: str) -> None:
    """Remove a simulated host from disk; one that is not there is not an error."""
    folder = simulated_folder(parse_address(f"sim:///{name}").name)
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostFailed(f"{folder}: cannot be removed ({error.strerror})") from error


def simulated_folder(name: str) -> Path:
    """The folder that a simulated host is kept in."""
    return state_folder() / "simulated" / name


def first_state(
    name: str, topology: Topology, cpupools: Sequence[Cpupool] = (), preset: str = "", seed: int = 0
) -> SimulatedState:
    """A host that has just booted: Xen and Dom0, nothing else."""
    everything = frozenset(cpu.id for cpu in topology.cpus)
    machine = Machine(
        host_id=f"sim:{name}:{uuid.uuid4()}",
        topology=topology,
        capacity_pages={
            node.id: node.memory_mib * PAGES_PER_MIB - node.memory_mib * PAGES_PER_MIB // XEN_SHARE
            for node in topology.nodes
        },
        cpupools=tuple(cpupools) or (Cpupool("Pool-0", everything, DEFAULT_SCHEDULER),),
        preset=preset,
    )
    return SimulatedState(machine, (Resident(_dom0(machine, everything)),), Clock(time.time(), seed=seed))


def _dom0(machine: Machine, everything: frozenset[int]) -> Domain:
    """Dom0 with its memory on all nodes that have CPUs, in proportion to what they have."""
    pool = machine.cpupools[0]
    vcpus = tuple(Vcpu(i, None, everything, everything) for i in range(min(len(pool.cpus), DOM0_VCPUS)))
    nodes = node_affinity(vcpus, pool.cpus, machine.topology)
    room = {node: pages // PAGES_PER_MIB for node, pages in machine.capacity_pages.items() if node in nodes}
    together = sum(room.values())
    wanted = min(max(together // DOM0_SHARE, DOM0_MIB[0]), DOM0_MIB[1], together // 2)
    mib = {node: wanted * each // together for node, each in room.items() if each}
    memory_mib = sum(mib.values())
    return Domain(
        id=0,
        name="Domain-0",
        uuid="00000000-0000-0000-0000-000000000000",
        vcpus=vcpus,
        memory_mib=memory_mib,
        max_memory_mib=memory_mib,
        type=DomainType.PV,
        node_affinity=nodes,
        pages_by_node={node: each * PAGES_PER_MIB for node, each in mib.items()},
        cpupool=pool.name,
    )


def _file(name: str) -> Path:
    return simulated_folder(name) / "host.sqlite"
