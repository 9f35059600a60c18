"""What is to be fitted, and the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Fit", "HostNode", "NoFit", "Requirement", "VirtualNode"]

SMALL_PAGE_KIB = 4


@dataclass(frozen=True, slots=True)
class VirtualNode:
    """A node of the guest: `dedicated` vCPUs have a pCPU each to themselves; memory is in pages of `page_kib`."""

    vcpus: int
    memory_mib: int
    dedicated: bool = False
    page_kib: int = SMALL_PAGE_KIB


@dataclass(frozen=True, slots=True)
class HostNode:
    """A node of the host: `pcpus` for shared vCPUs, of which there are `shared_vcpus` already, and `free_pcpus` that
    nobody has to himself; `free_pages` by page size in KiB."""

    pcpus: int
    free_pcpus: int = 0
    shared_vcpus: int = 0
    free_pages: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Requirement:
    """Of something (devices of a kind, say) the chosen host nodes together must have `count`; each has `by_node`."""

    count: int
    by_node: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """The host node (its number) of each virtual node. `apart`: the sum of the distances between them, both ways;
    `proven`: no other choice has a smaller one."""

    nodes: tuple[int, ...]
    apart: float
    proven: bool


@dataclass(frozen=True, slots=True)
class NoFit:
    """Why not: these virtual nodes fit on these host nodes only, which are fewer. Both are empty where each could have
    a node, and only the requirements cannot be met."""

    virtual: tuple[int, ...]
    nodes: tuple[int, ...]
