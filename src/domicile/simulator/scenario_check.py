"""Whether a scenario can be meant: all that can be said of it without knowing the machine."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from domicile.errors import BadInput
from domicile.simulator.memory.boot import DmaPolicy, XenPolicy
from domicile.simulator.memory.coldpool import PoolPolicy
from domicile.simulator.scenario import OFF, Scenario, ScenarioBalloon, ScenarioEvent, ScenarioWorkload
from domicile.simulator.workloads import PATTERNS, WORKLOADS
from domicile.state.request import SharingMode, TieringMode
from domicile.toml_file import unit_of
from domicile.topology.model import Topology

__all__ = ["NO_POLICY", "Checker", "check_scenario"]

NO_POLICY = "none"
"""The policy that leaves everything to Xen: no affinity, memory from all nodes."""

SCHEDULERS = ("credit2", "credit", "numa")
EVENTS = ("pin", "soft", "move_memory", "balloon_mib", "migrate", "demand")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}")
MAX_DOMAINS, MAX_VCPUS = 4096, 16384
LONGEST_S = 366 * 24 * 3600.0


def check_scenario(scenario: Scenario, source: str, policies: Iterable[str]) -> Scenario:
    """The same scenario, checked. Raises `BadInput` with the key at fault."""
    check = Checker(source)
    check.one_of("policy", scenario.policy, [*policies, NO_POLICY])
    check.one_of("scheduler", scenario.scheduler, SCHEDULERS)
    check.number("duration_s", scenario.duration_s, 0.01, LONGEST_S)
    check.number("warm_up_s", scenario.warm_up_s, 0.0, LONGEST_S)
    check.number("epoch_s", scenario.epoch_s, 0.01, 3600.0)
    check.number("seed", scenario.seed, 0, (1 << 63) - 1)
    check.printable("title", scenario.title)
    check.printable("machine", scenario.machine)
    check.number("dom0.memory_mib", scenario.dom0.memory_mib, 64, 1 << 24)
    check.number("dom0.weight", scenario.dom0.weight, 1, 65535)
    _check_memory(check, scenario)
    if scenario.dom0.vcpus is not None:
        check.number("dom0.vcpus", scenario.dom0.vcpus, 1, 4096)
    for index, workload in enumerate(scenario.workloads):
        _check_workload(check, workload, f"workload[{index}]")
    known = [*WORKLOADS, *(workload.name for workload in scenario.workloads)]
    check.one_of("dom0.workload", scenario.dom0.workload, known)
    names = _check_domains(check, scenario, known)
    for index, event in enumerate(scenario.events):
        _check_event(check, event, f"event[{index}]", names, known, scenario)
    return scenario


def _check_domains(check: Checker, scenario: Scenario, workloads: Sequence[str]) -> set[str]:
    """What can be said of the domains without knowing the machine; their names."""
    if not scenario.domains:
        raise BadInput(check.source, "no [[domain]] is there", "domain")
    seen = {"Domain-0"}
    vcpus = 0
    for index, domain in enumerate(scenario.domains):
        place = f"domain[{index}]"
        check.number(f"{place}.count", domain.count, 1, MAX_DOMAINS)
        check.number(f"{place}.vcpus", domain.vcpus, 1, 512)
        check.number(f"{place}.memory_mib", domain.memory_mib, 1, 1 << 28)
        check.number(f"{place}.start_s", domain.start_s, 0.0, LONGEST_S)
        check.number(f"{place}.every_s", domain.every_s, 0.0, LONGEST_S)
        check.number(f"{place}.weight", domain.weight, 1, 65535)
        check.number(f"{place}.cap", domain.cap, 0, 100 * domain.vcpus)
        check.one_of(f"{place}.workload", domain.workload, workloads)
        if domain.end_s is not None:
            last_s = domain.start_s + (domain.count - 1) * domain.every_s
            check.number(f"{place}.end_s", domain.end_s, last_s, LONGEST_S)
        if domain.memory_nodes == ():
            raise BadInput(check.source, "names no node; leave it out or give some", f"{place}.memory_nodes")
        _check_balloon(check, domain.balloon, f"{place}.balloon")
        vcpus += domain.count * domain.vcpus
        if vcpus > MAX_VCPUS:
            raise BadInput(check.source, f"{vcpus} vCPUs up to here; {MAX_VCPUS} can be", f"{place}.count")
        for name in domain.names:
            if not NAME.fullmatch(name) or name in seen:
                problem = "is there twice" if name in seen else "letters, digits, '_', '.' and '-' make a name"
                raise BadInput(check.source, f"{name!r}: {problem}", f"{place}.name")
            seen.add(name)
    for index, domain in enumerate(scenario.domains):
        for peer in domain.peers:
            check.one_of(f"domain[{index}].peers", peer, sorted(seen))
    return seen


def _check_workload(check: Checker, workload: ScenarioWorkload, place: str) -> None:
    check.one_of(f"{place}.like", workload.like, list(WORKLOADS))
    if workload.pattern is not None:
        check.one_of(f"{place}.pattern", workload.pattern, list(PATTERNS))
    shares = ("amplitude", "memory_bound", "read_fraction", "working_set", "hot_memory", "hot_accesses")
    for key in shares:
        if (share := getattr(workload, key)) is not None:
            check.number(f"{place}.{key}", share, 0.0, 1.0)
    for key, least, most in (
        ("level", 0.0, 1.0),
        ("on_s", 0.02, LONGEST_S),
        ("off_s", 0.02, LONGEST_S),
        ("peak_h", 0.0, 24.0),
        ("traffic_gbs", 0.0, 1000.0),
        ("cache_mib", 0.0, 1e6),
        ("dirty_mib_s", 0.0, 1e6),
        ("messages_per_s", 0.0, 1e8),
    ):
        if (value := getattr(workload, key)) is not None:
            check.number(f"{place}.{key}", value, least, most)


def _check_memory(check: Checker, scenario: Scenario) -> None:
    """Where Xen's own memory and DMA buffers are, page sharing and the cold-page pool."""
    check.one_of("xen_memory", scenario.xen_memory, list(map(str, XenPolicy)))
    check.one_of("dom0.dma_buffers", scenario.dom0.dma_buffers, list(map(str, DmaPolicy)))
    check.number("dom0.dma_mib", scenario.dom0.dma_mib, 1, scenario.dom0.memory_mib)
    sharing, pool, tiering = scenario.sharing, scenario.cold_pool, scenario.tiering
    for key in ("mode", "policy"):
        if (mode := getattr(sharing, key)) is not None:
            check.one_of(f"sharing.{key}", mode, list(map(str, SharingMode)))
    if sharing.mode is not None and sharing.policy is not None:
        raise BadInput(check.source, "mode and policy are the same; give one of them", "sharing.policy")
    check.one_of("tiering.mode", tiering.mode, list(map(str, TieringMode)))
    check.number("tiering.spare_mib", tiering.spare_mib, 0, 1 << 28)
    if OFF not in (tiering.mode, pool.policy):
        raise BadInput(check.source, "tiering and cold_pool are the same; give one of them", "cold_pool.policy")
    check.number("sharing.scan_mib_s", sharing.scan_mib_s, 0.0, 1e5)
    check.number("sharing.written_mib_s", sharing.written_mib_s, 0.0, 1e5)
    check.one_of("cold_pool.policy", pool.policy, [OFF, *map(str, PoolPolicy)])
    check.number("cold_pool.spare_mib", pool.spare_mib, 0, 1 << 28)
    for table, nodes in (("cold_pool", pool.far_nodes), ("tiering", tiering.far_nodes)):
        if nodes == ():
            raise BadInput(check.source, "names no node; leave it out or give some", f"{table}.far_nodes")
    for index, domain in enumerate(scenario.domains):
        place = f"domain[{index}]"
        check.number(f"{place}.equal_pages", domain.equal_pages, 0.0, 1.0)
        if domain.io is not None:
            check.number(f"{place}.io.gbs", domain.io.gbs, 0.0, 1000.0)
            check.number(f"{place}.io.bound", domain.io.bound, 0.0, 100.0)
        cold = domain.cold
        if cold is None:
            continue
        check.number(f"{place}.cold.ephemeral", cold.ephemeral, 0.0, 1.0)
        check.number(f"{place}.cold.persistent", cold.persistent, 0.0, round(1.0 - cold.ephemeral, 9))
        check.number(f"{place}.cold.put_mib_s", cold.put_mib_s, 0.0, 1e5)
        check.number(f"{place}.cold.get_mib_s", cold.get_mib_s, 0.0, 1e5)


