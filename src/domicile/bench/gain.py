"""What a manager gains over hours: `python -m domicile.bench.gain`.

On every measured machine guests come and go (`arrivals`) under credit2, once under each of `CONTENDERS`: the same
guests, at the same times, doing the same work. Memory moves by live migration, which is what Xen has, at
the same rate for whoever moves it; its traffic is in everybody's way. Those "by page" have what numad and ESXi have on
their own hypervisors, and no manager on Xen: pages that follow one by one while the guest runs.

A figure is over guest-minutes: each minute of each guest that did something in it has a slowdown, (time run + time
waited) / work done. `cost` weighs them by the work done: the time that all work together took, over what it would have
taken at best. Moves are changes of the nodes that a domain is to run on, after the first; a hold that ends with the
manager is none.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from domicile.bench.against_baselines import MACHINES, PLACEMENT_ALONE
from domicile.bench.arrivals import Arrivals, come_and_go
from domicile.bench.daemons import Daemon, Esxi, Manager, Nobody, Numad
from domicile.bench.live_host import LiveHost
from domicile.bench.loads import DOM0
from domicile.bench.outcomes import Lost
from domicile.policies.plan import PlacementPlan
from domicile.policies.registry import DEFAULT_POLICY, policy
from domicile.simulator.engine import Simulation
from domicile.simulator.epoch import Epoch
from domicile.simulator.placing import Place
from domicile.simulator.scheduler.stepper import SchedulerKind
from domicile.simulator.traces import read_traces
from domicile.state.model import Snapshot
from domicile.state.request import GuestRequest
from domicile.topology.presets import load_preset

__all__ = ["CONTENDERS", "Case", "Contender", "Gain", "compare", "gain_of", "table"]

SECONDS_PER_HOUR = 3600
MINUTE_S = 60.0
LEAST_WORK_S = 0.05
"""A guest-minute with less work than this says nothing: a wake-up of a guest that sleeps."""
HALF_LIFE_S = 10.0
"""Of what placement is told of the load, as `domicile create --window` measures it."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Who places guests (None: Xen alone), and who keeps watch over them; whether the host counts memory traffic, which
    Xen can on Intel's processors from Broadwell on."""

    policy: str | None
    daemon: str
    counts_traffic: bool = False


CONTENDERS: Mapping[str, Contender] = {
    DEFAULT_POLICY: Contender(DEFAULT_POLICY, "manager"),
    "domicile, traffic counted": Contender(DEFAULT_POLICY, "manager", counts_traffic=True),
    PLACEMENT_ALONE: Contender(DEFAULT_POLICY, "nobody"),
    "Xen alone": Contender(None, "nobody"),
    "libxl": Contender("libxl", "nobody"),
    "numad, daemon": Contender("libxl", "numad"),
    "like ESXi": Contender("libxl", "esxi"),
    "numad, by page": Contender("libxl", "numad by page"),
    "like ESXi, by page": Contender("libxl", "esxi by page"),
}
"""By name. numad has no placement of its own for guests that Xen starts, and ESXi's, which balances CPU and memory
load, is what libxl's comes to on one node."""


@dataclass(frozen=True, slots=True)
class Case:
    """A stream of guests: machine, seed and how long it lasts."""

    machine: str
    seed: int
    hours: float


@dataclass(frozen=True, slots=True)
class Gain:
    """What became of a case under a contender: mean and 99th percentile of slowdown over `minutes` guest-minutes, all
    time over all work (`cost`), moves, and memory that moved."""

    case: Case
    contender: str
    minutes: int
    mean: float
    p99: float
    cost: float
    moves: int
    moved_gib: float


