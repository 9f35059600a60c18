"""domicile's placement beside all baselines: `python -m domicile.bench.against_baselines`.

On every measured machine that comes along, loads of several kinds are drawn (`loads`), each policy places the guests,
once one by one and once in one call, and what becomes of them is simulated with two schedulers, and evaluated by the
performance model alone (`outcomes`). `domicile` is what people install: its placement, and its manager's rounds while
guests run; `PLACEMENT_ALONE` is without these. A load counts once, however many guests it has: its mean slowdown, and
that of its slowest guest; the table has the averages of both over loads and arrivals.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from domicile.bench.loads import KINDS, Load, draw
from domicile.bench.outcomes import evaluated, placed, simulated
from domicile.policies.plan import Placement
from domicile.policies.registry import DEFAULT_POLICY, POLICIES
from domicile.simulator.scheduler.stepper import SchedulerKind
from domicile.topology.presets import load_preset

__all__ = [
    "ARRIVALS",
    "MACHINES",
    "PLACEMENT_ALONE",
    "ROWS",
    "VIEWS",
    "Case",
    "Outcome",
    "Standing",
    "compare",
    "outcomes_of",
    "standings",
    "table",
]

MACHINES = (
    "broadwell-2682v4-2n",
    "cascadelake-8269cy-2n",
    "genoa-9224-nps2-cxl",
    "haswell-ex-4n",
    "ivybridge-2n",
    "opteron-8n48c",
)
"""The presets whose latencies and bandwidths were measured."""

TOGETHER = "together"
ARRIVALS = ("one by one", TOGETHER)
MODEL = "model"

PLACEMENT_ALONE = "domicile, placement alone"
ROWS = (DEFAULT_POLICY, PLACEMENT_ALONE, *(name for name in POLICIES if name != DEFAULT_POLICY))
"""What is compared: policies, and ours with its manager and without."""

SEE_LOAD = (DEFAULT_POLICY, "greedy", "numad")
"""Policies to which it makes a difference how busy guests are that have arrived before. All others come to the same
layout whether guests arrive together or not (a test holds them to it), so one call will do."""

VIEWS = (str(SchedulerKind.CREDIT2), str(SchedulerKind.NUMA), MODEL)
"""By what a layout is judged: simulated with a scheduler, or evaluated by the performance model."""

SEEDS = 2


@dataclass(frozen=True, slots=True)
class Case:
    """A load: machine, kind and seed."""

    machine: str
    kind: str
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case placed by a policy, guests arriving in one of two ways, judged by one of `VIEWS`: mean slowdown of its
    guests, and that of the slowest."""

    case: Case
    arrival: str
    policy: str
    view: str
    mean: float
    worst: float


@dataclass(frozen=True, slots=True)
class Standing:
    """A policy on a machine in a view: averages over loads and arrivals."""

    machine: str
    policy: str
    view: str
    mean: float
    worst: float


def outcomes_of(case: Case, rows: Sequence[str] = ROWS, views: Sequence[str] = VIEWS) -> list[Outcome]:
    """All rows and arrivals on one load. Raises `Lost` where not all guests could be placed and started."""
    load = draw(load_preset(case.machine).topology, KINDS[case.kind], case.seed)
    judged: dict[object, dict[str, tuple[float, ...]]] = {}
    found = []
    for arrival, (name, placements) in product(ARRIVALS, _all_placed(load, rows).items()):
        layout = tuple((each.nodes, each.hard) for each in placements[arrival])
        managed = name == DEFAULT_POLICY
        if (layout, managed) not in judged:
            judged[layout, managed] = {
                view: evaluated(load, placements[arrival])
                if view == MODEL
                else simulated(load, placements[arrival], SchedulerKind(view), case.seed, managed=managed)
                for view in views
            }
        for view, slowdowns in judged[layout, managed].items():
            found.append(Outcome(case, arrival, name, view, float(np.mean(slowdowns)), float(np.max(slowdowns))))
    return found