def _check_balloon(check: Checker, balloon: ScenarioBalloon, place: str) -> None:
    check.number(f"{place}.delay_s", balloon.delay_s, 0.0, LONGEST_S)
    check.number(f"{place}.rate_mib_s", balloon.rate_mib_s, 0.01, 1e6)
    check.number(f"{place}.least_mib", balloon.least_mib, 0, 1 << 28)
    check.number(f"{place}.kept_share", balloon.kept_share, 0.0, 1.0)


def _check_event(
    check: Checker, event: ScenarioEvent, place: str, names: set[str], workloads: Sequence[str], scenario: Scenario
) -> None:
    check.number(f"{place}.at_s", event.at_s, 0.0, scenario.warm_up_s + scenario.duration_s)
    check.one_of(f"{place}.domain", event.domain, sorted(names))
    for key in ("move_memory", "migrate"):
        if getattr(event, key) == ():
            raise BadInput(check.source, "names no node", f"{place}.{key}")
    if event.migrate is not None and event.domain == "Domain-0":
        raise BadInput(check.source, "Dom0 cannot be migrated; move_memory can be tried on it", f"{place}.migrate")
    if event.migrate is not None and event.move_memory is not None:
        raise BadInput(check.source, "give move_memory or migrate, not both", f"{place}.migrate")
    check.number(f"{place}.rate_gbs", event.rate_gbs, 0.001, 1000.0)
    if event.balloon_mib is not None:
        check.number(f"{place}.balloon_mib", event.balloon_mib, 1, 1 << 28)
    if event.demand is not None:
        check.one_of(f"{place}.demand", event.demand, workloads)
    if event.busy_vcpus is not None:
        if event.demand is None:
            raise BadInput(check.source, "give demand too: what they are busy with", f"{place}.busy_vcpus")
        check.number(f"{place}.busy_vcpus", event.busy_vcpus, 0, 4096)
    if all(getattr(event, key) is None for key in EVENTS):
        raise BadInput(check.source, f"nothing is to be done; give one of {', '.join(EVENTS)}", place)


