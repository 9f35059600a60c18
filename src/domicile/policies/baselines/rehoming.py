"""What the daemons among the baselines decide: the nodes that a domain is to live on from now on.

They are made for hypervisors that keep a domain on its nodes, so to carry it out is hard affinity to the nodes' CPUs,
and memory that follows page by page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domicile.state.model import Domain, Snapshot

__all__ = ["Rehoming", "home_nodes", "memory_mib", "movable"]


@dataclass(frozen=True, slots=True)
class Rehoming:
    """A domain's new home (node ids). `before`: the nodes that it was kept on, none for one that had no home yet."""

    domain: str
    uuid: str
    nodes: tuple[int, ...]
    before: tuple[int, ...]
    reason: str


def home_nodes(snapshot: Snapshot, domain: Domain) -> tuple[int, ...]:
    """The nodes that a domain's vCPUs are kept on by hard affinity; none where that is everywhere."""
    allowed = frozenset().union(*(vcpu.hard_affinity for vcpu in domain.vcpus))
    cpus_by_node = snapshot.topology.cpus_by_node
    within = tuple(node for node, cpus in cpus_by_node.items() if allowed.intersection(cpus))
    return within if len(within) < sum(1 for cpus in cpus_by_node.values() if cpus) else ()


def memory_mib(domain: Domain) -> Mapping[int, int]:
    """Node to MiB there, nothing where no memory map was taken."""
    return domain.memory_by_node_mib or {}


def movable(snapshot: Snapshot) -> list[Domain]:
    """The domains that a daemon may move: all that run but Dom0."""
    return [domain for domain in snapshot.domains if domain.id and not domain.paused and domain.vcpus]
