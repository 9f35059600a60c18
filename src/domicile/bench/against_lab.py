"""The simulator beside the real Xen: `python -m domicile.bench.against_lab`.

The scenarios that `domicile lab measure` and `domicile simulate` both have, measured once in the lab (against_lab.toml,
which says on what) and simulated now, with several seeds: the share of the guests' accesses that are remote, and the
share of their time that vCPUs ran on the nodes that their affinity names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import msgspec
from rich.console import Console
from rich.table import Table

from domicile.policies.registry import POLICIES, policy
from domicile.simulator.run import simulate
from domicile.simulator.scenario import load_scenario
from domicile.simulator.scenario_check import NO_POLICY, check_scenario
from domicile.simulator.scenario_host import event_cpus, guests_of
from domicile.topology.detect import read_topology
from domicile.xlcfg.affinity import parse_cpus

__all__ = ["Comparison", "Measured", "Spread", "compare", "measured", "simulated", "table"]

SEEDS = range(16)


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario as the lab saw it: shares 0 to 1, one for each window, all guests together."""

    scenario: str
    remote: tuple[float, ...]
    home: tuple[float, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    measured: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """Figures of several windows, or of several seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return sum(self.values) / len(self.values)

    def __str__(self) -> str:
        return f"{self.mean:.1%} ({min(self.values):.0%} to {max(self.values):.0%})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A scenario: remote share and home share, as (measured, simulated)."""

    measured: Measured
    remote: tuple[Spread, Spread]
    home: tuple[Spread, Spread]


def measured() -> tuple[Measured, ...]:
    """What was measured in the lab."""
    text = (files(__package__) / "against_lab.toml").read_bytes()
    return msgspec.toml.decode(text, type=_File).measured


def simulated(scenario: str, seeds: Sequence[int] = SEEDS) -> tuple[Spread, Spread]:
    """Remote share and home share of a scenario's guests, weighted by how long each ran, for each seed."""
    remote, home = [], []
    for seed in seeds:
        asked = msgspec.structs.replace(load_scenario(scenario), seed=seed)
        check_scenario(asked, scenario, POLICIES)
        topology = read_topology(asked.machine)
        place = None if asked.policy == NO_POLICY else policy(asked.policy)
        events = event_cpus(asked, topology, scenario, parse_cpus)
        found = simulate(asked, topology, guests_of(asked, topology, scenario, parse_cpus), place, events)
        ran = [(guest.cpus * guest.there_s, guest) for guest in found.domains[1:]]
        whole = sum(weight for weight, _ in ran)
        remote.append(sum(weight * (guest.remote_share or 0.0) for weight, guest in ran) / whole)
        home.append(sum(weight * (guest.home_share or 0.0) for weight, guest in ran) / whole)
    return Spread(tuple(remote)), Spread(tuple(home))


def compare(seeds: Sequence[int] = SEEDS) -> list[Comparison]:
    """All scenarios that were measured."""
    found = []
    for each in measured():
        remote, home = simulated(each.scenario, seeds)
        found.append(Comparison(each, (Spread(each.remote), remote), (Spread(each.home), home)))
    return found


def table(comparisons: Sequence[Comparison]) -> Table:
    """For people."""
    made = Table(title="Remote accesses of guests, and vCPU time at home", title_justify="left")
    made.add_column("scenario", no_wrap=True)
    for heading in ("remote, lab", "simulated", "at home, lab", "simulated"):
        made.add_column(heading, justify="right")
    for each in comparisons:
        made.add_row(each.measured.scenario, *map(str, (*each.remote, *each.home)))
    return made


if __name__ == "__main__":
    Console().print(table(compare()))
