"""What policies predict of page sharing and tiering beside what the simulator gives: `python -m domicile.bench.modes`.

Machines that come along with domicile, each half full of guests with one workload (or two), in every mode. Who places
them, and where their vCPUs run, is left to libxl and credit, as policies are to be right about hosts as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

from domicile.bench.side_by_side import Figures, compare
from domicile.simulator.scenario import Scenario
from domicile.toml_file import decode_toml
from domicile.topology.detect import read_topology

__all__ = ["LOADS", "MACHINES", "Case", "cases", "errors", "scenario", "table"]

MACHINES = ("ivybridge-2n", "haswell-ex-4n", "genoa-9224-nps2-cxl", "opteron-8n48c")
LOADS = ("specjbb", "key-value", "stream", "specjbb+database")
GUESTS_PER_NODE = 3
GUEST_SHARE = 0.18
"""Of a node's memory, for each guest."""

HOST = """
machine = "{machine}"
scheduler = "credit"
warm_up_s = 30
duration_s = {seconds}
seed = 1

[sharing]
scan_mib_s = 2000
"""

GUESTS = """
[[domain]]
name = "{name}"
count = {count}
vcpus = {vcpus}
memory_mib = {memory_mib}
workload = "{workload}"
equal_pages = 0.3
cold = {{ephemeral = 0.1, persistent = 0.05, put_mib_s = 500, get_mib_s = 30}}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One mode on one machine under one load."""

    machine: str
    load: str
    mode: str
    predicted: Figures
    simulated: Figures


def scenario(machine: str, load: str, seconds: float = 30.0) -> Scenario:
    """Guests of the load's workloads in turn on a machine."""
    topology = read_topology(machine)
    nodes = [node for node in topology.nodes if topology.cpus_by_node[node.id]]
    workloads = load.split("+")
    count = len(nodes) * GUESTS_PER_NODE // len(workloads)
    text = HOST.format(machine=machine, seconds=seconds)
    for number, workload in enumerate(workloads):
        text += GUESTS.format(
            name=f"g{number}-",
            count=count,
            vcpus=max(len(topology.cpus) // (len(nodes) * GUESTS_PER_NODE * 2), 1),
            memory_mib=int(min(node.memory_mib for node in nodes) * GUEST_SHARE),
            workload=workload,
        )
    return decode_toml(text.encode(), f"{load} on {machine}", Scenario)


def cases(machine: str, load: str, seconds: float = 30.0) -> Iterator[Case]:
    """All modes but off on a machine under a load; far memory only where there is some."""
    asked = scenario(machine, load, seconds)
    topology = read_topology(machine)
    far = any(node.memory_mib and not topology.cpus_by_node[node.id] for node in topology.nodes)
    tiers = ["off", "other-nodes", *(["far-memory"] if far else [])]
    for key, values in (("sharing.mode", ["off", "same-node", "any-node"]), ("tiering.mode", tiers)):
        for row in compare(asked, f"{load} on {machine}", key, values).rows[1:]:
            if row.predicted is not None:
                yield Case(machine, load, row.value, row.predicted, row.simulated)


def errors(found: Sequence[Case], of: Callable[[Figures], float]) -> list[float]:
    """Predicted less simulated, of each case."""
    return [of(each.predicted) - of(each.simulated) for each in found]


def table(found: Iterable[Case]) -> Table:
    """All cases, predicted / simulated."""
    shown = Table("machine", "load", "mode", "freed MiB", "room MiB", "mean slowdown", "lost", "remote")
    for each in found:
        first, second = each.predicted, each.simulated
        shown.add_row(
            each.machine,
            each.load,
            each.mode,
            f"{first.freed_mib} / {second.freed_mib}",
            f"{first.room_mib} / {second.room_mib}",
            f"{first.mean_slowdown:.3f} / {second.mean_slowdown:.3f}",
            f"{_lost(first):.3f} / {_lost(second):.3f}",
            f"{first.remote_share:.1%} / {second.remote_share:.1%}",
        )
    return shown


def main(machines: Sequence[str]) -> None:
    """Print all cases of these machines, and the errors by mode."""
    found = [case for machine in machines or MACHINES for load in LOADS for case in cases(machine, load)]
    console = Console(width=150)
    console.print(table(found))
    summary = Table("mode", "cases", "freed, median and worst", "mean slowdown", "lost", "remote share")
    for mode in dict.fromkeys(case.mode for case in found):
        mine = [case for case in found if case.mode == mode]
        parts = [
            [_relative(each) for each in mine],
            *([abs(error) for error in errors(mine, of)] for of in (_mean, _lost, _remote)),
        ]
        summary.add_row(mode, str(len(mine)), *(f"{median(part):.4f} {max(part):.4f}" for part in parts))
    console.print(summary)


def _relative(case: Case) -> float:
    """Error of what is freed, as a share of it."""
    predicted, simulated = case.predicted.freed_mib or 0, case.simulated.freed_mib or 0
    return abs(predicted - simulated) / max(abs(simulated), 1)


def _mean(figures: Figures) -> float:
    return figures.mean_slowdown


def _lost(figures: Figures) -> float:
    return figures.mean_loss or 0.0


def _remote(figures: Figures) -> float:
    return figures.remote_share


if __name__ == "__main__":
    main(sys.argv[1:])
