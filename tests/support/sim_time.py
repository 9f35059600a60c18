"""A simulated host on which time passes: sixteen pCPUs at most, guests told what to do."""

from __future__ import annotations

from sim_machines import config

from domicile.hosts.actions import CreatePaused, Unpause
from domicile.hosts.protocol import Host
from domicile.state.model import Domain, Snapshot

__all__ = ["busy_s", "idle_s", "node_of", "start", "the"]


def start(host: Host, name: str, does: str = "", **more: object) -> None:
    """Start a guest; `does` is its kernel's command line."""
    host.perform(CreatePaused(name, config(name, extra=does, **more)))  # type: ignore[arg-type]
    host.perform(Unpause(name))


def the(snapshot: Snapshot, name: str) -> Domain:
    domain = snapshot.domain(name)
    assert domain is not None
    return domain


def busy_s(snapshot: Snapshot) -> float:
    """CPU time of all domains."""
    return sum(vcpu.time_ns or 0 for domain in snapshot.domains for vcpu in domain.vcpus) / 1e9


def idle_s(snapshot: Snapshot) -> float:
    """Idle time of all pCPUs."""
    return sum(snapshot.pcpu_idle_ns.values()) / 1e9


def node_of(snapshot: Snapshot, pcpu: int | None) -> int | None:
    """The node of a pCPU."""
    return next((cpu.node for cpu in snapshot.topology.cpus if cpu.id == pcpu), None)
