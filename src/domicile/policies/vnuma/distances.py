"""The distances between virtual nodes: the machine's between their pnodes, scaled so that local is 10.

Linux throws a SLIT away unless the diagonal is 10 and everything else more (`slit_valid`, drivers/acpi/numa/srat.c),
and takes 255 for unreachable; libxl wants none smaller than the local one (`libxl__vnuma_config_check`, Xen 4.17). So
two virtual nodes of one pnode are 11 apart, and nothing is further than 254.
"""

from __future__ import annotations

from collections.abc import Sequence

from domicile.topology.model import Topology

__all__ = ["FURTHEST", "LOCAL", "virtual_distances"]

LOCAL = 10
NEAREST_OTHER = 11
FURTHEST = 254


def virtual_distances(topology: Topology, pnodes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The matrix for virtual nodes on these pnodes (ids), row by row.

    From measured latencies where all between these nodes were measured, else from the SLIT, else 20 for remote. A row
    is from the CPU's node, as in a SLIT; where the machine is symmetric the result is.
    """
    ways = _measured(topology, pnodes) or [[float(topology.distance(a, b)) for b in pnodes] for a in pnodes]
    # one scale for all rows: with a scale of its own for each, rounding could break the symmetry
    local = sum(ways[index][index] for index in range(len(pnodes))) / len(pnodes)
    return tuple(
        tuple(LOCAL if i == j else _entry(way / local) for j, way in enumerate(row)) for i, row in enumerate(ways)
    )


def _entry(relative: float) -> int:
    return min(max(round(LOCAL * relative), NEAREST_OTHER), FURTHEST)


def _measured(topology: Topology, pnodes: Sequence[int]) -> list[list[float]] | None:
    """Latencies in ns between these nodes, None where one is not known."""
    if topology.latency_ns is None:
        return None
    rows = []
    for a in pnodes:
        row = [topology.latency_ns[topology.node_index[a]][topology.node_index[b]] for b in pnodes]
        known = [way for way in row if way is not None and way > 0]
        if len(known) != len(row):
            return None
        rows.append(known)
    return rows
