"""Bipartite matching by augmenting paths, over bit masks, and the reason where there is none.

By Hall's theorem there is an assignment if and only if every group of virtual nodes has at least as many host nodes
that can bear one of them. Where the search for an augmenting path ends without one, the virtual nodes that it came to
are a group for which that is not so. H. W. Kuhn, "The Hungarian method for the assignment problem", Naval Research
Logistics Quarterly 2, 1955; P. Hall, "On representatives of subsets", J. London Math. Soc. 10, 1935.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["augment", "columns", "hall_violator", "match"]


def match(rows: Sequence[int]) -> list[int | None]:
    """A host node for each virtual node, as many as possible; None for one that gets none.

    Bit h of `rows[v]` says that host node h can bear virtual node v. The search ends with the first that gets none.
    """
    owner: dict[int, int] = {}
    of: list[int | None] = [None] * len(rows)
    for virtual in sorted(range(len(rows)), key=lambda v: (rows[v].bit_count(), v)):
        if not _give(rows, virtual, owner, [0]):
            break
    for node, virtual in owner.items():
        of[virtual] = node
    return of


def _give(rows: Sequence[int], virtual: int, owner: dict[int, int], seen: list[int]) -> bool:
    """Find this virtual node a host node, others moving where they can; `seen[0]`: nodes that were tried."""
    free = rows[virtual] & ~seen[0]
    while free:
        bit = free & -free
        seen[0] |= bit
        node = bit.bit_length() - 1
        if node not in owner or _give(rows, owner[node], owner, seen):
            owner[node] = virtual
            return True
        free = rows[virtual] & ~seen[0]
    return False


def hall_violator(rows: Sequence[int], of: Sequence[int | None]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Virtual nodes, and the host nodes that can bear one of them, which are fewer. `of` is a matching in which no path
    leads from the first virtual node (by number of choices) without a node to a free node."""
    owner = {node: virtual for virtual, node in enumerate(of) if node is not None}
    left_out = [virtual for virtual, node in enumerate(of) if node is None]
    start = min(left_out, key=lambda v: (rows[v].bit_count(), v))
    group, reached, waiting = {start}, 0, [start]
    while waiting:
        new = rows[waiting.pop()] & ~reached
        reached |= new
        for node in _bits(new):
            if owner[node] not in group:
                group.add(owner[node])
                waiting.append(owner[node])
    return tuple(sorted(group)), tuple(_bits(reached))


def columns(rows: Sequence[int], nodes: int) -> list[int]:
    """Bit v of entry h: host node h can bear virtual node v."""
    return [sum(1 << v for v, row in enumerate(rows) if row >> node & 1) for node in range(nodes)]


def augment(column: Sequence[int], node: int, holds: dict[int, int], seen: list[int]) -> bool:
    """Give host node `node` a virtual node, other host nodes changing theirs where they can; `holds` says which host
    node each virtual node has and changes on success only."""
    free = column[node] & ~seen[0]
    while free:
        bit = free & -free
        seen[0] |= bit
        virtual = bit.bit_length() - 1
        if virtual not in holds or augment(column, holds[virtual], holds, seen):
            holds[virtual] = node
            return True
        free = column[node] & ~seen[0]
    return False


def _bits(mask: int) -> list[int]:
    return [number for number in range(mask.bit_length()) if mask >> number & 1]
