"""Traffic that memory work causes, as an engine charges it to the machine; and whole pages by shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["PAGE_BYTES", "Flow", "apportion", "copy_flows", "pages_per_s"]

PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Flow:
    """`gbs` GB/s (10^9 bytes) on average over a step, between the CPUs of a node and the memory of a node."""

    cpu_node: int
    memory_node: int
    gbs: float


def copy_flows(pages: float, source: int, target: int, cpu_node: int, dt_s: float) -> tuple[Flow, ...]:
    """What copying so many pages in a step is: a CPU reads the one node and writes to the other."""
    gbs = pages * PAGE_BYTES / dt_s / 1e9
    return (Flow(cpu_node, source, gbs), Flow(cpu_node, target, gbs)) if pages > 0 else ()


def pages_per_s(gbs: float) -> float:
    """Pages a second at so many GB/s."""
    return gbs * 1e9 / PAGE_BYTES


def apportion(total: int, weights: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """`total` in whole parts as the weights are: largest remainders, the first of equals. Zeros if all weights are.

    No part exceeds its weight unless the total exceeds their sum.
    """
    exact = [int(weight) for weight in weights]
    whole = sum(exact)
    if whole <= 0:
        return np.zeros(len(exact), dtype=np.int64)
    parts = [total * weight // whole for weight in exact]
    by_remainder = sorted(range(len(exact)), key=lambda at: (-(total * exact[at] % whole), at))
    for at in by_remainder[: total - sum(parts)]:
        parts[at] += 1
    return np.array(parts, dtype=np.int64)
