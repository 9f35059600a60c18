"""What the administrator asks for: guests to be placed, and what `xl.cfg` has no word for.

A `GuestRequest` is what placement needs to know of one `xl.cfg`; an `Intent` is the administrator's TOML file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from domicile.state.mandate import Mandate
from domicile.state.model import DomainType, Vnode

__all__ = [
    "Character",
    "DevicePolicy",
    "Group",
    "GroupKind",
    "GuestRequest",
    "Intent",
    "SharingMode",
    "TieringMode",
    "VnumaMode",
    "VnumaWish",
]


@dataclass(frozen=True, slots=True)
class GuestRequest:
    """A guest to be placed, as its configuration asks.

    `memory_mib` is what it starts with and `max_memory_mib` what it may grow to; `overhead_mib` is what Xen needs
    beside it (shadow or HAP pool, video memory, libxl's slack). `hard_affinity` and `soft_affinity` are what the
    configuration itself sets: one entry for every vCPU, None where it says nothing; they are never overridden.
    `vnodes` is a virtual topology that the configuration sets. `devices` are the PCI addresses passed through.
    `numa_placement` is whether `xl` would let libxl place it: an affinity given as a list, even of equal sets, and
    vnodes on pnodes switch that off; None where nobody looked. `kernel_arguments` is its kernel's command line.
    `backends` are the bridges (by name) and disks (by path) that Dom0 serves it.
    `video_mib` is the video memory, which is part of `memory_mib` and of virtual node 0; `acpi` whether it gets ACPI
    tables, where a guest finds its virtual nodes. `recorded` is a virtual topology that it had before and is to keep.
    """

    name: str
    type: DomainType
    vcpus: int
    max_vcpus: int
    memory_mib: int
    max_memory_mib: int
    overhead_mib: int = 0
    hard_affinity: tuple[frozenset[int], ...] | None = None
    soft_affinity: tuple[frozenset[int], ...] | None = None
    devices: tuple[str, ...] = ()
    vnodes: tuple[Vnode, ...] = ()
    cpupool: str = "Pool-0"
    weight: int = 256
    cap_percent: int = 0
    uuid: str = ""
    source: str = ""
    numa_placement: bool | None = None
    kernel_arguments: str = ""
    backends: tuple[str, ...] = ()
    video_mib: int = 0
    acpi: bool = True
    recorded: tuple[Vnode, ...] = ()

    @property
    def need_mib(self) -> int:
        """Memory that has to be free for it to start."""
        return self.memory_mib + self.overhead_mib


class GroupKind(StrEnum):
    """What the members of a group want of each other."""

    TOGETHER = "together"
    """On the same node if at all possible."""
    NEAR = "near"
    """The nearer the better."""
    APART = "apart"
    """Not on the same node."""


@dataclass(frozen=True, slots=True)
class Group:
    """Domains that want something of each other; `weight` 1.0 is as important as a group gets by default."""

    name: str
    kind: GroupKind
    domains: tuple[str, ...]
    weight: float = 1.0


class DevicePolicy(StrEnum):
    """How much a passed-through device's node counts."""

    REQUIRED = "required"
    PREFERRED = "preferred"
    IGNORED = "ignored"


class VnumaMode(StrEnum):
    """Who gets virtual nodes."""

    AUTO = "auto"
    """A guest that is wider than any node of the machine."""
    OFF = "off"
    """Nobody."""


class SharingMode(StrEnum):
    """Among whom pages of equal content are kept once."""

    OFF = "off"
    """Every domain has its own."""
    SAME_NODE = "same-node"
    """Among domains whose pages are on one node: nobody's accesses become remote."""
    ANY_NODE = "any-node"
    """Among all, wherever the one copy is."""


class TieringMode(StrEnum):
    """Where pages go that a domain does not use."""

    OFF = "off"
    """They stay where they are."""
    OTHER_NODES = "other-nodes"
    """To any node but those that the domain's memory prefers."""
    FAR_MEMORY = "far-memory"
    """To nodes with far memory: those without CPUs (CXL, persistent memory), or those that are named as such."""


VnumaWish = VnumaMode | int
"""What is wanted of a guest's virtual topology: a mode, or so many virtual nodes."""


@dataclass(frozen=True, slots=True)
class Character:
    """What the administrator knows of a domain and no host tells; None where nothing is said.

    `memory_bound`: the share of its time that it waits for memory, from 0 to 1. `traffic_gbs`: memory traffic of one of
    its vCPUs while it is busy. `busy_vcpus`: how many of its vCPUs want to run at once, for as long as nobody measured.
    """

    domain: str
    memory_bound: float | None = None
    traffic_gbs: float | None = None
    busy_vcpus: float | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """The administrator's intent that `xl.cfg` has no word for (`domicile.toml`).

    `vnuma` holds for all domains but those that `vnuma_by_domain` names, `sharing` and `tiering` likewise. `far_nodes`
    are node ids that are far memory, None for those that have memory and no CPUs. `mandate` is what the manager may do.
    """

    groups: tuple[Group, ...] = ()
    devices: DevicePolicy = DevicePolicy.PREFERRED
    domains: tuple[Character, ...] = ()
    vnuma: VnumaWish = VnumaMode.AUTO
    vnuma_by_domain: tuple[tuple[str, VnumaWish], ...] = ()
    sharing: SharingMode = SharingMode.OFF
    sharing_by_domain: tuple[tuple[str, SharingMode], ...] = ()
    tiering: TieringMode = TieringMode.OFF
    tiering_by_domain: tuple[tuple[str, TieringMode], ...] = ()
    far_nodes: tuple[int, ...] | None = None
    mandate: Mandate = Mandate()  # noqa: RUF009 - immutable

    def vnuma_of(self, domain: str) -> VnumaWish:
        """What is wanted of this domain's virtual topology."""
        return dict(self.vnuma_by_domain).get(domain, self.vnuma)

    def sharing_of(self, domain: str) -> SharingMode:
        """Among whom this domain's pages are shared."""
        return dict(self.sharing_by_domain).get(domain, self.sharing)

    def tiering_of(self, domain: str) -> TieringMode:
        """Where this domain's cold pages go."""
        return dict(self.tiering_by_domain).get(domain, self.tiering)
