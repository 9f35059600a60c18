"""A scenario run once for each value of one of its keys, what the policies predict beside what the simulation gives.

Where the key is a mode of page sharing or of tiering there is a prediction: from the host with that off (run besides if
it is not among the values), as it is at the end, with the load and the time on each node that were measured. So the
policy is told what a manager could see, besides the guests' use of their pages and how they lean on memory, which the
scenario says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from domicile.errors import BadInput
from domicile.policies.memory_load import IDLE
from domicile.policies.memory_modes import Choice, Effect
from domicile.policies.registry import POLICIES, policy
from domicile.policies.sharing import Scanner, choose_sharing
from domicile.policies.tiering import Pool, choose_tiering
from domicile.simulator.engine import Epoch, Simulation
from domicile.simulator.guests import GuestSpec
from domicile.simulator.run import simulate
from domicile.simulator.scenario import OFF, Scenario
from domicile.simulator.scenario_check import NO_POLICY, check_scenario
from domicile.simulator.scenario_host import check_traces, event_cpus, guests_of, host_options, machine_of
from domicile.simulator.totals import Summary
from domicile.simulator.traces import RecordedVm
from domicile.simulator.vary import vary
from domicile.state.model import Snapshot
from domicile.state.page_use import PageUse
from domicile.state.request import Character, Intent, SharingMode, TieringMode
from domicile.xlcfg.affinity import parse_cpus

__all__ = ["Figures", "Row", "SideBySide", "compare", "uses_of"]

LARGEST = 32
"""Values of one key at most."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a mode comes to: memory freed against `off` (None: without a run with that), the most that is free on a
    node with CPUs, slowdown of the guests that did something, what of it is lost against `off` on average (None
    likewise), and the share of their accesses that leave the node."""

    freed_mib: int | None
    room_mib: int
    mean_slowdown: float
    worst_slowdown: float
    mean_loss: float | None
    remote_share: float


@dataclass(frozen=True, slots=True)
class Row:
    """A value, what was simulated with it, and what was predicted (None: no policy says anything of this key)."""

    value: str
    summary: Summary
    simulated: Figures
    predicted: Figures | None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class SideBySide:
    """All values of a key. `choice`: the policy's, where the key is a host's mode."""

    key: str
    rows: tuple[Row, ...]
    choice: Choice | None


@dataclass(frozen=True, slots=True)
class _Observed:
    """A run: its summary, the host at its end, and of its counted time vCPUs busy at once and time by node."""

    scenario: Scenario
    guests: Sequence[GuestSpec]
    summary: Summary
    snapshot: Snapshot
    load: Mapping[str, float]
    ran: Mapping[str, Mapping[int, float]]


def compare(
    scenario: Scenario,
    source: str,
    key: str,
    values: Sequence[str],
    traces: Mapping[str, RecordedVm] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> SideBySide:
    """Run it with each value. `progress` is told how many runs are done, of how many. Raises `BadInput` where the key
    or a value cannot be; all values are checked before the first run."""
    if not 1 <= len(values) <= LARGEST or len(set(values)) < len(values):
        raise BadInput("--compare", f"give 1 to {LARGEST} values, each once", key)
    kind = _kind(key)
    before = _without(scenario, kind)
    wanted = [_checked(vary(scenario, key, value, source), source) for value in values]
    runs = dict(zip(values, wanted, strict=True))
    baseline = next((value for value, each in runs.items() if each == before), None)
    if kind and baseline is None:
        baseline, runs = "", {"": _checked(before, source), **runs}
    seen: dict[str, _Observed] = {}
    for value, each in runs.items():
        seen[value] = _observe(each, source, traces or {})
        progress(len(seen), len(runs))
    base = None if baseline is None else seen[baseline]
    choices = {value: _choice(base, each, kind) for value, each in runs.items()} if base and kind else {}
    rows = [_row(value, seen[value], base, choices.get(value), kind) for value in values]
    return SideBySide(key, tuple(rows), None if key.startswith("domain.") else choices.get(values[-1]))


def uses_of(guests: Sequence[GuestSpec]) -> list[PageUse]:
    """What a scenario says of its guests' pages, Dom0 left out."""
    found = []
    for guest in guests[1:]:
        cold, workload = guest.cold, guest.workload
        found.append(
            PageUse(
                guest.name,
                workload.name,
                guest.equal_pages,
                1.0 - workload.working_set * workload.hot_memory,
                *((0.0, 0.0) if cold is None else (cold.ephemeral, cold.persistent, cold.put_mib_s, cold.get_mib_s)),
            )
        )
    return found


def _kind(key: str) -> str:
    """Which policy has something to say of a key: "sharing", "tiering" or "" for none."""
    last = key.rpartition(".")[2]
    if key in ("sharing.mode", "sharing.policy") or (key.startswith("domain.") and last == "sharing"):
        return "sharing"
    return "tiering" if key == "tiering.mode" or (key.startswith("domain.") and last == "tiering") else ""


def _without(scenario: Scenario, kind: str) -> Scenario:
    """The scenario with sharing, or tiering, off for everybody."""
    if not kind:
        return scenario
    off = SharingMode.OFF if kind == "sharing" else TieringMode.OFF
    domains = tuple(
        msgspec.structs.replace(domain, **{kind: None if getattr(domain, kind) is None else off})
        for domain in scenario.domains
    )
    return msgspec.structs.replace(vary(scenario, f"{kind}.mode", OFF, ""), domains=domains)


