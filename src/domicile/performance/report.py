"""Every error of the performance model in one text, for `docs/model.md`: `python -m domicile.performance.report`."""

from __future__ import annotations

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.links import OPTERON, SYMMETRIC
from domicile.performance.published.loaded_latency import (
    curve_error,
    further_machines,
    preset_machine,
    when_fitted_on,
)
from domicile.performance.published.opteron import matrix_errors
from domicile.performance.published.results import UNITS_FULL, best_against_worst, faggioli, smt_squeeze

__all__ = ["report"]

BROADWELL, CASCADE_LAKE = "broadwell-2682v4-2n", "cascadelake-8269cy-2n"


def report(assumptions: Assumptions = DEFAULT) -> str:
    """The errors as measured now."""
    parts = [_fitted_on_one(), _further(assumptions), _opteron(), _faggioli(assumptions), _others(assumptions)]
    return "\n\n".join("\n".join(part) for part in parts)


def _fitted_on_one() -> list[str]:
    lines = ["Loaded latency: fitted on one machine, predicted for the other (mean, worst of all points)"]
    for on, of in ((CASCADE_LAKE, BROADWELL), (BROADWELL, CASCADE_LAKE)):
        constants = when_fitted_on(preset_machine(on))
        for known in (True, False):
            error = curve_error(preset_machine(of), constants, cores_known=known)
            what = "idle, peak and cores" if known else "idle and peak"
            lines.append(f"  {on:22} -> {of:22} {what:21} {error.mean:6.1%} {error.worst:6.1%}")
    return lines


def _further(assumptions: Assumptions) -> list[str]:
    lines = [
        "Loaded latency of further machines, the constants as they are (mean, worst; mean below 95 % of the peak)",
        f"  {'':22} {'idle, peak and cores':>28}   {'idle and peak':>13}",
    ]
    for machine in further_machines():
        known = curve_error(machine, assumptions)
        blind = curve_error(machine, assumptions, cores_known=False)
        lines.append(
            f"  {machine.name:22} {known.mean:8.1%} {known.worst:8.1%} {known.mean_below:8.1%}    "
            f"{blind.mean:8.1%} {blind.worst:8.1%}"
        )
    return lines


def _opteron() -> list[str]:
    lines = ["All-core bandwidth of the 8-node Opteron, 64 pairs, from the link graph and 6 constants (mean, worst)"]
    for name, graph in (("link graph", OPTERON), ("all links alike", SYMMETRIC)):
        for what, error in zip(("read", "write"), matrix_errors(graph), strict=True):
            at = f"CPUs of node {error.at[0]}, memory of node {error.at[1]}"
            lines.append(f"  {name:16} {what:6} {error.mean:6.1%} {error.worst:6.1%}   ({at})")
    return lines


def _faggioli(assumptions: Assumptions) -> list[str]:
    lines = ["Faggioli's table, calibrated on the rows of 2 VMs: predicted (measured), error"]
    for row in faggioli(assumptions):
        unpinned, placed = row.errors
        lines.append(
            f"  {row.load:16} {row.vms:2} VMs  unpinned {row.unpinned:7.0f} ({row.measured_unpinned:7.0f}) "
            f"{unpinned:+6.1%}  placed {row.placed:7.0f} ({row.measured_placed:7.0f}) {placed:+6.1%}  "
            f"gain {row.gain:5.1%} ({row.measured_gain:5.1%})"
        )
    return lines


def _others(assumptions: Assumptions) -> list[str]:
    squeeze, full = smt_squeeze(assumptions), smt_squeeze(UNITS_FULL)
    two, three = (best_against_worst(nodes, assumptions=assumptions) for nodes in (2, 3))
    latency, throughput, most = f"-{squeeze.latency:.0%}", f"-{squeeze.throughput:.0%}", f"-{full.throughput:.0%}"
    return [
        "Other published results: predicted (published)",
        f"  32 vCPUs on one node of 32 threads, not two: idle latency {latency} (-20 %)",
        f"  the same: CPU throughput {throughput}, {most} where a second thread adds nothing (-40 to -75 %)",
        f"  8-node Opteron, worst against best nodes: {two:.1f} times for 2 nodes, {three:.1f} for 3 (about 2)",
    ]


if __name__ == "__main__":
    print(report())
