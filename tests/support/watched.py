"""Hosts of four nodes with two pCPUs each, as a manager sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sim_machines import machine

from domicile.policies.scheduling.watch import Watch, observe
from domicile.state.model import PAGES_PER_MIB, Domain, DomainType, Snapshot, Vcpu

__all__ = ["ALL", "NODES", "busy", "host", "seen"]

ALL = frozenset(range(8))
NODES = [frozenset({2 * node, 2 * node + 1}) for node in range(4)]
TOPOLOGY = machine((4096,) * 4)


def busy(
    name: str,
    cpus: Sequence[int],
    memory: int | Mapping[int, int],
    *,
    soft: frozenset[int] = ALL,
    hard: frozenset[int] = ALL,
    ran_s: float = 0.0,
    number: int | None = None,
) -> Domain:
    """A domain whose vCPUs are on these pCPUs and have each run for so long; `memory`: a node, or MiB by node."""
    by_node = {memory: 256} if isinstance(memory, int) else dict(memory)
    return Domain(
        id=number if number is not None else sum(map(ord, name)),
        name=name,
        uuid=f"uuid-{name}",
        vcpus=tuple(
            Vcpu(vcpu, cpu, hard, soft, running=True, time_ns=round(ran_s * 1e9)) for vcpu, cpu in enumerate(cpus)
        ),
        memory_mib=sum(by_node.values()),
        max_memory_mib=sum(by_node.values()),
        type=DomainType.PVH,
        node_affinity=frozenset(by_node),
        pages_by_node={node: mib * PAGES_PER_MIB for node, mib in by_node.items()},
    )


def host(*domains: Domain, at: float = 0.0) -> Snapshot:
    """The host at a moment."""
    return Snapshot(topology=TOPOLOGY, domains=domains, taken_at=1000.0 + at)


def seen(*domains: Domain, seconds: float = 10.0, share: float = 1.0) -> tuple[Snapshot, Watch]:
    """The host after these have run for a while where they are, each vCPU for this share of the time."""

    def ran(domain: Domain, seconds: float) -> Domain:
        vcpus = tuple(replace(vcpu, time_ns=round(seconds * share * 1e9)) for vcpu in domain.vcpus)
        return replace(domain, vcpus=vcpus)

    watch = observe(Watch(), host(*(ran(domain, 0.0) for domain in domains)))
    now = host(*(ran(domain, seconds) for domain in domains), at=seconds)
    return now, observe(watch, now)
