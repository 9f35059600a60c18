"""Small machines, and a configuration language of Python assignments: enough of `xl.cfg` for a simulated host.

Independent of the real parser on purpose: what the simulated host and the manager do is tested without it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from domicile.errors import BadInput
from domicile.policies.plan import Placement
from domicile.state.model import DomainType, Vnode
from domicile.state.request import GuestRequest
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Device, Node, Topology

__all__ = ["config", "machine", "place_into", "read_guest"]


def machine(
    memory_mib: Sequence[int] = (1024, 1024, 1024, 1024), cpus_per_node: int = 2, devices: Mapping[str, int] = {}
) -> Topology:
    """Nodes 0, 1, ... with so much memory and so many CPUs each; `devices` are PCI addresses with their nodes."""
    nodes = range(len(memory_mib))
    return checked(
        source="tests",
        nodes=[Node(node, memory_mib[node]) for node in nodes],
        cpus=[Cpu(n * cpus_per_node + i, i, n, n) for n in nodes for i in range(cpus_per_node)],
        distances=[[10 if a == b else 20 for b in nodes] for a in nodes],
        devices=[Device(address, node) for address, node in devices.items()],
    )


def config(name: str, memory: int = 256, vcpus: int = 2, **more: object) -> str:
    """The text of a configuration."""
    values = {"name": name, "memory": memory, "vcpus": vcpus, **more}
    return "".join(f"{key} = {value!r}\n" for key, value in values.items())


def read_guest(text: str, source: str, topology: Topology) -> GuestRequest:
    """The guest that a configuration asks for. Affinities are lists of lists of CPUs."""
    values: dict[str, Any] = {}
    try:
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                values[statement.targets[0].id] = ast.literal_eval(statement.value)
        name = values["name"]
    except (SyntaxError, ValueError, KeyError) as error:
        raise BadInput(source, f"no configuration: {error}") from error
    max_vcpus = values.get("maxvcpus", values["vcpus"])
    return GuestRequest(
        name=name,
        type=DomainType(values.get("type", "pvh")),
        vcpus=values["vcpus"],
        max_vcpus=max_vcpus,
        memory_mib=values["memory"],
        max_memory_mib=values.get("maxmem", values["memory"]),
        overhead_mib=values.get("overhead", 0),
        hard_affinity=_affinity(values.get("cpus")),
        soft_affinity=_affinity(values.get("cpus_soft")),
        devices=tuple(values.get("pci", ())),
        vnodes=tuple(Vnode(pnode, mib, frozenset()) for pnode, mib in values.get("vnuma", ())),
        cpupool=values.get("pool", "Pool-0"),
        weight=values.get("cpu_weight", 256),
        cap_percent=values.get("cap", 0),
        uuid=values.get("uuid", ""),
        source=source,
        kernel_arguments=values.get("extra", ""),
    )


def place_into(text: str, placement: Placement, request: GuestRequest, topology: Topology) -> str:
    """The configuration with the placement's soft affinity in it."""
    if placement.soft_affinity is None:
        return text
    return text + f"cpus_soft = {[sorted(cpus) for cpus in placement.soft_affinity]!r}\n"


def _affinity(value: list[list[int]] | None) -> tuple[frozenset[int], ...] | None:
    return None if value is None else tuple(frozenset(cpus) for cpus in value)
