"""The first set of nodes that will do, in an order of the nodes: what first-fit-like baselines pick."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from domicile.policies.baselines.turns import Turn

__all__ = ["LOOKS", "first_set"]

LOOKS = 20_000
"""Nodes looked at before giving up on few nodes: a bound on odd cases (hard affinities of many kinds on 64 nodes)."""


def first_set(turn: Turn, order: Sequence[int], pcpus: float = 0.0) -> tuple[int, ...] | None:
    """The first of the smallest sets that fit and have so many pCPUs, sets being compared node by node in this order;
    all nodes where that takes too long to find. None where not even all fit.
    """
    if not turn.fits(order) or sum(turn.pcpus[node] for node in order) < pcpus:
        return None
    looks = iter(range(LOOKS))
    for size in range(1, len(order)):
        for nodes in _of_size(turn, order, size, pcpus, looks):
            if turn.fits(nodes):
                return nodes
    return tuple(order)


def _of_size(
    turn: Turn, order: Sequence[int], size: int, pcpus: float, looks: Iterator[int]
) -> Iterator[tuple[int, ...]]:
    """All sets of this size with enough memory and pCPUs, in order; those that cannot come to enough are not begun."""
    memory = [turn.free_mib[node] for node in order]
    cpus = [float(turn.pcpus[node]) for node in order]
    most_memory, most_cpus = _most(memory), _most(cpus)

    def further(start: int, chosen: tuple[int, ...], need: float, wanted: float) -> Iterator[tuple[int, ...]]:
        left = size - len(chosen) - 1
        for position in range(start, len(order) - left):
            if next(looks, None) is None:
                return
            more, rest = need - memory[position], wanted - cpus[position]
            if more > most_memory[position + 1][left] or rest > most_cpus[position + 1][left]:
                continue
            found = (*chosen, order[position])
            if left:
                yield from further(position + 1, found, more, rest)
            else:
                yield found

    yield from further(0, (), turn.subject.need_mib, pcpus)


def _most(values: Sequence[float]) -> list[list[float]]:
    """By start and count: the most that so many of the values from there on come to."""
    return [list(accumulate(sorted(values[start:], reverse=True), initial=0.0)) for start in range(len(values) + 1)]
