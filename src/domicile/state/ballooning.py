"""Memory that domains are about to take: what is free now and not free for others.

A balloon driver brings its domain to a target, in its own time. libxl sets Xen's limit for the domain to the target
and 1 MiB (libxl_set_memory_target, tools/libs/light/libxl_mem.c, 4.17), so that the target, and nothing beyond it, can
be taken without anybody asking for more:

- what a domain has less than its target is promised to it. So is what it has claimed and not taken: one that is being
  built, by `xl create` too, has a target before it has its memory;
- what it may be set to (`maxmem`) beyond its target is free for others: it takes another `xl mem-set` to get that;
- what it has more than its target will be free, and is not until the domain gives it: a driver can be slow, or unable.

It is taken where Xen takes memory from: evenly from the nodes of the node-affinity while they have any, then from
others; from all of them where node-affinity is not known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

__all__ = ["about_to_take_mib", "still_to_take", "taken_by_node"]


class Ballooned(Protocol):
    """What is asked of a domain here."""

    @property
    def memory_mib(self) -> int: ...
    @property
    def target_mib(self) -> int | None: ...
    @property
    def claimed_mib(self) -> int: ...


def about_to_take_mib(domain: Ballooned) -> int:
    """How much memory a domain takes without anybody asking for more."""
    short = 0 if domain.target_mib is None else domain.target_mib - domain.memory_mib
    return max(short, domain.claimed_mib, 0)


def taken_by_node(mib: int, free_mib: Mapping[int, int], preferred: Collection[int] | None) -> dict[int, int]:
    """Node id to what will be taken of it; less than `mib` where there is not as much."""
    first = free_mib.keys() if preferred is None else free_mib.keys() & set(preferred)
    taken = _evenly(mib, {node: free_mib[node] for node in sorted(first)})
    rest = _evenly(mib - sum(taken.values()), {node: free_mib[node] for node in sorted(free_mib.keys() - first)})
    return taken | rest


def still_to_take(promised_mib: Mapping[int, int], taken_mib: int) -> dict[int, int]:
    """Node id to what is left of what was promised there, once so much of it has been taken: from all nodes in turn,
    each until it has given what it was to give. Rounded up."""
    left = dict.fromkeys(promised_mib, 0)
    rest = max(taken_mib, 0)
    ascending = sorted(promised_mib, key=lambda node: promised_mib[node])
    for done, node in enumerate(ascending):
        turns = len(ascending) - done
        if promised_mib[node] * turns > rest:
            each = rest // turns
            return left | {other: promised_mib[other] - each for other in ascending[done:]}
        rest -= promised_mib[node]
    return left


def _evenly(mib: int, limits: Mapping[int, int]) -> dict[int, int]:
    """As much as the limits allow, as evenly as they allow, rounded up: rather too little is free than too much."""
    shares: dict[int, int] = {}
    for given, node in enumerate(sorted(limits, key=lambda node: limits[node])):
        part = min(limits[node], -(-mib // (len(limits) - given)))
        shares[node] = max(part, 0)
        mib -= shares[node]
    return {node: share for node, share in shares.items() if share}
