"""A host laid out again, as a person and as a program sees it."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from domicile.policies.placement.afresh.host import AfreshPlan, Place
from domicile.topology.ids import format_ids

__all__ = ["arrange_json", "arrange_view"]


def arrange_view(plan: AfreshPlan) -> RenderableType:
    """Every domain before and after, then what it comes to."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("domain")
    for title in ("nodes now", "then", "slowdown now", "then", "to move, MiB"):
        table.add_column(title, justify="right")
    table.add_column("")
    for place in plan.places:
        table.add_row(*_row(place), style="bold" if place.moves or place.before is None else "")
    return Group(table, Text(), *(Text(line) for line in _summary(plan)))


def _row(place: Place) -> tuple[str, ...]:
    new = place.before is None
    note = "new" if new else "moves" if place.moves else f"stays: {place.stays}" if place.stays else "stays"
    return (
        place.domain,
        "-" if place.before is None else format_ids(place.before),
        format_ids(place.after),
        "-" if place.slowdown_before is None else f"{place.slowdown_before:.2f}",
        f"{place.slowdown_after:.2f}",
        str(place.move_mib) if place.moves else "",
        note,
    )


def _summary(plan: AfreshPlan) -> list[str]:
    after = f"predicted slowdown then: mean {fmean(plan.after):.3f}, worst {max(plan.after):.3f}"
    lines = [after]
    if plan.before:
        lines.insert(0, f"predicted slowdown now:  mean {fmean(plan.before):.3f}, worst {max(plan.before):.3f}")
    if plan.gain is not None:
        lines.append(f"predicted gain of those who are there: {plan.gain:.1%} less time")
    moving = sum(place.moves for place in plan.places)
    return [*lines, f"{moving} domain{'s' * (moving != 1)} to move, {plan.move_mib} MiB of memory"]


def arrange_json(plan: AfreshPlan) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "domains": [_place_json(place) for place in plan.places],
        "mean_slowdown": {"before": _rounded(_mean(plan.before)), "after": _rounded(_mean(plan.after))},
        "worst_slowdown": {
            "before": _rounded(max(plan.before, default=None)),
            "after": _rounded(max(plan.after, default=None)),
        },
        "predicted_gain": _rounded(plan.gain),
        "move_mib": plan.move_mib,
    }


def _mean(values: tuple[float, ...]) -> float | None:
    return fmean(values) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _place_json(place: Place) -> dict[str, Any]:
    return {
        "domain": place.domain,
        "nodes_before": None if place.before is None else list(place.before),
        "nodes_after": list(place.after),
        "soft_affinity": None if place.soft_affinity is None else sorted(place.soft_affinity),
        "memory_mib": {str(node): mib for node, mib in sorted(place.memory_mib.items())},
        "move_mib": place.move_mib,
        "slowdown_before": _rounded(place.slowdown_before),
        "slowdown_after": _rounded(place.slowdown_after),
        "moves": place.moves,
        "stays": place.stays or None,
    }
