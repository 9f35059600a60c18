"""A scenario on its machine: the guests, and the pCPUs that its events name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import msgspec

from domicile.errors import BadInput
from domicile.simulator.cold_pages import POLICY_OF, PoolOptions
from domicile.simulator.guests import ColdUse, DeviceUse, GuestSpec
from domicile.simulator.host_memory import DmaOptions, HostOptions
from domicile.simulator.memory.balloon import Manners
from domicile.simulator.memory.boot import DmaPolicy, XenPolicy
from domicile.simulator.memory.coldpool import PoolPolicy
from domicile.simulator.memory.sharing import SharingPolicy
from domicile.simulator.page_sharing import SharingOptions
from domicile.simulator.scenario import OFF, Scenario, ScenarioBalloon, ScenarioPool, ScenarioTiering
from domicile.simulator.scenario_check import Checker
from domicile.simulator.workloads import WORKLOADS, Demand, Workload
from domicile.state.model import PAGES_PER_MIB, DomainType
from domicile.state.request import SharingMode, TieringMode
from domicile.topology.detect import read_topology
from domicile.topology.model import Topology

__all__ = [
    "EventCpus",
    "check_traces",
    "event_cpus",
    "guests_of",
    "host_options",
    "machine_of",
    "workloads_of",
]

DOM0_VCPUS = 16

ParseCpus = Callable[[str, Topology, str, str], frozenset[int]]
"""A CPU list (`domicile.xlcfg.affinity.parse_cpus`): the text, the machine, the file's name and the key."""

EventCpus = tuple[frozenset[int] | None, frozenset[int] | None]
"""Hard and soft affinity that an event sets, None for what it leaves."""


def machine_of(scenario: Scenario, source: str) -> Topology:
    """The scenario's machine. Raises `BadInput`, naming the scenario and its key, where it cannot be read."""
    try:
        return read_topology(scenario.machine)
    except BadInput as error:
        raise BadInput(source, str(error), "machine") from error


def guests_of(scenario: Scenario, topology: Topology, source: str, parse_cpus: ParseCpus) -> list[GuestSpec]:
    """The scenario's domains on this machine, Dom0 first. Raises `BadInput` where the machine has no such CPU, node or
    device, or a domain is bigger than it."""
    workloads = workloads_of(scenario)
    dom0 = scenario.dom0
    guests = [
        GuestSpec(
            "Domain-0",
            dom0.vcpus or min(len(topology.cpus), DOM0_VCPUS),
            dom0.memory_mib,
            workloads[dom0.workload],
            type=DomainType.PV,
            weight=dom0.weight,
            source=source,
        )
    ]
    check = Checker(source)
    check.fits("dom0.memory_mib", dom0.memory_mib, topology)
    for index, asked in enumerate(scenario.domains):
        place = f"domain[{index}]"
        check.fits(f"{place}.memory_mib", asked.memory_mib, topology)
        hard = None if asked.hard is None else _cpus(parse_cpus, asked.hard, topology, source, f"{place}.hard")
        soft = None if asked.soft is None else _cpus(parse_cpus, asked.soft, topology, source, f"{place}.soft")
        for node in asked.memory_nodes or ():
            check.one_of(f"{place}.memory_nodes", node, topology.node_ids)
        for device in asked.devices:
            check.one_of(f"{place}.devices", device, [known.address for known in topology.devices])
        if asked.io is not None:
            _check_io(check, asked.io.device, topology, f"{place}.io.device")
        for number, name in enumerate(asked.names):
            guests.append(
                GuestSpec(
                    name,
                    asked.vcpus,
                    asked.memory_mib,
                    workloads[asked.workload],
                    type=asked.type,
                    start_s=asked.start_s + number * asked.every_s,
                    end_s=math.inf if asked.end_s is None else asked.end_s,
                    weight=asked.weight,
                    cap_percent=asked.cap,
                    hard=hard,
                    soft=soft,
                    memory_nodes=asked.memory_nodes,
                    sees_nodes=asked.sees_nodes,
                    devices=asked.devices,
                    peers=asked.peers,
                    trace=asked.trace,
                    balloon=_manners(asked.balloon),
                    equal_pages=asked.equal_pages,
                    io=None if asked.io is None else DeviceUse(**msgspec.structs.asdict(asked.io)),
                    cold=None if asked.cold is None else ColdUse(**msgspec.structs.asdict(asked.cold)),
                    sharing=asked.sharing,
                    tiering=asked.tiering,
                    source=source,
                )
            )
    return guests


