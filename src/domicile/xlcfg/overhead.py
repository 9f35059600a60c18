"""What a guest needs beside its memory, as libxl counts it before it creates (and places) a domain.

Source: Xen 4.17 to 4.23, x86: tools/libs/light/libxl_mem.c (`libxl__domain_need_memory_calculate`), libxl_create.c
(`libxl__get_required_paging_memory`, `libxl__get_required_iommu_memory`, the defaults), libxl_x86.c
(`libxl__arch_passthrough_mode_setdefault`), libxl_internal.h (the constants).

libxl rounds what a domain needs up to 2 MiB and takes memory in MiB, so a number of MiB is exact.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from domicile.state.model import DomainType
from domicile.state.request import GuestRequest
from domicile.xlcfg.lexer import shown
from domicile.xlcfg.syntax import Config

__all__ = ["Hardware", "libxl_need_kib", "overhead_mib", "says_vcpus", "video_mib"]

PV_EXTRA_KIB = 1024
HVM_EXTRA_KIB = 2048
STUBDOMAIN_MIB = {"qemu-xen": 128, "qemu-xen-traditional": 28}
LARGE_PAGE_KIB = 2048
PAGES_PER_TABLE = 512
TABLE_LEVELS = 4
MOST_MIB = 1 << 20

VIDEO_MIB = {
    "qemu-xen": {"none": 0, "stdvga": 16, "cirrus": 8, "qxl": 128},
    "qemu-xen-traditional": {"none": 0, "stdvga": 8, "cirrus": 4},
}
"""Device model and kind of VGA to the least video memory, which is the default too (cirrus on the traditional device
model has 4 MiB whatever is asked for, and libxl counts what is asked for)."""

PASSTHROUGH = ("default", "disabled", "enabled", "sync_pt", "share_pt")


@dataclass(frozen=True, slots=True)
class Hardware:
    """What of the host libxl's figure depends on; `xl info` names both among its `virt_caps` (hap,
    iommu_hap_pt_share). The default is a host with HAP whose IOMMU has page tables of its own: it needs more."""

    hap: bool = True
    shared_iommu_tables: bool = False

    @classmethod
    def of(cls, virt_caps: Collection[str]) -> Self:
        """From the words of `virt_caps`."""
        return cls("hap" in virt_caps, "iommu_hap_pt_share" in virt_caps)


def libxl_need_kib(request: GuestRequest) -> int:
    """The KiB that libxl's own NUMA placement looks for, to the KiB."""
    return request.need_mib * 1024


def overhead_mib(
    config: Config,
    kind: DomainType,
    max_vcpus: int,
    memory_mib: int,
    max_memory_mib: int,
    hardware: Hardware,
) -> int:
    """MiB that a domain needs beyond its memory. Raises `BadInput` for video memory or a passthrough mode that libxl
    refuses for it."""
    hap = kind is not DomainType.PV and _default(config.flag("hap"), hardware.hap)
    extra_kib = PV_EXTRA_KIB if kind is DomainType.PV else HVM_EXTRA_KIB
    extra_kib += _paging_kib(config, kind, max_vcpus, max_memory_mib, hap)
    if _iommu_mode(config, kind, max_memory_mib > memory_mib, hap, hardware) == "sync_pt":
        extra_kib += _iommu_kib(max_memory_mib)
    extra_kib += _device_model_kib(config, kind)
    need_kib = memory_mib * 1024 + extra_kib
    need_kib += -need_kib % LARGE_PAGE_KIB
    return need_kib // 1024 - memory_mib


def says_vcpus(config: Config) -> bool:
    """Whether a config says how many vCPUs there are; `xl` before 4.22 gets on badly with one that does not."""
    vnuma = config.items("vnuma")
    return config.number("vcpus") is not None or bool(config.number("maxvcpus") or (vnuma and vnuma.values))


def video_mib(config: Config, kind: DomainType) -> int:
    """MiB of video memory, a part of the guest's memory. Raises `BadInput` as `overhead_mib` does."""
    return _video_mib(config, kind, _device_model(config, kind))


def _device_model(config: Config, kind: DomainType) -> str:
    """The device model's version."""
    version = config.string("device_model_version")
    if version is None:
        stubdomain = bool(config.flag("device_model_stubdomain_override"))
        version = "qemu-xen-traditional" if stubdomain and kind is DomainType.HVM else "qemu-xen"
    if version not in VIDEO_MIB:
        raise config.error("device_model_version", f"{shown(version)} is none of {', '.join(VIDEO_MIB)}")
    return version


