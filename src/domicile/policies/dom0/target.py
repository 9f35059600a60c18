"""What is asked of Dom0's place: what a plan leaves behind, to be compared with after the boot."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Dom0Target"]


@dataclass(frozen=True, slots=True)
class Dom0Target:
    """Where Dom0 is to live. `options` are the words on Xen's command line that say so.

    `strict`: hard affinity to the nodes' pCPUs, else soft; `pin`: each vCPU on one of them.
    """

    nodes: tuple[int, ...]
    vcpus: int
    memory_mib: int
    strict: bool
    pin: bool
    options: tuple[str, ...]
