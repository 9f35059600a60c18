"""How slow each domain of a host is predicted to run, as the host is."""

from __future__ import annotations

from collections.abc import Mapping

from domicile.performance.character import scheduled
from domicile.performance.machine import Machine
from domicile.performance.predict import predict
from domicile.performance.tenants import residents
from domicile.state.model import Snapshot

__all__ = ["slowdowns"]


def slowdowns(snapshot: Snapshot, load: Mapping[str, float] | None = None) -> dict[str, float]:
    """Domain name to predicted slowdown, 1.0 for a domain alone where it is best off. `load` as in `residents`."""
    machine = Machine.of(snapshot.topology, snapshot.cpupools)
    tenants = scheduled(residents(machine, snapshot, load), snapshot)
    return dict(zip(tenants.names, predict(machine, tenants).slowdown.tolist(), strict=True))