class _Minutes:
    """Slowdowns by guest and minute, and how busy each guest is."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._spent, self._work = np.zeros(len(names)), np.zeros(len(names))
        self._busy = np.zeros(len(names))
        self._until_s = MINUTE_S
        self.slowdowns: list[float] = []
        self.spent_s, self.work_s = 0.0, 0.0

    def add(self, epoch: Epoch) -> None:
        """One more epoch; Dom0 does not count."""
        ran = epoch.ran_s.sum(axis=1)
        self._spent += ran + epoch.waited_s
        self._work += epoch.work_s
        passed_s = epoch.end_s - epoch.start_s
        wanted, kept = (ran + epoch.waited_s) / passed_s, 0.5 ** (passed_s / HALF_LIFE_S)
        # who has just started counts as it was so far, not as if it had been idle before
        self._busy = np.where(self._busy > 0.0, kept * self._busy + (1.0 - kept) * wanted, wanted)
        if epoch.end_s >= self._until_s - 1e-9:
            self._until_s += MINUTE_S
            worked = np.flatnonzero(self._work[1:] >= LEAST_WORK_S) + 1
            self.slowdowns += (self._spent[worked] / self._work[worked]).tolist()
            self.spent_s += float(self._spent[1:].sum())
            self.work_s += float(self._work[1:].sum())
            self._spent[:], self._work[:] = 0.0, 0.0

    def demand(self) -> dict[str, float]:
        """vCPUs of each guest that wanted to run of late, of those that have."""
        return {name: float(busy) for name, busy in zip(self._names, self._busy, strict=True) if busy > 0.0}


def gain_of(case: Case, name: str, arrivals: Arrivals) -> Gain:
    """A case under a contender. Raises `Lost` where a guest found no place: the comparison would be of unlike loads."""
    contender, topology = CONTENDERS[name], load_preset(case.machine).topology
    guests = (DOM0, *arrivals.guests)
    minutes = _Minutes([guest.name for guest in guests])
    place = None if contender.policy is None else _placing(contender.policy, minutes)
    simulation = Simulation(
        topology, guests, SchedulerKind.CREDIT2, place, seed=case.seed, traces=dict(arrivals.traces)
    )
    host = LiveHost(simulation, minutes.add, counts_traffic=contender.counts_traffic)
    with _watching(contender.daemon, host) as daemon:
        while simulation.now_s < case.hours * SECONDS_PER_HOUR:
            daemon.round()
        moves = daemon.moves
    if simulation.refused:
        raise Lost("; ".join(f"{guest}: {why}" for guest, why in simulation.refused.items()))
    return Gain(
        case=case,
        contender=name,
        minutes=len(minutes.slowdowns),
        mean=float(np.mean(minutes.slowdowns)),
        p99=float(np.quantile(minutes.slowdowns, 0.99)),
        cost=minutes.spent_s / minutes.work_s,
        moves=moves,
        moved_gib=host.moved_bytes / 2**30,
    )


def _placing(name: str, minutes: _Minutes) -> Place:
    decide = policy(name)

    def place(snapshot: Snapshot, requests: Sequence[GuestRequest]) -> PlacementPlan:
        return decide(snapshot, requests, load=minutes.demand())

    return place


@contextmanager
def _watching(daemon: str, host: LiveHost) -> Iterator[Daemon]:
    if daemon == "manager":
        with Manager.of(host) as manager:
            yield manager
    else:
        others: Mapping[str, Callable[[], Daemon]] = {
            "nobody": lambda: Nobody(host),
            "numad": lambda: Numad(host, host.rehome),
            "esxi": lambda: Esxi(host, host.rehome),
            "numad by page": lambda: Numad(host, host.rehome_by_page),
            "esxi by page": lambda: Esxi(host, host.rehome_by_page),
        }
        yield others[daemon]()


def compare(
    cases: Iterable[Case],
    trace: Path | None = None,
    contenders: Sequence[str] = tuple(CONTENDERS),
    processes: int = 1,
    each: Callable[[Gain], None] = lambda _: None,
) -> list[Gain]:
    """All contenders on these cases; `each` is called with every figure as it comes. `trace`: recorded VMs."""
    wanted = list(product(cases, contenders))
    if processes == 1:
        found = []
        for case, name in wanted:
            gain = _one(case, name, trace)
            each(gain)
            found.append(gain)
        return found
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        waiting = [pool.submit(_one, case, name, trace) for case, name in wanted]
        for done in as_completed(waiting):
            each(done.result())
        return [done.result() for done in waiting]


def _one(case: Case, name: str, trace: Path | None) -> Gain:
    recorded = read_traces(trace) if trace else None
    arrivals = come_and_go(load_preset(case.machine).topology, case.seed, case.hours * SECONDS_PER_HOUR, recorded)
    return gain_of(case, name, arrivals)


def table(found: Sequence[Gain], machine: str) -> Table:
    """A line for each contender on a machine: averages over seeds, sums of moves and bytes over an hour."""
    made = Table(title=machine, title_justify="left")
    made.add_column("")
    for heading in ("mean slowdown", "99th percentile", "time over work", "moves an hour", "GiB moved an hour"):
        made.add_column(heading, justify="right")
    for name in dict.fromkeys(each.contender for each in found):
        rows = [each for each in found if each.contender == name and each.case.machine == machine]
        hours = sum(each.case.hours for each in rows)
        made.add_row(
            name,
            *(f"{np.mean([getattr(each, what) for each in rows]):.3f}" for what in ("mean", "p99", "cost")),
            f"{sum(each.moves for each in rows) / hours:.0f}",
            f"{sum(each.moved_gib for each in rows) / hours:.0f}",
        )
    return made


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m domicile.bench.gain", description=__doc__)
    parser.add_argument("--machine", nargs="+", choices=MACHINES, default=MACHINES)
    parser.add_argument("--hours", type=float, default=2.0, help="simulated hours (2)")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="streams of guests (0)")
    parser.add_argument("--trace", type=Path, help="recorded VMs to replay, Parquet as OpenDC keeps them")
    parser.add_argument("--contender", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="every figure as it comes, a line each")
    asked = parser.parse_args()
    cases = [Case(machine, seed, asked.hours) for machine, seed in product(asked.machine, asked.seed)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("simulating", total=len(cases) * len(asked.contender))

        def done(gain: Gain) -> None:
            progress.update(task, advance=1, description=f"{gain.case.machine}, {gain.contender}")
            if asked.json:
                print(msgspec.json.encode(gain).decode(), flush=True)

        found = compare(cases, asked.trace, asked.contender, asked.processes, done)
    if not asked.json:
        for machine in asked.machine:
            Console().print(table(found, machine))


if __name__ == "__main__":
    main()
