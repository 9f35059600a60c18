"""A scenario file: the machine, its domains, what they do, who places them, for how long.

title = "three guests left to Xen"
machine = "4node"                 # a preset, or any file that `domicile topology` reads (looked for beside this one)
scheduler = "credit2"             # credit2, credit, or numa: one that knows where memory is
policy = "libxl"                  # who places a domain that has no affinity: libxl, domicile, none
duration_s = 60
warm_up_s = 0                     # simulated, but not counted
epoch_s = 1                     # how often the performance model looks
seed = 1

[dom0]
vcpus = 4                         # left out: one for each pCPU, 16 at most
memory_mib = 768
workload = "dom0"

[[domain]]
name = "web"                      # with `count`, web1, web2, ...
count = 3
type = "pvh"                      # pv, pvh or hvm
vcpus = 2
memory_mib = 1024
workload = "web"                  # one of `domicile.simulator.workloads`, or of a [[workload]] here
start_s = 0                       # each copy `every_s` after the one before; without end_s it stays
every_s = 0
end_s = 30
weight = 256
cap = 0                           # percent of a pCPU, as in xl.cfg
hard = "nodes:1"                  # CPU lists as in xl.cfg's cpus and cpus_soft
soft = "0-3"
memory_nodes = [1]                # where its memory comes from first; left out: from its affinity, or the policy
sees_nodes = false                # a vNUMA guest that keeps its accesses on its nodes
devices = ["0000:41:00.0"]
peers = ["db"]                    # domains that it talks to
trace = "1019"                    # the recorded VM that it follows, with --traces

[[workload]]
name = "light"
like = "busy"                     # all else as there
level = 0.2
pattern = "on-off"                # constant, on-off, diurnal
on_s = 0.5

[[event]]
at_s = 20
domain = "web1"
pin = "nodes:2"                   # or soft, or move_memory = [2], or balloon_mib = 512
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from domicile.errors import BadInput
from domicile.simulator.guests import GuestSpec
from domicile.simulator.workloads import PATTERNS, WORKLOADS, Demand, Workload
from domicile.state.model import DomainType
from domicile.topology.model import Topology

__all__ = [
    "NO_POLICY",
    "EventCpus",
    "Scenario",
    "ScenarioEvent",
    "check_scenario",
    "check_traces",
    "event_cpus",
    "guests_of",
    "load_scenario",
    "read_scenario",
    "scenario_names",
]

NO_POLICY = "none"
"""The policy that leaves everything to Xen: no affinity, memory from all nodes."""

SCHEDULERS = ("credit2", "credit", "numa")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}")
MAX_DOMAINS, MAX_VCPUS = 4096, 16384
LONGEST_S = 366 * 24 * 3600.0
MAX_FILE_BYTES = 1 << 20
DOM0_VCPUS = 16

ParseCpus = Callable[[str, Topology, str, str], frozenset[int]]
"""A CPU list (`domicile.xlcfg.affinity.parse_cpus`): the text, the machine, the file's name and the key."""


EventCpus = tuple[frozenset[int] | None, frozenset[int] | None]
"""Hard and soft affinity that an event sets, None for what it leaves."""


