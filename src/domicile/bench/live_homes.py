"""Homes that a daemon has decided on, carried out by what Xen has: live migration, then hard affinity where it arrived.

The daemons among the baselines were made for hypervisors that move pages one by one under a guest that runs on the new
node meanwhile. On Xen the same decision is `xl migrate` to the host itself: the memory has to fit twice, what is
written meanwhile is copied again, the guest stands still for the last of it, and until then it runs where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from domicile.simulator.engine import Simulation
from domicile.state.model import Domain, Snapshot

__all__ = ["LiveHomes"]

UNDER_WAY, DONE = "under way", "done"

MOST_OF_IT = 0.9
"""Who has so much of its memory where it is to live is not migrated for the rest."""


class LiveHomes:
    """The homes that domains of a simulation are on their way to."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._coming: dict[str, tuple[int, frozenset[int]]] = {}

    @property
    def under_way(self) -> frozenset[str]:
        """The domains whose memory is on its way."""
        if not self._coming:
            return frozenset()
        records = self._simulation.memory.migrations
        return frozenset(name for name, (number, _) in self._coming.items() if records[number].outcome == UNDER_WAY)

    def begin(self, name: str, nodes: Sequence[int]) -> bool:
        """Give a domain this home (node ids); whether that was begun. It is not for one that is on its way
        already, that has gone, or that cannot be migrated (no room for it twice). One whose memory is there is only
        kept there."""
        domain = self._simulation.snapshot().domain(name)
        if domain is None or name in self._coming:
            return False
        cpus = self._simulation.topology.cpus_of(nodes)
        pages = domain.pages_by_node or {}
        if sum(pages.get(node, 0) for node in nodes) >= MOST_OF_IT * sum(pages.values()):
            self._simulation.pin(name, cpus, None)
            return True
        number = len(self._simulation.memory.migrations)
        self._simulation.migrate(name, nodes)
        if self._simulation.memory.migrations[number].outcome != UNDER_WAY:
            return False
        self._coming[name] = number, cpus
        return True

    def settle(self) -> None:
        """Keep those that have arrived where they are now."""
        if not self._coming:
            return
        records = self._simulation.memory.migrations
        for name, (number, cpus) in list(self._coming.items()):
            if records[number].outcome == UNDER_WAY:
                continue
            del self._coming[name]
            if records[number].outcome == DONE:
                self._simulation.pin(name, cpus, None)

    def seen(self, snapshot: Snapshot) -> Snapshot:
        """The host as the one who decided counts with it: who is on the way is kept where it is going."""
        if not self._coming:
            return snapshot
        return replace(snapshot, domains=tuple(self._there(domain) for domain in snapshot.domains))

    def _there(self, domain: Domain) -> Domain:
        if domain.name not in self._coming:
            return domain
        cpus = self._coming[domain.name][1]
        return replace(domain, vcpus=tuple(replace(vcpu, hard_affinity=cpus) for vcpu in domain.vcpus))