class Checker:
    """Checks of single values, with the file's name in the message."""

    def __init__(self, source: str) -> None:
        self.source = source

    def one_of(self, place: str, value: object, known: Sequence[object]) -> None:
        """The value is one of those known."""
        if value not in known:
            near = difflib.get_close_matches(str(value), [str(each) for each in known], 1)
            right = f"did you mean {near[0]!r}? " if near else ""
            shown = ", ".join(map(str, known[:40])) or "none"
            raise BadInput(self.source, f"there is no {value!r}; {right}there are {shown}", place)

    def number(self, place: str, value: float, least: float, most: float) -> None:
        """The value is in its range, and a number at all."""
        if not least <= value <= most:
            raise BadInput(self.source, f"{value:.7g}; {least:.7g} to {most:.7g}{unit_of(place)} can be", place)

    def printable(self, place: str, value: str) -> None:
        """The text can be shown."""
        if not value.isprintable() or len(value) > 500:
            raise BadInput(self.source, "up to 500 printable characters can be", place)

    def fits(self, place: str, memory_mib: int, topology: Topology) -> None:
        """The machine has that much memory."""
        whole = sum(node.memory_mib for node in topology.nodes)
        if memory_mib > whole:
            name = topology.name or topology.source
            raise BadInput(self.source, f"{memory_mib} MiB; {name} has {whole} MiB altogether", place)
