"""A snapshot as Dom0 sends it: what `xl` printed, still unread, and the figures that need no reading."""

from __future__ import annotations

from typing import Any

import msgspec

from domicile.errors import HostFailed
from domicile.state.model import Reservation
from domicile.state.moves import MoveEnd, MoveOrder

__all__ = [
    "DomainConfig",
    "Measured",
    "RawMemoryMap",
    "RawMove",
    "RawSnapshot",
    "SchedParams",
    "VnumaNode",
    "decode_raw",
]


class VnumaNode(msgspec.Struct, frozen=True):
    """libxl_vnode_info (tools/libs/light/libxl_types.idl). libxl leaves out what is 0."""

    memkb: int = 0
    distances: tuple[int, ...] = ()
    pnode: int = 0
    vcpus: tuple[int, ...] = ()


class SchedParams(msgspec.Struct, frozen=True):
    """libxl_domain_sched_params; -1 is libxl's "unset"."""

    weight: int = -1
    cap: int = -1


class PciDevice(msgspec.Struct, frozen=True):
    """libxl_device_pci."""

    domain: int = 0
    bus: int = 0
    dev: int = 0
    func: int = 0

    @property
    def address(self) -> str:
        """`dddd:bb:dd.f`."""
        return f"{self.domain:04x}:{self.bus:02x}:{self.dev:02x}.{self.func:x}"


class DomainConfig(msgspec.Struct, frozen=True):
    """The essence of a libxl_domain_config (`dom0.agent.configurations`). `backends` are bridges and disks' paths."""

    type: str | None = None
    max_memkb: int | None = None
    vnuma_nodes: tuple[VnumaNode, ...] = ()
    sched_params: SchedParams = SchedParams()
    pcidevs: tuple[PciDevice, ...] = ()
    backends: tuple[str, ...] = ()


class Measured(msgspec.Struct, frozen=True):
    """What only Xen's Python bindings tell: `pcpu_idle_ns` by CPU id, `vcpu_time_ns` by domain, then vCPU; by domain,
    from xenstore, what its balloon driver is to bring it to and when it was started; `traffic_bytes` by domain, since
    this connection first saw it counted (`dom0.agent.traffic`)."""

    pcpu_idle_ns: tuple[int, ...] = ()
    vcpu_time_ns: dict[int, tuple[int, ...]] = {}
    weights: dict[int, SchedParams] = {}
    target_kb: dict[int, int] = {}
    started_at: dict[int, float] = {}
    traffic_bytes: dict[int, int] = {}


class RawMemoryMap(msgspec.Struct, frozen=True):
    """A dump of debug key `u`: the console's text from its heading on."""

    age_s: float
    duration_s: float
    text: str


class MoveResult(msgspec.Struct, frozen=True):
    """How a move ended (`dom0.mover`)."""

    ended: MoveEnd
    why: str = ""


class RawMove(msgspec.Struct, frozen=True):
    """A move as it stands, in `RawSnapshot.moves`; `result` once it has ended."""

    order: MoveOrder
    stage: str = ""
    done_mib: int = 0
    result: MoveResult | None = None


class RawSnapshot(msgspec.Struct, frozen=True):
    """All of one round trip. `taken_at` is Dom0's clock; `programs` counts the subprocesses it took.

    `moves` are read one by one: another version of domicile may have left one in a form of its own.
    `holds` are lines "UUID.VCPU BEFORE GIVEN" with lists of CPUs, `manager` is who manages the host, `halted` why
    nobody may.
    `pci_devices` are the addresses that Dom0 sees in /sys/bus/pci/devices, `pci_classes` their class codes there,
    `assignable_devices` what is in the folder of the driver pciback, `backing` the devices behind bridges and disks.
    """

    taken_at: float
    host_id: str
    generation: str
    reservations: tuple[Reservation, ...]
    domains: str
    vcpus: str
    cpupools: str
    info: str
    configs: dict[int, DomainConfig]
    schedulers: str = ""
    claims: str = ""
    measured: Measured = Measured()
    memory_map: RawMemoryMap | None = None
    holds: tuple[str, ...] = ()
    manager: str = ""
    moves: tuple[dict[str, Any], ...] = ()
    saved: tuple[str, ...] = ()
    halted: str = ""
    pci_devices: tuple[str, ...] = ()
    backing: dict[str, str] = {}
    pci_classes: dict[str, str] = {}
    assignable_devices: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    programs: int = 0
    seconds: float = 0.0


def decode_raw(answer: Any, where: str) -> RawSnapshot:
    """The answer as a record. Raises `HostFailed` where it is none."""
    try:
        return msgspec.convert(answer, RawSnapshot, strict=False)
    except msgspec.ValidationError as error:
        raise HostFailed(f"{where}: its snapshot makes no sense: {error}") from error
