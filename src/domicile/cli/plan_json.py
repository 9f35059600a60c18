"""The JSON of `domicile place`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from domicile.policies.plan import Alternative, Placement, PlacementPlan, Term
from domicile.state.model import Vnode

__all__ = ["placement_json", "plan_json", "vnuma_json"]


def plan_json(plan: PlacementPlan, *, explain: bool) -> dict[str, Any]:
    """A plan as JSON; `explain` adds each term of the objective and the next best choices. Costs and
    penalties of the terms add up to `objective`, which decided (to six places). What `--exact` found out is `exact`:
    whether no assignment is better, and, where HiGHS was asked, by what share one could be at most."""
    found = {"placements": [placement_json(one, explain=explain) for one in plan.placements], "policy": plan.policy}
    if not plan.proven and plan.gap is None:
        return found
    return found | {"exact": {"proven": plan.proven, "gap": plan.gap, "deviation": plan.deviation}}


def placement_json(placement: Placement, *, explain: bool) -> dict[str, Any]:
    """One placement as JSON."""
    found: dict[str, Any] = {
        "domain": placement.domain,
        "nodes": list(placement.nodes),
        "soft_affinity": None if placement.soft_affinity is None else [sorted(s) for s in placement.soft_affinity],
        "memory_mib": {str(node): mib for node, mib in sorted(placement.memory_mib.items())},
        "vnuma": vnuma_json(placement.vnodes),
        "predicted_slowdown": round(placement.predicted_slowdown, 4),
        "reasons": list(placement.reasons),
    }
    if explain:
        found["objective"] = round(placement.objective, 6)
        found["terms"] = [_term(term) for term in placement.terms]
        found["alternatives"] = [_alternative(one) for one in placement.alternatives]
    return found


def vnuma_json(vnodes: Sequence[Vnode]) -> list[dict[str, Any]] | None:
    """A virtual topology as JSON, in xl.cfg's words; null where there is none."""
    return [
        {
            "pnode": vnode.pnode,
            "size_mib": vnode.memory_mib,
            "vcpus": sorted(vnode.vcpus),
            "vdistances": list(vnode.distances),
        }
        for vnode in vnodes
    ] or None


def _term(term: Term) -> dict[str, Any]:
    figures = {name: round(value, 4) for name, value in term.figures.items()}
    return {
        "name": term.name,
        "cost": round(term.cost, 6),
        "penalty": round(term.penalty, 6),
        "figures": figures,
        "reason": term.reason,
    }


def _alternative(alternative: Alternative) -> dict[str, Any]:
    return {
        "nodes": list(alternative.nodes),
        "predicted_slowdown": round(alternative.predicted_slowdown, 4),
        "objective": round(alternative.objective, 6),
        "terms": [_term(term) for term in alternative.terms],
    }
