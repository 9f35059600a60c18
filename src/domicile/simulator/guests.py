"""Guests: what a domain is asked to be."""

from __future__ import annotations

from dataclasses import dataclass, field

from domicile.performance.assumptions import DEFAULT
from domicile.simulator.memory.balloon import USUAL_MANNERS, Manners
from domicile.simulator.workloads import WORKLOADS, Demand, Workload
from domicile.state.model import DomainType
from domicile.state.request import GuestRequest, SharingMode, TieringMode

__all__ = ["ColdUse", "DeviceUse", "GuestSpec"]


@dataclass(frozen=True, slots=True)
class ColdUse:
    """How a guest uses the cold-page pool: it puts `ephemeral` and `persistent` (shares of its memory), `put_mib_s` at
    most, and touches `get_mib_s` of what it has put again."""

    ephemeral: float = 0.0
    persistent: float = 0.0
    put_mib_s: float = 100.0
    get_mib_s: float = 1.0


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """What a guest moves through a device: `gbs`, reads and writes together. The device is passed through if it is
    among the guest's, else Dom0's backend serves the guest. `bound`: see `device_traffic`."""

    device: str
    gbs: float
    bound: float = DEFAULT.device_weight


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """A domain of a scenario.

    Affinity is in CPU ids of the topology, None for all; `memory_nodes` are node ids that its memory is to come from,
    None for where its affinity or the policy says. `sees_nodes`: it knows its virtual nodes and keeps accesses on them;
    a guest that does not spreads its accesses over all of its memory. `peers` are domains that it sends messages to.
    `trace` is the number of the recorded VM that its demand follows. Only its first `busy_vcpus` do the workload, the
    others idle; None for all. `balloon`: how its balloon driver answers. `equal_pages`: share of its memory whose
    content every domain of its workload has; `cold`: what it puts into the cold-page pool; `io`: its traffic through a
    device. `sharing` and `tiering`: its own modes, None for the host's. Dom0 is the first guest of a host.
    """

    name: str
    vcpus: int
    memory_mib: int
    workload: Workload
    type: DomainType = DomainType.PVH
    start_s: float = 0.0
    end_s: float = float("inf")
    weight: int = 256
    cap_percent: int = 0
    hard: frozenset[int] | None = None
    soft: frozenset[int] | None = None
    memory_nodes: tuple[int, ...] | None = None
    sees_nodes: bool = False
    devices: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    trace: str | None = None
    overhead_mib: int = 0
    busy_vcpus: int | None = None
    balloon: Manners = USUAL_MANNERS
    equal_pages: float = 0.0
    cold: ColdUse | None = None
    io: DeviceUse | None = None
    sharing: SharingMode | None = None
    tiering: TieringMode | None = None
    source: str = field(default="", compare=False)

    def demand(self, vcpu: int) -> Demand:
        """What a vCPU wants."""
        works = self.busy_vcpus is None or vcpu < self.busy_vcpus
        return (self.workload if works else WORKLOADS["idle"]).demand

    def request(self) -> GuestRequest:
        """What a placement policy is told of it."""
        return GuestRequest(
            name=self.name,
            type=self.type,
            vcpus=self.vcpus,
            max_vcpus=self.vcpus,
            memory_mib=self.memory_mib,
            max_memory_mib=self.memory_mib,
            overhead_mib=self.overhead_mib,
            hard_affinity=None if self.hard is None else (self.hard,) * self.vcpus,
            soft_affinity=None if self.soft is None else (self.soft,) * self.vcpus,
            devices=self.devices,
            weight=self.weight,
            cap_percent=self.cap_percent,
            source=self.source,
        )
