"""Measured latency and bandwidth between nodes, and what they say about a memory.

Units of the sources: Linux (Documentation/admin-guide/mm/numaperf.rst) and hwloc (`hwloc_memattr_id_e`,
include/hwloc/memattrs.h) both give bandwidth in MiB/s and latency in nanoseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from domicile.topology.model import MeasuredMatrix

__all__ = ["Figures", "figures_matrix", "gbs_of_mib_per_s", "mean_figure", "much_faster"]

Figures = Mapping[tuple[int, int], float]
"""By (node of the CPUs, node of the memory)."""

HBM_FACTOR = 2
"""How much more bandwidth than DRAM makes a memory HBM (hwloc__guess_dram_hbm_tiers, hwloc/memattrs.c)."""


def gbs_of_mib_per_s(figure: float) -> float:
    """GB/s of MiB/s."""
    return figure * (1 << 20) / 1e9


def mean_figure(read: float | None, write: float | None) -> float | None:
    """One figure of the two for reading and writing; 0 means that nobody measured."""
    known = [figure for figure in (read, write) if figure]
    return sum(known) / len(known) if known else None


def figures_matrix(nodes: Sequence[int], figures: Figures) -> MeasuredMatrix | None:
    """The figures in rows and columns of these nodes, None if there are none."""
    if not figures:
        return None
    return tuple(tuple(figures.get((cpus, memory)) for memory in nodes) for cpus in nodes)


def much_faster(bandwidth_gbs: Figures, candidates: Collection[int], ordinary: Collection[int]) -> set[int]:
    """Those of the candidates with more than twice the bandwidth of every ordinary node, where that is known."""
    best: dict[int, float] = {}
    for (_, memory), figure in bandwidth_gbs.items():
        best[memory] = max(figure, best.get(memory, 0.0))
    known = [best[node] for node in ordinary if node in best]
    if not known:
        return set()
    return {node for node in candidates if best.get(node, 0.0) > HBM_FACTOR * max(known)}