class Dom0(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dom0; see the module."""

    vcpus: int | None = None
    memory_mib: int = 1024
    workload: str = "dom0"
    weight: int = 256


class ScenarioDomain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A domain, or several of a kind; see the module."""

    name: str
    count: int = 1
    type: DomainType = DomainType.PVH
    vcpus: int = 2
    memory_mib: int = 1024
    workload: str = "busy"
    start_s: float = 0.0
    every_s: float = 0.0
    end_s: float | None = None
    weight: int = 256
    cap: int = 0
    hard: str | None = None
    soft: str | None = None
    memory_nodes: tuple[int, ...] | None = None
    sees_nodes: bool = False
    devices: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    trace: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its copies."""
        return (self.name,) if self.count == 1 else tuple(f"{self.name}{number + 1}" for number in range(self.count))


class ScenarioWorkload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A workload that differs from a known one; see `domicile.simulator.workloads` for what each figure is."""

    name: str
    like: str = "busy"
    pattern: str | None = None
    level: float | None = None
    closed: bool | None = None
    on_s: float | None = None
    off_s: float | None = None
    amplitude: float | None = None
    peak_h: float | None = None
    memory_bound: float | None = None
    traffic_gbs: float | None = None
    read_fraction: float | None = None
    cache_mib: float | None = None
    working_set: float | None = None
    hot_memory: float | None = None
    hot_accesses: float | None = None
    dirty_mib_s: float | None = None
    messages_per_s: float | None = None


class ScenarioEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that is done to a domain at a time; see the module."""

    at_s: float
    domain: str
    pin: str | None = None
    soft: str | None = None
    move_memory: tuple[int, ...] | None = None
    balloon_mib: int | None = None


class Scenario(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"domains": "domain", "workloads": "workload", "events": "event"},
):
    """A scenario; see the module. `source` is what it is called in messages."""

    domains: tuple[ScenarioDomain, ...] = ()
    title: str = ""
    machine: str = "default"
    scheduler: str = "credit2"
    policy: str = "libxl"
    duration_s: float = 60.0
    warm_up_s: float = 0.0
    epoch_s: float = 1.0
    seed: int = 0
    dom0: Dom0 = Dom0()
    workloads: tuple[ScenarioWorkload, ...] = ()
    events: tuple[ScenarioEvent, ...] = ()


def scenario_names() -> list[str]:
    """The scenarios that come with domicile."""
    folder = files("domicile.simulator") / "scenarios"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_scenario(named: str, policies: Iterable[str]) -> Scenario:
    """The scenario of a preset's name or of a file; a machine's file that it names is looked for beside it.

    `policies` are the names that it may use. Raises `BadInput` if there is no such or it cannot be meant.
    """
    presets = scenario_names()
    if named in presets:
        text = (files("domicile.simulator") / "scenarios" / f"{named}.toml").read_bytes()
        return read_scenario(text, named, policies)
    path = Path(named)
    try:
        if not path.is_file():
            raise BadInput(named, f"no such scenario file, and none that comes along; those are {', '.join(presets)}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadInput(named, "more than 1 MiB is no scenario")
        scenario = read_scenario(path.read_bytes(), named, policies)
    except OSError as error:
        raise BadInput(named, f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise BadInput(repr(named), f"no file can be called that ({error})") from error
    beside = path.parent / scenario.machine
    return msgspec.structs.replace(scenario, machine=str(beside)) if beside.is_file() else scenario


def read_scenario(text: bytes, source: str, policies: Iterable[str]) -> Scenario:
    """Read and check a scenario. `source` is its name for messages. Raises `BadInput` with the key at fault."""
    try:
        scenario = msgspec.toml.decode(text, type=Scenario)
    except msgspec.ValidationError as error:
        raise _explained(str(error), source) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(source, f"not TOML: {error}") from error
    return check_scenario(scenario, source, policies)


def check_scenario(scenario: Scenario, source: str, policies: Iterable[str]) -> Scenario:
    """The same scenario, checked. Raises `BadInput` with the key at fault."""
    check = _Checker(source)
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
    if scenario.dom0.vcpus is not None:
        check.number("dom0.vcpus", scenario.dom0.vcpus, 1, 4096)
    for index, workload in enumerate(scenario.workloads):
        _check_workload(check, workload, f"workload[{index}]")
    known = [*WORKLOADS, *(workload.name for workload in scenario.workloads)]
    check.one_of("dom0.workload", scenario.dom0.workload, known)
    names = _check_domains(check, scenario, known)
    for index, event in enumerate(scenario.events):
        _check_event(check, event, f"event[{index}]", names, scenario)
    return scenario


def guests_of(scenario: Scenario, topology: Topology, source: str, parse_cpus: ParseCpus) -> list[GuestSpec]:
    """The scenario's domains on this machine, Dom0 first. Raises `BadInput` where the machine has no such CPU, node or
    device, or a domain is bigger than it."""
    workloads = _workloads(scenario)
    dom0 = scenario.dom0
    guests = [
        GuestSpec(
            "Domain-0",
            dom0.vcpus or min(len(topology.cpus), DOM0_VCPUS),
            dom0.memory_mib,
            workloads[dom0.workload],
            type=DomainType.PV,
            weight=dom0.weight,
            source=source,
        )
    ]
    check = _Checker(source)
    check.fits("dom0.memory_mib", dom0.memory_mib, topology)
    for index, asked in enumerate(scenario.domains):
        place = f"domain[{index}]"
        check.fits(f"{place}.memory_mib", asked.memory_mib, topology)
        hard = None if asked.hard is None else _cpus(parse_cpus, asked.hard, topology, source, f"{place}.hard")
        soft = None if asked.soft is None else _cpus(parse_cpus, asked.soft, topology, source, f"{place}.soft")
        for node in asked.memory_nodes or ():
            check.one_of(f"{place}.memory_nodes", node, topology.node_ids)
        for device in asked.devices:
            check.one_of(f"{place}.devices", device, [known.address for known in topology.devices])
        for number, name in enumerate(asked.names):
            guests.append(
                GuestSpec(
                    name,
                    asked.vcpus,
                    asked.memory_mib,
                    workloads[asked.workload],
                    type=asked.type,
                    start_s=asked.start_s + number * asked.every_s,
                    end_s=math.inf if asked.end_s is None else asked.end_s,
                    weight=asked.weight,
                    cap_percent=asked.cap,
                    hard=hard,
                    soft=soft,
                    memory_nodes=asked.memory_nodes,
                    sees_nodes=asked.sees_nodes,
                    devices=asked.devices,
                    peers=asked.peers,
                    trace=asked.trace,
                    source=source,
                )
            )
    return guests


def check_traces(scenario: Scenario, source: str, known: Sequence[str]) -> None:
    """Raise `BadInput` where a domain follows a recorded VM that is not among these."""
    for index, domain in enumerate(scenario.domains):
        if domain.trace is not None and not known:
            raise BadInput(source, "give the recording with --traces FILE.parquet", f"domain[{index}].trace")
        if domain.trace is not None:
            _Checker(source).one_of(f"domain[{index}].trace", domain.trace, known)


def event_cpus(scenario: Scenario, topology: Topology, source: str, parse_cpus: ParseCpus) -> list[EventCpus]:
    """The pCPUs that events name, hard and soft; raises `BadInput` where the machine has no such CPU or node."""
    check = _Checker(source)
    found: list[EventCpus] = []
    for index, event in enumerate(scenario.events):
        place = f"event[{index}]"
        for node in event.move_memory or ():
            check.one_of(f"{place}.move_memory", node, topology.node_ids)
        hard = None if event.pin is None else _cpus(parse_cpus, event.pin, topology, source, f"{place}.pin")
        soft = None if event.soft is None else _cpus(parse_cpus, event.soft, topology, source, f"{place}.soft")
        found.append((hard, soft))
    return found


def _cpus(parse_cpus: ParseCpus, text: str, topology: Topology, source: str, place: str) -> frozenset[int]:
    found = parse_cpus(text, topology, source, place)
    if not found:
        raise BadInput(source, f"{text!r} leaves no CPU to run on", place)
    return found


def _workloads(scenario: Scenario) -> dict[str, Workload]:
    """All workloads that the scenario can name."""
    known = dict(WORKLOADS)
    for asked in scenario.workloads:
        like = known[asked.like]
        given = {field: value for field in asked.__struct_fields__ if (value := getattr(asked, field)) is not None}
        of_demand = {field.name for field in fields(Demand)}
        demand = replace(like.demand, **{key: value for key, value in given.items() if key in of_demand})
        of_workload = {field.name for field in fields(Workload)} - {"name", "source", "demand"}
        rest: dict[str, Any] = {key: value for key, value in given.items() if key in of_workload}
        known[asked.name] = replace(
            like, name=asked.name, source=f"the scenario, like {like.name}", demand=demand, **rest
        )
    return known


def _check_domains(check: _Checker, scenario: Scenario, workloads: Sequence[str]) -> set[str]:
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


def _check_workload(check: _Checker, workload: ScenarioWorkload, place: str) -> None:
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


def _check_event(check: _Checker, event: ScenarioEvent, place: str, names: set[str], scenario: Scenario) -> None:
    check.number(f"{place}.at_s", event.at_s, 0.0, scenario.warm_up_s + scenario.duration_s)
    check.one_of(f"{place}.domain", event.domain, sorted(names))
    if event.move_memory == ():
        raise BadInput(check.source, "names no node", f"{place}.move_memory")
    if event.balloon_mib is not None:
        check.number(f"{place}.balloon_mib", event.balloon_mib, 1, 1 << 28)
    if not any(value is not None for value in (event.pin, event.soft, event.move_memory, event.balloon_mib)):
        raise BadInput(check.source, "nothing is to be done; give pin, soft, move_memory or balloon_mib", place)


class _Checker:
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
            raise BadInput(self.source, f"{value:g}; {least:g} to {most:g}{_unit(place)} can be", place)

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


UNITS = {"_s": " seconds", "_mib": " MiB", "_ms": " ms", "_gbs": " GB/s", "_h": " o'clock"}


def _unit(place: str) -> str:
    return next((unit for suffix, unit in UNITS.items() if place.endswith(suffix)), "")


def _explained(message: str, source: str) -> BadInput:
    """What msgspec found, with what would be right."""
    problem, _, place = message.partition(" - at `$")
    place = place.strip("`").removeprefix(".")
    unknown = re.search(r"unknown field `(.*)`", problem)
    if unknown:
        kinds = {"domain": ScenarioDomain, "workload": ScenarioWorkload, "event": ScenarioEvent, "dom0": Dom0}
        kind: Any = kinds.get(re.split(r"[.\[]", place)[0], Scenario)
        keys = kind.__struct_encode_fields__
        near = difflib.get_close_matches(unknown[1], keys, 1, 0.5)
        right = f"did you mean {near[0]!r}? " if near else ""
        at = f"{place}.{unknown[1]}" if place else unknown[1]
        return BadInput(source, f"no such key; {right}there are {', '.join(keys)}", at)
    unit = _unit(place)
    return BadInput(source, f"{problem}{f' (a number of{unit})' if unit else ''}", place)
