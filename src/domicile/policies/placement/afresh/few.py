"""A few guests laid out again in NumPy: moves of one and of two, each followed by memory as it falls then.

To import Numba and to load what it compiled takes longer than this does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product

from domicile.policies.placement.afresh.build import MOVED
from domicile.policies.placement.afresh.no_way import NoWay
from domicile.policies.placement.layout import Layout, Problem, Seat
from domicile.policies.placement.search import MARGIN, NoRoom, choices, search

__all__ = ["FEW", "rearranged"]

FEW = 6
"""Guests that are laid out so."""

PLACES = 4
"""Good places of a guest that are tried, beside the one it has."""

PASSES = 20

Sets = tuple[tuple[int, ...] | None, ...]
"""A set of node indices for each guest; None: it stays where it is."""


def rearranged(problem: Problem, homes: Mapping[int, Seat]) -> Layout:
    """The best layout found, from everybody where it is (newcomers where they cost least), and from a new construction.
    `homes` as for `build`. Raises `NoWay`."""
    begins: list[Sets] = [tuple(None if guest in homes else () for guest in range(len(problem.subjects)))]
    failure: NoRoom | None = None
    try:
        begins.append(tuple(seat.nodes if seat else () for seat in search(problem).seats))
    except NoRoom as no_room:
        failure = no_room
    found = [layout for layout in (_improved(problem, homes, sets) for sets in begins) if layout is not None]
    if not found:
        raise NoWay(failure.guest if failure else 0)
    return min(found, key=lambda one: round(_cost(homes, one), 9))


def _improved(problem: Problem, homes: Mapping[int, Seat], sets: Sets) -> Layout | None:
    """Change one or two guests as long as that is better; None where there is no room to begin with."""
    layout = _settled(problem, homes, sets)
    for _ in range(PASSES if layout is not None else 0):
        assert layout is not None  # noqa: S101 - for the type checker: there are no passes without one
        before = layout
        guests = range(len(sets))
        for some in (*((guest,) for guest in guests), *combinations(guests, 2)):
            for changed in _changes(layout, homes, sets, some):
                attempt = _settled(problem, homes, changed)
                if attempt is not None and _cost(homes, attempt) < _cost(homes, layout) - MARGIN:
                    layout, sets = attempt, changed
        if layout is before:
            break
    return layout


def _changes(layout: Layout, homes: Mapping[int, Seat], sets: Sets, some: tuple[int, ...]) -> Iterator[Sets]:
    """Other places for these guests: where they are now, and what is good with none of them there."""
    rest = layout
    for guest in some:
        rest = rest.without(guest)
    places = []
    for guest in some:
        found: list[tuple[int, ...] | None] = [choice.nodes for choice in choices(rest, guest, PLACES)]
        places.append([*([None] if guest in homes else []), *found])
    if len(some) == 2:
        first, second = (seat.nodes if (seat := layout.seats[guest]) else None for guest in some)
        places[0].append(second)
        places[1].append(first)
    for nodes in product(*places):
        changed = list(sets)
        for guest, its in zip(some, nodes, strict=True):
            changed[guest] = its
        yield tuple(changed)


def _settled(problem: Problem, homes: Mapping[int, Seat], sets: Sets) -> Layout | None:
    """Those that stay with their memory where it is, then the others as theirs falls in turn; an empty set is where a
    guest costs least. None where one finds no room."""
    layout = Layout.empty(problem)
    for guest in (guest for guest, nodes in enumerate(sets) if nodes is None):
        seat = homes[guest]
        if any(mib > free for mib, free in zip(seat.reserve_mib, layout.free_mib, strict=True)):
            return None
        layout = layout.seated(guest, seat)
    for guest, nodes in enumerate(sets):
        if nodes is None:
            continue
        best = nodes or next((choice.nodes for choice in choices(layout, guest)), ())
        subject = problem.subjects[guest]
        if not best or not (subject.fixed or set(best) <= set(subject.eligible.tolist())):
            return None
        falls = layout.seat_for(guest, best)
        if falls is None:
            return None
        layout = layout.seated(guest, falls)
    return layout


def _cost(homes: Mapping[int, Seat], layout: Layout) -> float:
    """The objective, and a little for memory that moves."""
    moved = 0.0
    for guest, home in homes.items():
        seat = layout.seats[guest]
        if seat is not None:
            more = sum(max(new - had, 0) for new, had in zip(seat.reserve_mib, home.reserve_mib, strict=True))
            moved += more / max(layout.problem.subjects[guest].need_mib, 1)
    return layout.objective + MOVED * moved