def _checked(scenario: Scenario, source: str) -> Scenario:
    checked = check_scenario(scenario, source, POLICIES)
    topology = machine_of(checked, source)
    guests_of(checked, topology, source, parse_cpus)
    host_options(checked, topology, source)
    return checked


def _observe(scenario: Scenario, source: str, traces: Mapping[str, RecordedVm]) -> _Observed:
    topology = machine_of(scenario, source)
    guests = guests_of(scenario, topology, source, parse_cpus)
    check_traces(scenario, source, list(traces))
    last: list[Simulation] = []
    ran_s = np.zeros((len(guests), len(topology.nodes)))
    wanted_s = np.zeros(len(guests))
    there_s = np.zeros(len(guests))

    def watch(simulation: Simulation, epoch: Epoch) -> None:
        nonlocal ran_s, wanted_s, there_s
        last[:] = [simulation]
        if epoch.start_s >= scenario.warm_up_s - 1e-9:
            ran_s += epoch.ran_s
            wanted_s += epoch.ran_s.sum(axis=1) + epoch.waited_s
            there_s += epoch.active * (epoch.end_s - epoch.start_s)

    summary = simulate(
        scenario,
        topology,
        guests,
        None if scenario.policy == NO_POLICY else policy(scenario.policy),
        event_cpus(scenario, topology, source, parse_cpus),
        traces,
        options=host_options(scenario, topology, source),
        watch=watch,
    )
    ids = topology.node_ids
    return _Observed(
        scenario,
        guests,
        summary,
        last[0].snapshot(),
        {guest.name: float(wanted_s[row] / max(there_s[row], 1e-9)) for row, guest in enumerate(guests)},
        {guest.name: dict(zip(ids, ran_s[row].tolist(), strict=True)) for row, guest in enumerate(guests)},
    )


def _choice(base: _Observed, scenario: Scenario, kind: str) -> Choice:
    """What the policy says of a scenario, having seen the host without."""
    uses = uses_of(base.guests)
    bound = tuple(
        Character(guest.name, guest.workload.memory_bound, guest.workload.traffic_gbs) for guest in base.guests
    )
    since_s, after_s = scenario.warm_up_s, scenario.warm_up_s + scenario.duration_s
    own = [(name, domain) for domain in scenario.domains for name in domain.names]
    if kind == "sharing":
        by_domain = tuple((name, domain.sharing) for name, domain in own if domain.sharing is not None)
        sharing = Intent(domains=bound, sharing=SharingMode(scenario.sharing.chosen), sharing_by_domain=by_domain)
        scanner = Scanner(scenario.sharing.scan_mib_s, scenario.sharing.written_mib_s, after_s)
        return choose_sharing(base.snapshot, uses, sharing, load=base.load, ran=base.ran, scanner=scanner)
    tiering = Intent(
        domains=bound,
        tiering=TieringMode(scenario.tiering.mode),
        tiering_by_domain=tuple((name, domain.tiering) for name, domain in own if domain.tiering is not None),
        far_nodes=scenario.tiering.far_nodes,
    )
    pool = Pool(scenario.tiering.spare_mib, since_s, after_s)
    return choose_tiering(base.snapshot, uses, tiering, load=base.load, ran=base.ran, pool=pool)


def _row(value: str, seen: _Observed, base: _Observed | None, choice: Choice | None, kind: str) -> Row:
    simulated = _simulated(seen, base)
    if choice is None or base is None:
        return Row(value, seen.summary, simulated, None)
    mode = seen.scenario.sharing.chosen if kind == "sharing" else seen.scenario.tiering.mode
    effect = next(each for each in choice.effects if each.mode == mode)
    return Row(value, seen.summary, simulated, None if effect.refused else _predicted(effect), effect.refused)


def _free_mib(seen: _Observed) -> int:
    return sum(node.free_mib for node in seen.summary.nodes)


def _predicted(effect: Effect) -> Figures:
    return Figures(
        effect.freed_in_all_mib,
        effect.room_mib,
        effect.mean_slowdown,
        effect.worst_slowdown,
        effect.mean_loss,
        effect.remote_share,
    )


def _simulated(seen: _Observed, base: _Observed | None) -> Figures:
    topology = seen.snapshot.topology
    room = max(node.free_mib for node in seen.summary.nodes if topology.cpus_by_node[node.node])
    busy = [each for each in seen.summary.domains[1:] if each.slowdown is not None and seen.load[each.name] > IDLE]
    slowdowns = [each.slowdown for each in busy if each.slowdown is not None]
    before = {each.name: each.slowdown for each in base.summary.domains} if base else {}
    losses = [each.slowdown - was for each in busy if each.slowdown and (was := before.get(each.name)) is not None]
    weight = sum(seen.load[each.name] for each in busy)
    remote = sum((each.remote_share or 0.0) * seen.load[each.name] for each in busy)
    return Figures(
        None if base is None else _free_mib(seen) - _free_mib(base),
        room,
        sum(slowdowns) / len(slowdowns) if slowdowns else 1.0,
        max(slowdowns, default=1.0),
        sum(losses) / len(losses) if losses else None,
        remote / weight if weight else 0.0,
    )
