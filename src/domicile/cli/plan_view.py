"""A plan as a person sees it: `domicile place`, `domicile create`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from domicile.policies.plan import Alternative, Placement, PlacementPlan, Term
from domicile.topology.ids import format_ids

__all__ = ["plan_view"]

FIGURES = (
    ("memory latency", "memory latency", ("latency_ns",), "{:.0f} ns"),
    ("remote accesses", "memory latency", ("remote_share",), "{:.0%}"),
    ("CPU pressure", "CPU load", ("pressure",), "{:.2f}"),
    ("memory GB/s", "memory bandwidth", ("used_gbs", "peak_gbs"), "{:.0f} of {:.0f}"),
    ("device distance", "devices", ("farthest_distance",), "{:.0f}"),
    ("group distance", "groups", ("distance",), "{:.1f}"),
)
"""What a person wants to know of each choice: label, name of the term, figures, format. CPU pressure: vCPUs that want
to run at once for each pCPU, on the fullest node."""

LEGEND = (
    "cost: what is added to slowdowns, the domain's own and (neighbours, the others of its groups) all others'; the "
    "least total decides. Predicted slowdown: the domain's own; 1 is alone on the best node"
)

ALWAYS = ("memory latency", "CPU load", "memory bandwidth")


def plan_view(plan: PlacementPlan, *, explain: bool) -> RenderableType:
    """Each domain with its nodes and the reasons; `explain` adds the objective's terms beside the next best choices."""
    parts: list[RenderableType] = []
    for placement in plan.placements:
        parts.append(_headline(placement))
        if explain and placement.terms:
            parts.append(Padding(_comparison(placement), (0, 0, 0, 2)))
        parts += [Padding(Text(reason), (0, 0, 0, 2)) for reason in placement.reasons]
    if explain and any(placement.terms for placement in plan.placements):
        parts.append(Text(LEGEND, style="bright_black"))
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
    """What is to be expected of the chosen nodes and the next best, a column each, and what it costs: the terms of the
    objective, which add up to the total that decided."""
    choices: list[Placement | Alternative] = [placement, *placement.alternatives]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    for one in choices:
        chosen = one is placement
        name = f"node{'s' * (len(one.nodes) > 1)} {format_ids(one.nodes)}{' (chosen)' * chosen}"
        table.add_column(name, justify="right", style="green" if chosen else "", min_width=8)
    for label, term, figures, shape in FIGURES:
        values = [_figures(one.terms, term, figures) for one in choices]
        if any(values):
            table.add_row(label, *(shape.format(*value) if value else "-" for value in values))
    table.add_row("cost of", style="bold")
    costs = [_costs(one.terms) for one in choices]
    for label in dict.fromkeys(label for its in costs for label in its):
        parts = [its.get(label, 0.0) for its in costs]
        if any(parts) or label in ALWAYS:
            table.add_row(f"  {label}", *(f"{part:.4f}" for part in parts))
    table.add_row("  total", *(f"{one.objective:.4f}" for one in choices), style="bold")
    table.add_row("predicted slowdown", *(f"{one.predicted_slowdown:.3f}" for one in choices))
    return table


def _figures(terms: Sequence[Term], name: str, figures: Sequence[str]) -> list[float]:
    """These figures of the first term of this name that has them; none where none has."""
    for term in terms:
        if term.name == name and all(figure in term.figures for figure in figures):
            return [term.figures[figure] for figure in figures]
    return []


def _costs(terms: Sequence[Term]) -> dict[str, float]:
    """What makes up the objective, by what a person calls it."""
    found: dict[str, float] = {}
    for term in terms:
        missed = term.figures.get("wishes_missed", 0.0)
        others = term.name if not term.cost and term.penalty else f"{term.name}, the others"
        for label, part in ((term.name, term.cost), (others, term.penalty - missed), ("wishes not met", missed)):
            if part or label == term.name:
                found[label] = found.get(label, 0.0) + part
    return found