def _all_placed(load: Load, rows: Sequence[str]) -> dict[str, dict[str, tuple[Placement, ...]]]:
    """By row and arrival, where its policy puts the guests: each policy is asked once."""
    asked: dict[str, dict[str, tuple[Placement, ...]]] = {}
    for name in dict.fromkeys(_policy_of(row) for row in rows):
        together = placed(load, name, together=True)
        single = placed(load, name, together=False) if name in SEE_LOAD else together
        asked[name] = dict(zip(ARRIVALS, (single, together), strict=True))
    return {row: asked[_policy_of(row)] for row in rows}


def _policy_of(row: str) -> str:
    return DEFAULT_POLICY if row == PLACEMENT_ALONE else row


def compare(
    cases: Iterable[Case],
    rows: Sequence[str] = ROWS,
    views: Sequence[str] = VIEWS,
    processes: int = 1,
    each: Callable[[Sequence[Outcome]], None] = lambda _: None,
) -> list[Outcome]:
    """All rows on these loads; `each` is called with the outcomes of a case whenever one is done."""
    found: list[Outcome] = []
    if processes == 1:
        for case in cases:
            more = outcomes_of(case, rows, views)
            each(more)
            found += more
        return found
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        waiting = [pool.submit(outcomes_of, case, rows, views) for case in cases]
        for done in as_completed(waiting):
            each(done.result())
        for done in waiting:
            found += done.result()
    return found


def standings(outcomes: Sequence[Outcome]) -> list[Standing]:
    """By machine and view, the policy with the least mean first."""
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.case.machine, outcome.view, outcome.policy), []).append(outcome)
    found = [
        Standing(
            machine,
            policy,
            view,
            float(np.mean([each.mean for each in group])),
            float(np.mean([each.worst for each in group])),
        )
        for (machine, view, policy), group in groups.items()
    ]
    return sorted(found, key=lambda standing: (standing.machine, standing.view, standing.mean))


def table(found: Sequence[Standing], view: str) -> Table:
    """A line for each policy, the mean and the worst for each machine, and the lead of ours over the next best."""
    machines = sorted({standing.machine for standing in found})
    made = Table(title=f"Slowdown, mean / slowest guest: {view}", title_justify="left")
    made.add_column("policy")
    for machine in machines:
        made.add_column(machine.partition("-")[0], justify="right")
    at = {(each.machine, each.policy): each for each in found if each.view == view}
    names = list(dict.fromkeys(each.policy for each in found if each.view == view))
    for name in sorted(names, key=ROWS.index):
        cells = (at[machine, name] for machine in machines)
        made.add_row(name, *(f"{each.mean:.3f} / {each.worst:.2f}" for each in cells))
    made.add_section()
    made.add_row("lead in the mean", *(_lead(found, machine, view) for machine in machines))
    return made


def _lead(found: Sequence[Standing], machine: str, view: str) -> str:
    """By how much less ours slows guests down than the best of the others."""
    here = [each for each in found if each.machine == machine and each.view == view]
    (ours,) = (each for each in here if each.policy == DEFAULT_POLICY)
    best = min((each for each in here if _policy_of(each.policy) != DEFAULT_POLICY), key=lambda each: each.mean)
    return f"{best.mean / ours.mean - 1.0:+.1%} {best.policy}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m domicile.bench.against_baselines", description=__doc__)
    parser.add_argument("--machines", nargs="+", choices=MACHINES, default=MACHINES)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="loads of each kind on each machine")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="every outcome as it comes, a line each")
    asked = parser.parse_args()
    wanted = product(range(asked.seeds), asked.kinds, asked.machines)
    cases = [Case(machine, kind, seed) for seed, kind, machine in wanted]
    columns = (TextColumn("loads"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("loads", total=len(cases))

        def done(more: Sequence[Outcome]) -> None:
            progress.advance(task)
            for outcome in more if asked.json else ():
                print(msgspec.json.encode(outcome).decode(), flush=True)

        outcomes = compare(cases, processes=asked.processes, each=done)
    if asked.json:
        return
    found = standings(outcomes)
    for view in VIEWS:
        Console().print(table(found, view))


if __name__ == "__main__":
    main()
