"""A plan as a person sees it: `domicile place`, `domicile create`."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from domicile.policies.plan import Alternative, Placement, PlacementPlan
from domicile.topology.ids import format_ids

__all__ = ["plan_view"]


def plan_view(plan: PlacementPlan, *, explain: bool) -> RenderableType:
    """Each domain with its nodes and the reasons; `explain` adds the objective's terms beside the next best choices."""
    parts: list[RenderableType] = []
    for placement in plan.placements:
        parts.append(_headline(placement))
        if explain and placement.terms:
            parts.append(Padding(_comparison(placement), (0, 0, 0, 2)))
        parts += [Padding(Text(reason), (0, 0, 0, 2)) for reason in placement.reasons]
    parts += [Text(line) for line in _proof(plan)]
    return Group(*parts, Text(f"policy: {plan.policy}", style="bright_black"))


def _proof(plan: PlacementPlan) -> list[str]:
    """What `--exact` has found out."""
    if plan.gap is not None:
        better = "no assignment is better" if plan.proven else f"no assignment is more than {plan.gap:.2%} better"
        deviation = "" if plan.deviation is None else f"; its pieces of lines are {plan.deviation:.4f} below the model"
        return [f"proven by HiGHS: {better}, in the sum of all slowdowns by the model{deviation}"]
    return ["proven by enumeration: no assignment is better by the model"] if plan.proven else []


def _headline(placement: Placement) -> Text:
    """Name, nodes, soft affinity, memory, predicted slowdown."""
    nodes = f"node{'s' * (len(placement.nodes) > 1)} {format_ids(placement.nodes)}"
    line = Text(placement.domain, style="bold") + Text(f"  {nodes}", style="bold green")
    if placement.soft_affinity:
        sets = list(dict.fromkeys(format_ids(cpus) for cpus in placement.soft_affinity))
        line += Text(f"  soft affinity {' / '.join(sets)}", style="not bold")
    memory = ", ".join(f"{mib} MiB on {node}" for node, mib in sorted(placement.memory_mib.items()))
    return line + Text(f"  {memory}  predicted slowdown {placement.predicted_slowdown:.2f}", style="not bold")


def _comparison(placement: Placement) -> Table:
    """The terms of the objective: the chosen nodes and the next best, a column each."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("cost of")
    table.add_column(f"node {format_ids(placement.nodes)} (chosen)", justify="right", style="green")
    for other in placement.alternatives:
        table.add_column(f"node {format_ids(other.nodes)}", justify="right")
    choices: list[Placement | Alternative] = [placement, *placement.alternatives]
    names = list(dict.fromkeys(term.name for one in choices for term in one.terms))
    for name in names:
        costs = [sum(term.cost for term in one.terms if term.name == name) for one in choices]
        table.add_row(name, *(f"{cost:.3f}" for cost in costs))
    table.add_row("predicted slowdown", *(f"{one.predicted_slowdown:.3f}" for one in choices))
    return table
