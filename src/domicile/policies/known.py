"""What is known of the domains on a host, put together: what the host tells, what was measured, what the administrator
says of them, and what their devices and Dom0's backends draw them to. Placement and scheduling count with the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from domicile.performance.assumptions import Assumptions
from domicile.performance.character import leaning, scheduled
from domicile.performance.curves import Floats
from domicile.performance.machine import Machine
from domicile.performance.tenants import Tenants, device_shares, residents
from domicile.performance.ties import backend_pull, device_pull, remoteness
from domicile.state.model import Snapshot
from domicile.state.request import Character, DevicePolicy, Intent
from domicile.topology.model import Topology

__all__ = ["characters", "expected_vcpu_demand", "io_pull", "known_tenants"]

TAKEN_ON_TRUST = 8.0
"""So many vCPUs that were measured count as much as the assumption about those that were not. An assumption."""


def characters(stated: Sequence[Character], traffic_gbs: Mapping[str, float]) -> tuple[Character, ...]:
    """What is known of how domains use memory: what the administrator states, and of whose traffic nothing is stated
    what was measured (GB/s of a busy vCPU, by name)."""
    by_name = {each.domain: each for each in stated}
    for name, gbs in traffic_gbs.items():
        each = by_name.get(name, Character(name))
        if each.traffic_gbs is None:
            by_name[name] = replace(each, traffic_gbs=gbs)
    return tuple(by_name.values())


def known_tenants(
    machine: Machine, snapshot: Snapshot, intent: Intent, load: Mapping[str, float], assumptions: Assumptions
) -> Tenants:
    """The domains of a snapshot, with their characters. `load` is measured demand by name: it goes before what the
    intent states. Not to be written to: of the snapshot that was asked for last, the same is given again, since a guest
    wider than a node is tried on it in several forms."""
    global _last  # noqa: PLW0603 - a record that is replaced at once: threads see an old or a new one
    last = _last
    if last is None or not last.answers(machine, snapshot, intent, load, assumptions):
        found = _tenants(machine, snapshot, intent, load, assumptions)
        _last = last = _Asked(machine.topology, snapshot, intent, dict(load), assumptions, found)
    return last.tenants


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was asked for, and the answer."""

    topology: Topology
    snapshot: Snapshot
    intent: Intent
    load: Mapping[str, float]
    assumptions: Assumptions
    tenants: Tenants

    def answers(
        self, machine: Machine, snapshot: Snapshot, intent: Intent, load: Mapping[str, float], assumptions: Assumptions
    ) -> bool:
        """Whether this is asked for again."""
        same = self.snapshot is snapshot and self.topology is machine.topology and self.intent is intent
        return same and self.assumptions == assumptions and self.load == load


_last: _Asked | None = None


def _tenants(
    machine: Machine, snapshot: Snapshot, intent: Intent, load: Mapping[str, float], assumptions: Assumptions
) -> Tenants:
    stated = {each.domain: each.busy_vcpus for each in intent.domains if each.busy_vcpus is not None}
    there = scheduled(residents(machine, snapshot, stated | dict(load), assumptions), snapshot)
    return leaning(there, intent.domains, assumptions)


def expected_vcpu_demand(snapshot: Snapshot, load: Mapping[str, float], assumptions: Assumptions) -> float:
    """How busy a vCPU is of a domain that has not run yet: as those of the host's guests are on average, as far as they
    were measured (`load`, by name), and as assumed where they are few.

    To count each newcomer as busy all the time makes wide guests be split for want of free cores that it would not have
    taken from anybody; the split stays, the cores go to who comes next.
    """
    busy, vcpus = assumptions.vcpu_demand * TAKEN_ON_TRUST, TAKEN_ON_TRUST
    if load:
        for domain in snapshot.domains:
            used = load.get(domain.name)
            if used is not None and domain.id != 0:
                busy, vcpus = busy + used, vcpus + len(domain.vcpus)
    return min(busy / vcpus, assumptions.vcpu_demand)


def io_pull(
    machine: Machine,
    snapshot: Snapshot,
    devices: Floats | None,
    backends: Sequence[str],
    policy: DevicePolicy,
    assumptions: Assumptions,
) -> Floats:
    """What a whole domain on each node (N) loses by the distance to its devices, of which this share is on each node
    (N; None: it has none), and to Dom0 and what is behind the backends that it serves."""
    pull = np.zeros(machine.nodes)
    if policy is DevicePolicy.IGNORED:
        return pull
    if devices is not None and devices.any():
        pull = device_pull(remoteness(machine), devices, assumptions)
    if backends:
        pull = pull + backend_pull(remoteness(machine), *_behind(machine, snapshot, backends), assumptions)
    return pull


def _behind(machine: Machine, snapshot: Snapshot, backends: Sequence[str]) -> tuple[Floats, list[Floats]]:
    """Where Dom0's vCPUs are (N), and the device behind each of these backends (N each)."""
    dom0 = tuple(domain for domain in snapshot.domains if domain.id == 0)
    if not dom0:
        return np.zeros(machine.nodes), []
    share = residents(machine, replace(snapshot, domains=dom0, reservations=())).vcpu_share[0]
    found = [snapshot.backing_device(backend) for backend in backends]
    return share, [device_shares(machine, [address] if address else []) for address in found]
