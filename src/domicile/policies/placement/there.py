"""Who is on the host already, as all of placement counts them: with their load, weights, caps and character."""

from __future__ import annotations

from collections.abc import Mapping

from domicile.performance.assumptions import Assumptions
from domicile.performance.character import leaning, scheduled
from domicile.performance.machine import Machine
from domicile.performance.tenants import Tenants, residents
from domicile.state.model import Snapshot
from domicile.state.request import Intent

__all__ = ["those_there"]


def those_there(
    machine: Machine, snapshot: Snapshot, intent: Intent, load: Mapping[str, float] | None, assumptions: Assumptions
) -> Tenants:
    """The domains of a snapshot, and those that are being created."""
    # what was measured goes before what is stated
    stated = {one.domain: one.busy_vcpus for one in intent.domains if one.busy_vcpus is not None}
    there = residents(machine, snapshot, stated | dict(load or {}), assumptions)
    return leaning(scheduled(there, snapshot), intent.domains, assumptions)