def _default(given: bool | None, otherwise: bool) -> bool:
    return otherwise if given is None else given


def _paging_kib(config: Config, kind: DomainType, max_vcpus: int, max_memory_mib: int, hap: bool) -> int:
    """The pool for shadow or HAP page tables: 1 MiB for each vCPU and a page for each MiB, twice, or once less for PV
    and once less with HAP. libxl counts it for PV guests too, which have no shadow until they are migrated."""
    given = config.number("shadow_memory")
    if given is not None:
        if not 0 <= given <= MOST_MIB:
            raise config.error("shadow_memory", f"{given} MiB cannot be")
        return given * 1024
    if not says_vcpus(config):
        # libxl works this out before it defaults to one vCPU (which xl itself does from 4.22 on)
        max_vcpus = 0
    pages_per_mib = (kind is not DomainType.PV) + (not hap)
    return 4 * (256 * max_vcpus + pages_per_mib * max_memory_mib)


def _iommu_mode(config: Config, kind: DomainType, populate_on_demand: bool, hap: bool, hardware: Hardware) -> str:
    """The passthrough mode that libxl settles for."""
    mode = (config.string("passthrough") or "default").lower()
    if mode not in PASSTHROUGH:
        raise config.error("passthrough", f"{shown(mode)} is none of {', '.join(PASSTHROUGH)}")
    key = next((key for key in ("pci", "dtdev") if (items := config.items(key)) and items.values), "")
    if mode == "disabled" and key:
        raise config.error(key, "devices, and passthrough is disabled")
    if mode == "default":
        mode = "enabled" if key else "disabled"
    if mode == "disabled":
        return mode
    key = key or "passthrough"
    if kind is DomainType.PVH:
        raise config.error(key, "libxl passes no devices through to PVH guests")
    if kind is DomainType.HVM and populate_on_demand:
        raise config.error(key, "libxl passes no devices through to an HVM guest with maxmem above memory")
    if mode == "share_pt" and (kind is DomainType.PV or not hap):
        raise config.error("passthrough", "share_pt is for HVM guests with HAP only")
    if mode == "enabled":
        return "share_pt" if hap and hardware.shared_iommu_tables else "sync_pt"
    return mode


def _iommu_kib(max_memory_mib: int) -> int:
    """Page tables of four levels for the IOMMU."""
    pages, tables = max_memory_mib * 256, 0
    for _ in range(TABLE_LEVELS):
        pages = -(-pages // PAGES_PER_TABLE)
        tables += pages
    return tables * 4


def _device_model_kib(config: Config, kind: DomainType) -> int:
    """A stub domain's memory and, with one, the video memory; without one the video memory is part of the guest's."""
    stubdomain = bool(config.flag("device_model_stubdomain_override"))
    version = _device_model(config, kind)
    video = _video_mib(config, kind, version)
    if not stubdomain or kind is DomainType.PV:
        return 0
    stubdomain_mib = config.number("stubdomain_memory")
    if stubdomain_mib is None:
        stubdomain_mib = STUBDOMAIN_MIB[version]
    if not 0 < stubdomain_mib <= MOST_MIB:
        raise config.error("stubdomain_memory", f"{stubdomain_mib} MiB cannot be")
    return (stubdomain_mib + video) * 1024


def _video_mib(config: Config, kind: DomainType, version: str) -> int:
    """Video memory. Raises `BadInput` where libxl wants more of it."""
    given = config.number("videoram")
    if given is not None and not 0 <= given <= MOST_MIB:
        raise config.error("videoram", f"{given} MiB cannot be")
    if kind is not DomainType.HVM:
        return given or 0
    vga = config.string("vga")
    if vga is None:
        vga = "stdvga" if config.flag("stdvga") else "cirrus"
    if vga not in VIDEO_MIB["qemu-xen"]:
        raise config.error("vga", f"{shown(vga)} is none of {', '.join(VIDEO_MIB['qemu-xen'])}")
    least = VIDEO_MIB[version].get(vga)
    if least is None:
        raise config.error("vga", f"{vga} needs device_model_version qemu-xen")
    fixed = version == "qemu-xen-traditional" and vga == "cirrus"
    if given is not None and given < least and not fixed:
        raise config.error("videoram", f"{given} MiB; {vga} needs at least {least}")
    return least if given is None else given