def host_options(scenario: Scenario, topology: Topology, source: str) -> HostOptions:
    """What the scenario's host does with memory. Raises `BadInput` where the machine has no such node, or no far memory
    for a pool that is to be there."""
    served = {domain.io.device for domain in scenario.domains if domain.io and domain.io.device not in domain.devices}
    rows = {
        device.address: None if device.node is None else topology.node_index[device.node]
        for device in topology.devices
        if device.address in served
    }
    dma = DmaOptions(DmaPolicy(scenario.dom0.dma_buffers), scenario.dom0.dma_mib, rows)
    found = HostOptions(XenPolicy(scenario.xen_memory), dma)
    sharing = scenario.sharing
    if sharing.chosen != OFF or any(domain.sharing not in {None, SharingMode.OFF} for domain in scenario.domains):
        policy = None if sharing.chosen == OFF else SharingPolicy(sharing.chosen)
        found = replace(found, sharing=SharingOptions(policy, sharing.scan_mib_s, sharing.written_mib_s))
    return replace(found, pool=_pool_options(scenario, topology, source))


def _pool_options(scenario: Scenario, topology: Topology, source: str) -> PoolOptions | None:
    """The cold-page pool, None where nobody puts anything."""
    asked = {domain.tiering for domain in scenario.domains if domain.tiering not in {None, TieringMode.OFF}}
    pool, tiering = scenario.cold_pool, scenario.tiering
    policy = None if pool.policy == OFF else PoolPolicy(pool.policy)
    table: ScenarioPool | ScenarioTiering = pool
    if policy is None:
        policy, table = POLICY_OF.get(TieringMode(tiering.mode)), tiering
    if policy is None and not asked:
        return None
    place = "cold_pool.far_nodes" if table is pool else "tiering.far_nodes"
    far = table.far_nodes
    for node in far or ():
        Checker(source).one_of(place, node, topology.node_ids)
    if far is None:
        far = tuple(node.id for node in topology.nodes if node.memory_mib and not topology.cpus_by_node[node.id])
    if not far and (policy is PoolPolicy.FAR or TieringMode.FAR_MEMORY in asked):
        raise BadInput(source, "every node with memory has CPUs; name those to be used", place)
    return PoolOptions(policy, tuple(topology.node_index[node] for node in far), table.spare_mib)


def check_traces(scenario: Scenario, source: str, known: Sequence[str]) -> None:
    """Raise `BadInput` where a domain follows a recorded VM that is not among these."""
    for index, domain in enumerate(scenario.domains):
        if domain.trace is not None and not known:
            raise BadInput(source, "give the recording with --traces FILE.parquet", f"domain[{index}].trace")
        if domain.trace is not None:
            Checker(source).one_of(f"domain[{index}].trace", domain.trace, known)


def event_cpus(scenario: Scenario, topology: Topology, source: str, parse_cpus: ParseCpus) -> list[EventCpus]:
    """The pCPUs that events name, hard and soft; raises `BadInput` where the machine has no such CPU or node."""
    check = Checker(source)
    found: list[EventCpus] = []
    for index, event in enumerate(scenario.events):
        place = f"event[{index}]"
        for key in ("move_memory", "migrate"):
            for node in getattr(event, key) or ():
                check.one_of(f"{place}.{key}", node, topology.node_ids)
        hard = None if event.pin is None else _cpus(parse_cpus, event.pin, topology, source, f"{place}.pin")
        soft = None if event.soft is None else _cpus(parse_cpus, event.soft, topology, source, f"{place}.soft")
        found.append((hard, soft))
    return found


def _check_io(check: Checker, device: str, topology: Topology, place: str) -> None:
    """The device is there, on a node that is known."""
    check.one_of(place, device, [known.address for known in topology.devices])
    if next(known.node for known in topology.devices if known.address == device) is None:
        raise BadInput(check.source, f"no node is known for {device}, so that its traffic has no place", place)


def _manners(asked: ScenarioBalloon) -> Manners:
    return Manners(asked.delay_s, asked.rate_mib_s * PAGES_PER_MIB, asked.least_mib * PAGES_PER_MIB, asked.kept_share)


def _cpus(parse_cpus: ParseCpus, text: str, topology: Topology, source: str, place: str) -> frozenset[int]:
    found = parse_cpus(text, topology, source, place)
    if not found:
        raise BadInput(source, f"{text!r} leaves no CPU to run on", place)
    return found


def workloads_of(scenario: Scenario) -> dict[str, Workload]:
    """All workloads that the scenario can name."""
    known = dict(WORKLOADS)
    for asked in scenario.workloads:
        like = known[asked.like]
        given = {field: value for field in asked.__struct_fields__ if (value := getattr(asked, field)) is not None}
        of_demand = {field.name for field in fields(Demand)}
        demand = replace(like.demand, **{key: value for key, value in given.items() if key in of_demand})
        of_workload = {field.name for field in fields(Workload)} - {"name", "source", "demand"}
        rest: dict[str, Any] = {key: value for key, value in given.items() if key in of_workload}
        known[asked.name] = replace(
            like, name=asked.name, source=f"the scenario, like {like.name}", demand=demand, **rest
        )
    return known
