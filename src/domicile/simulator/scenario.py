"""A scenario file: the machine, its domains, what they do, who places them, for how long.

title = "three guests left to Xen"
machine = "4node"                 # a preset, or any file that `domicile topology` reads (looked for beside this one)
scheduler = "credit2"             # credit2, credit, or numa: one that knows where memory is
policy = "libxl"                  # who places a domain that has no affinity: libxl, domicile, none
duration_s = 60
warm_up_s = 0                     # simulated, but not counted
epoch_s = 1                     # how often the performance model looks
seed = 1
xen_memory = "local-stacks"       # Xen's own: boot-node (4.5), local-stacks (4.6 to 4.20), local (4.21)

[sharing]                         # of pages with equal content; left out: off
mode = "any-node"                 # off, same-node, any-node (`policy` is the same)
scan_mib_s = 20                   # how much the scanner looks at
written_mib_s = 0.1               # how much of what it shares a domain writes to

[tiering]                         # of pages that guests do not use; left out: off
mode = "far-memory"               # off, other-nodes: none of the guest's own nodes, far-memory: far_nodes only
far_nodes = [4]                   # left out: the nodes that have memory and no CPUs
spare_mib = 64                    # what it leaves free of every node

[cold_pool]                       # the same in the pool's words, with the same keys; one of both
policy = "far"                    # off, any-node, not-own (other-nodes), far (far-memory)

[dom0]
vcpus = 4                         # left out: one for each pCPU, 16 at most
memory_mib = 768
workload = "dom0"
dma_buffers = "dom0"              # of its devices: dom0 (anywhere in its memory), low (below 4 GiB), near-device
dma_mib = 64                      # of each device

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
devices = ["0000:41:00.0"]        # passed through
io = {device = "0000:41:00.0", gbs = 2, bound = 0.5}      # its traffic; through Dom0 if the device is not its own
peers = ["db"]                    # domains that it talks to
trace = "1019"                    # the recorded VM that it follows, with --traces
balloon = {delay_s = 5, rate_mib_s = 100, least_mib = 512, kept_share = 0.2}      # how its balloon driver answers
equal_pages = 0.3                 # share of its memory whose content all domains of its workload have
sharing = "same-node"             # for this domain instead of the host's mode; `tiering` likewise
cold = {ephemeral = 0.2, persistent = 0.1, put_mib_s = 100, get_mib_s = 1}        # what it puts into the cold pool

[[workload]]
name = "light"
like = "busy"                     # all else as there
level = 0.2
pattern = "on-off"                # constant, on-off, diurnal
on_s = 0.5

[[event]]
at_s = 20
domain = "web1"
pin = "nodes:2"                   # or soft, or move_memory = [2], or balloon_mib = 512, or migrate = [2]: to the host
                                  # itself, live, or by save and restore if it is a PV domain
rate_gbs = 1.0                    # of move_memory and migrate

[[event]]
at_s = 30
domain = "web1"                   # or "Domain-0"
demand = "idle"                   # from now on it wants as much CPU as this workload does; what that CPU time does to
                                  # memory stays as it was
busy_vcpus = 1                    # only so many of its vCPUs, the others are idle; left out: all
"""

from __future__ import annotations

import msgspec

from domicile.state.model import DomainType
from domicile.state.request import SharingMode, TieringMode
from domicile.toml_file import TomlKind, decode_toml

__all__ = [
    "OFF",
    "Dom0",
    "Scenario",
    "ScenarioBalloon",
    "ScenarioCold",
    "ScenarioDomain",
    "ScenarioEvent",
    "ScenarioIo",
    "ScenarioPool",
    "ScenarioSharing",
    "ScenarioTiering",
    "ScenarioWorkload",
    "load_scenario",
    "scenario_names",
]

OFF = "off"
"""The policy of a host that shares no pages, or has no cold-page pool."""

KIND = TomlKind("scenario", "domicile.simulator", "scenarios")


class Dom0(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dom0; see the module."""

    vcpus: int | None = None
    memory_mib: int = 1024
    workload: str = "dom0"
    weight: int = 256
    dma_buffers: str = "dom0"
    dma_mib: int = 64


class ScenarioBalloon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a domain's balloon driver answers: after `delay_s`, at `rate_mib_s`, never below `least_mib`; of what it is
    asked to give it keeps `kept_share`."""

    delay_s: float = 0.1
    rate_mib_s: float = 1024.0
    least_mib: int = 0
    kept_share: float = 0.0


class ScenarioCold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a domain puts into the cold-page pool; see `guests.ColdUse`."""

    ephemeral: float = 0.0
    persistent: float = 0.0
    put_mib_s: float = 100.0
    get_mib_s: float = 1.0


class ScenarioIo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A domain's traffic through a device; see `guests.DeviceUse`."""

    device: str
    gbs: float
    bound: float = 0.5


class ScenarioSharing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Page sharing; see `page_sharing.SharingOptions`. `mode` and `policy` are the same, one of both."""

    mode: str | None = None
    policy: str | None = None
    scan_mib_s: float = 20.0
    written_mib_s: float = 0.1

    @property
    def chosen(self) -> str:
        """The host's mode."""
        return self.mode or self.policy or OFF


class ScenarioPool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cold-page pool; see `cold_pages.PoolOptions`."""

    policy: str = OFF
    far_nodes: tuple[int, ...] | None = None
    spare_mib: int = 64


class ScenarioTiering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same in an administrator's words."""

    mode: str = OFF
    far_nodes: tuple[int, ...] | None = None
    spare_mib: int = 64


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
    balloon: ScenarioBalloon = ScenarioBalloon()
    equal_pages: float = 0.0
    cold: ScenarioCold | None = None
    io: ScenarioIo | None = None
    sharing: SharingMode | None = None
    tiering: TieringMode | None = None

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
    migrate: tuple[int, ...] | None = None
    rate_gbs: float = 1.0
    demand: str | None = None
    busy_vcpus: int | None = None


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
    xen_memory: str = "local-stacks"
    dom0: Dom0 = Dom0()
    sharing: ScenarioSharing = ScenarioSharing()
    cold_pool: ScenarioPool = ScenarioPool()
    tiering: ScenarioTiering = ScenarioTiering()
    workloads: tuple[ScenarioWorkload, ...] = ()
    events: tuple[ScenarioEvent, ...] = ()


def scenario_names() -> list[str]:
    """The scenarios that come with domicile."""
    return KIND.names()


def load_scenario(named: str) -> Scenario:
    """The scenario of a preset's name or of a file, not yet checked; a machine's file that it names is looked for
    beside it. Raises `BadInput` if there is no such, or it has a key that is none."""
    scenario = decode_toml(KIND.read(named), named, Scenario)
    return msgspec.structs.replace(scenario, machine=KIND.beside(named, scenario.machine))
