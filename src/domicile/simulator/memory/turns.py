"""Which nodes are asked in which order, and what each gives when a row of equal requests comes.

Source: `get_free_buddy` in xen/common/page_alloc.c and `cycle_node` in xen/include/xen/nodemask.h, Xen 4.17.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["cycle", "in_order", "in_turn"]


def cycle(nodes: tuple[int, ...], start: int) -> tuple[int, ...]:
    """The nodes from the first that is not below `start` on, round to it again (`cycle_node`, `next_node`)."""
    at = next((index for index, node in enumerate(nodes) if node >= start), 0)
    return nodes[at:] + nodes[:at]


def in_order(nodes: Sequence[int], limits: Mapping[int, int], count: int) -> tuple[dict[int, int], int | None]:
    """Requests that all start at the first node: it gives all it can, then the next. Blocks by node; who is last."""
    shares: dict[int, int] = {}
    last = None
    for node in nodes:
        share = min(limits[node], count)
        if share > 0:
            shares[node] = share
            count -= share
            last = node
    return shares, last


def in_turn(nodes: Sequence[int], limits: Mapping[int, int], count: int) -> tuple[dict[int, int], int | None]:
    """Requests that go round the nodes, past those that have nothing left. As `in_order`."""
    wanted = min(count, sum(limits[node] for node in nodes))
    rounds = _full_rounds([limits[node] for node in nodes], wanted)
    shares = {node: min(limits[node], rounds) for node in nodes}
    last = next((node for node in reversed(nodes) if rounds and limits[node] >= rounds), None)
    left = wanted - sum(shares.values())
    for node in nodes:
        if left and limits[node] > rounds:
            shares[node] += 1
            left -= 1
            last = node
    return {node: share for node, share in shares.items() if share}, last


def _full_rounds(limits: Sequence[int], count: int) -> int:
    """The most rounds in which everybody who still can gives one, with no more than `count` given in all."""
    rounds = 0
    given = 0
    for done, limit in enumerate(sorted(limits)):
        givers = len(limits) - done
        step = min(limit - rounds, (count - given) // givers)
        rounds += step
        given += step * givers
        if rounds < limit:
            break
    return rounds
