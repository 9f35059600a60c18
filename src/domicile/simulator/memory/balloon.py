"""Guests' balloon drivers: they answer late, at a rate, and not always fully.

Source: Linux drivers/xen/balloon.c (6.1): a new target is noticed by a xenstore watch and worked off in batches; what
Xen refuses is asked for again after 1 s, 2 s, ... 32 s (`update_schedule`). Pages are the guest's choice: it gives what
is free to it, cold before hot, and knows no nodes. New pages come as single pages by the domain's node-affinity, so
that a balloon let down and up under a new affinity moves memory (seen on Xen 4.17).

In an engine: `set_target` as an event; `step(now_s, dt_s, heap, pages)` each epoch, `due_s` for the next time that
anything happens by itself. Records say how each domain's pages by node changed; `DomainPages` is changed with them.
Left out: the guest's swapping where too much is taken from it (its `least` is what protects it), populate on demand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from domicile.simulator.memory.flow import apportion
from domicile.simulator.memory.heap import Heap, Pages, Request
from domicile.simulator.memory.pages import DomainPages

__all__ = ["USUAL_MANNERS", "Balloon", "Ballooned", "Balloons", "Manners"]

LONGEST_WAIT_S = 32.0


@dataclass(frozen=True, slots=True)
class Manners:
    """How a guest answers: `delay_s` after it is told, `pages_per_s`, never below `least_pages`; of what it is asked to
    give it keeps `kept_share` (0: it gives all, 1: it ignores the request).
    """

    delay_s: float = 0.1
    pages_per_s: float = 262_144.0
    least_pages: int = 0
    kept_share: float = 0.0


USUAL_MANNERS = Manners()


@dataclass(frozen=True, slots=True)
class Ballooned:
    """A domain's pages by node (N) changed by `change`. `short`: pages that Xen refused."""

    domain: str
    change: Pages
    short: int = 0


@dataclass(slots=True)
class Balloon:
    """One guest's balloon. `wanted` is what it works towards: its target as far as its manners let it."""

    domain: str
    index: int
    manners: Manners
    wanted: int
    due_s: float = math.inf
    carry: float = 0.0
    wait_s: float = 1.0

    def tell(self, now_s: float, has: int, target: int) -> None:
        """A new target, in pages."""
        if target < has:
            gives = math.floor((has - target) * (1.0 - self.manners.kept_share))
            target = max(has - gives, min(self.manners.least_pages, has))
        self.wanted = target
        self.due_s = now_s + self.manners.delay_s
        self.carry, self.wait_s = 0.0, 1.0


@dataclass(slots=True)
class Balloons:
    """The balloons of all guests, in the order they came."""

    balloons: dict[str, Balloon] = field(default_factory=dict)

    def copy(self) -> Balloons:
        """An independent copy."""
        return Balloons({name: replace(each) for name, each in self.balloons.items()})

    def add(self, domain: str, index: int, pages: int, manners: Manners = USUAL_MANNERS) -> None:
        """A guest with a balloon driver; `index` is its place in `DomainPages`."""
        self.balloons[domain] = Balloon(domain, index, manners, pages)

    def remove(self, domain: str) -> None:
        """The guest has gone."""
        self.balloons.pop(domain, None)

    def set_target(self, domain: str, pages: int, now_s: float, heap: Heap) -> None:
        """Ask a guest to have so many pages (`xl mem-set`)."""
        self.balloons[domain].tell(now_s, heap.size_of(domain), pages)

    def due_s(self) -> float:
        """When the next balloon moves; infinite where none has anything to do."""
        return min((each.due_s for each in self.balloons.values()), default=math.inf)

    def step(self, now_s: float, dt_s: float, heap: Heap, pages: DomainPages) -> tuple[Ballooned, ...]:
        """What the balloons do between `now_s` and `now_s + dt_s`; those that give come before those that take."""
        end_s = now_s + dt_s
        due = [each for each in self.balloons.values() if each.due_s < end_s]
        due.sort(key=lambda each: each.wanted >= heap.size_of(each.domain))
        done = (_work(each, max(now_s, each.due_s), end_s, heap, pages) for each in due)
        return tuple(each for each in done if each is not None)


def _work(balloon: Balloon, start_s: float, end_s: float, heap: Heap, pages: DomainPages) -> Ballooned | None:
    has = heap.size_of(balloon.domain)
    can = balloon.carry + balloon.manners.pages_per_s * (end_s - start_s)
    amount = min(abs(balloon.wanted - has), math.floor(can))
    balloon.carry = can - math.floor(can)
    balloon.due_s = end_s
    if balloon.wanted < has:
        change = -_give(balloon, amount, heap, pages)
        missing = 0
    else:
        change = _get(balloon, amount, heap, pages)
        missing = amount - int(change.sum())
    if missing:
        balloon.due_s = end_s + balloon.wait_s
        balloon.wait_s, balloon.carry = min(balloon.wait_s * 2.0, LONGEST_WAIT_S), 0.0
    elif amount:
        balloon.wait_s = 1.0
    if has + int(change.sum()) == balloon.wanted:
        balloon.due_s = math.inf
    return Ballooned(balloon.domain, change, missing) if amount else None


def _give(balloon: Balloon, amount: int, heap: Heap, pages: DomainPages) -> Pages:
    """The guest's choice of pages, by node."""
    by_node = np.zeros(heap.nodes, dtype=np.int64)
    for part, share in _shares(balloon, amount, pages):
        by_node += pages.take(part, share)
    for node in np.flatnonzero(by_node):
        given = heap.give_back(balloon.domain, int(node), int(by_node[node]))
        # a page that it only shares is not the guest's to give: it is asked for others the next time
        shared = np.zeros_like(by_node)
        shared[node] = by_node[node] - given
        pages.put(pages.parts_of(balloon.index)[0], shared)
        by_node[node] = given
    return by_node


def _get(balloon: Balloon, amount: int, heap: Heap, pages: DomainPages) -> Pages:
    """Xen's choice of pages, by node. They belong to the parts as the parts are large."""
    by_node = np.zeros(heap.nodes, dtype=np.int64)
    for taken in heap.alloc_many(balloon.domain, amount, Request()):
        by_node[taken.node] += taken.pages
    parts = pages.parts_of(balloon.index)
    sizes = (pages.hot + pages.cold)[parts].sum(axis=1)
    left = by_node.copy()
    for part, size in zip(parts[1:], sizes[1:], strict=True):
        own = apportion(int(by_node.sum()) * int(size) // max(int(sizes.sum()), 1), left)
        pages.put(part, own)
        left -= own
    pages.put(parts[0], left)
    return by_node


def _shares(balloon: Balloon, amount: int, pages: DomainPages) -> Sequence[tuple[int, int]]:
    """How many pages each part gives: what is cold first, of all parts alike."""
    parts = pages.parts_of(balloon.index)
    cold, hot = pages.cold[parts].sum(axis=1), pages.hot[parts].sum(axis=1)
    of_cold = apportion(min(amount, int(cold.sum())), cold)
    of_hot = apportion(min(amount - int(of_cold.sum()), int(hot.sum())), hot)
    return [(part, int(c + h)) for part, c, h in zip(parts, of_cold, of_hot, strict=True)]
