"""One round of NUMA-aware scheduling: soft affinity where memory is, and holds for what the scheduler takes away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.policies.known import characters
from domicile.policies.scheduling.cells import cells_of
from domicile.policies.scheduling.holds import Held, Limits, hold
from domicile.policies.scheduling.homes import follow_memory, sorted_out
from domicile.policies.scheduling.plan import SchedulingPlan
from domicile.policies.scheduling.room import rooms
from domicile.policies.scheduling.watch import Watch
from domicile.state.model import Snapshot
from domicile.state.request import Intent

__all__ = ["Rules", "follow"]


@dataclass(frozen=True, slots=True)
class Rules:
    """`start`: gain in slowdown, over all domains, from which on a soft affinity is changed. `leave`: domains (names)
    that are left alone, with the reason. `intent`: what the administrator says of domains and devices.
    """

    start: float = 0.05
    limits: Limits = Limits()  # noqa: RUF009 - immutable
    leave: Mapping[str, str] = field(default_factory=dict, hash=False)
    intent: Intent = Intent()  # noqa: RUF009 - immutable


def follow(
    snapshot: Snapshot,
    watch: Watch,
    held: Mapping[tuple[str, int], Held],
    rules: Rules = Rules(),
    assumptions: Assumptions = DEFAULT,
) -> SchedulingPlan:
    """What to change now. `watch` has this snapshot folded in; `held` are the holds there are, by UUID and vCPU."""
    given = {key: each.cpus for key, each in held.items()}
    candidates, left = sorted_out(snapshot, given)
    left += [(name, rules.leave[name]) for each in candidates if (name := each.domain.name) in rules.leave]
    candidates = [each for each in candidates if each.domain.name not in rules.leave]
    load = watch.by_name(snapshot)
    intent = replace(rules.intent, domains=characters(rules.intent.domains, watch.traffic_gbs(snapshot)))
    soft = follow_memory(snapshot, candidates, load, rules.start, assumptions, intent)
    room = rooms(snapshot, watch, assumptions)
    going, holding = hold(snapshot, candidates, watch, held, soft, rules.limits, room, cells_of(snapshot))
    return SchedulingPlan(tuple(going), tuple(soft), tuple(holding), tuple(left))
