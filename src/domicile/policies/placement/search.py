"""The search: one guest by weighing every sensible set of nodes, many by construction and improvement.

Many guests are placed one after the other, those with the least choice first, then the largest; a guest that finds no
room is put to the front and the construction begins again. Then guests are moved, exchanged and, where a group wants
them together, moved jointly, as long as the sum over all domains gets better. Nothing depends on the order of the
requests but how memory falls where nodes fill up; nothing is random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from domicile.policies.placement.bounded import MARGIN, bounded_sets
from domicile.policies.placement.candidates import Batch, weigh
from domicile.policies.placement.layout import Choice, Layout, Problem, Seat
from domicile.policies.placement.subject import Subject
from domicile.state.request import GroupKind

__all__ = ["MARGIN", "NoRoom", "as_it_falls", "choices", "search"]

KEPT = 8
"""Choices worked out and kept for each guest."""

KEPT_ALONE = 1
"""The same for a guest that is the only newcomer: nothing is tried a second time."""

PASSES = 20
IMPROVED = 2
"""Starts that are improved by more than moves: the best ones."""

PAIRS = 200
"""Changes of two guests at once that are tried in one pass at most."""

PLACES = 4
"""Good places of a guest that such a change tries."""


class NoRoom(Exception):
    """No set of nodes will do for this guest (its index). Internal: `place` turns it into an error with the figures."""

    def __init__(self, guest: int) -> None:
        self.guest = guest
        super().__init__(guest)


def choices(layout: Layout, guest: int, count: int = 1) -> list[Choice]:
    """The `count` best sets of nodes for a guest that has no seat in this layout, best first; none if nothing will do.

    Of sets that are equally good the one with fewer nodes is better, then the one with more free memory, then the one
    with lower node ids.
    """
    kept = KEPT if len(layout.seats) > 1 else KEPT_ALONE
    if guest not in layout.ranked or count > max(len(layout.ranked[guest]), kept):
        layout.ranked[guest] = _ranked(layout, guest, max(count, kept))
    return layout.ranked[guest][:count]


def _ranked(layout: Layout, guest: int, count: int) -> list[Choice]:
    batches = list(_batches(layout, layout.problem.subjects[guest], guest, count))
    if not batches:
        return []
    objective = np.concatenate([batch.objective for batch in batches])
    starts = np.cumsum([0, *(len(batch.objective) for batch in batches)])
    order = np.argsort(objective, kind="stable")
    values = objective[order].tolist()
    found: dict[tuple[int, ...], Choice] = {}
    start = 0
    while len(found) < count and start < len(values) and values[start] < np.inf:
        level = []
        best, end = values[start], start
        while end < len(values) and values[end] <= best + MARGIN:
            which = int(np.searchsorted(starts, order[end], side="right")) - 1
            nodes = batches[which].sets(int(order[end] - starts[which]))
            free = sum([layout.free_mib[node] for node in nodes])
            level.append((len(nodes), -free, nodes, which, int(order[end] - starts[which])))
            end += 1
        for _, _, nodes, which, row in sorted(level):
            if nodes not in found:
                # figures for a plan: of many choices in a longer search nobody asks for them
                its = batches[which].at(row) if len(layout.seats) == 1 else None
                found[nodes] = Choice(nodes, best, its)
        start = end
    return list(found.values())[:count]


def _batches(layout: Layout, subject: Subject, guest: int, count: int) -> Iterator[Batch]:
    """The sets that are weighed for a guest: the `count` best are among them."""
    ties, room, trial = layout.ties(guest), layout.room_mib(), layout.trial(guest)
    if subject.fixed:
        yield weigh(subject, trial, ties, room, subject.fixed.nodes[None])
    elif len(subject.eligible):
        yield from bounded_sets(subject, trial, ties, room, count)


def search(problem: Problem) -> Layout:
    """Seat all guests. Raises `NoRoom` for the first that nothing will do for, whatever the others do."""
    orders = [tuple(sorted(range(len(problem.subjects)), key=key)) for key in _orders(problem)]
    if len(problem.subjects) == 1:
        return _constructed(problem, orders[0])
    found: list[Layout] = []
    failure: NoRoom | None = None
    for order in dict.fromkeys(orders):
        for narrow in (False, True):
            try:
                found.append(_moved_all(_constructed(problem, order, narrow=narrow)))
            except NoRoom as no_room:
                failure = no_room
    if not found:
        raise failure or NoRoom(0)
    found.sort(key=lambda layout: round(layout.objective, 9))
    found[:IMPROVED] = [_improved(layout) for layout in found[:IMPROVED]]
    settled = [_polished(layout) for layout in map(as_it_falls, found) if layout is not None]
    if not settled:
        settled = _in_order(problem)
    # should none of them come out as planned in the order of the requests, the plan itself is still a promise kept
    return min(settled or found, key=lambda layout: round(layout.objective, 9))


def as_it_falls(layout: Layout, change: tuple[int, tuple[int, ...]] | None = None) -> Layout | None:
    """The same sets of nodes with the memory as it falls when the guests start in the order of the requests: a guest
    that starts first finds nodes empty that are full for the next. None where one then finds no room.

    `change` gives one guest another set.
    """
    settled = Layout.empty(layout.problem)
    for guest, seat in enumerate(layout.seats):
        nodes = seat.nodes if seat else ()
        if change and change[0] == guest:
            nodes = change[1]
        falls = settled.seat_for(guest, nodes) if nodes else None
        if falls is None:
            return None
        settled = settled.seated(guest, falls)
    return settled


def _in_order(problem: Problem) -> list[Layout]:
    """The guests placed one by one as they come: memory falls as planned, if all find room."""
    layout = Layout.empty(problem)
    for guest in range(len(problem.subjects)):
        seat = _best_seat(layout, guest)
        if seat is None:
            return []
        layout = layout.seated(guest, seat)
    return [_polished(layout)]


def _polished(layout: Layout) -> Layout:
    """Move each guest to any good place as long as that is better with memory as it falls then."""
    for _ in range(PASSES):
        before = layout.objective
        for guest, subject in enumerate(layout.problem.subjects):
            for choice in [] if subject.fixed else choices(layout.without(guest), guest, PLACES):
                layout = _kept(layout, as_it_falls(layout, (guest, choice.nodes)))
        if layout.objective >= before - MARGIN:
            break
    return layout


def _orders(problem: Problem) -> list[Callable[[int], tuple[int, int, int, str]]]:
    """Orders of construction: least choice first, then by memory or by vCPUs. Names break ties, never the order
    asked.
    """

    def choice(guest: int) -> int:
        subject = problem.subjects[guest]
        return 0 if subject.fixed else len(subject.eligible)

    def by_memory(guest: int) -> tuple[int, int, int, str]:
        request = problem.subjects[guest].request
        return choice(guest), -request.need_mib, -request.vcpus, request.name

    def by_vcpus(guest: int) -> tuple[int, int, int, str]:
        request = problem.subjects[guest].request
        return choice(guest), -request.vcpus, -request.need_mib, request.name

    return [by_memory, by_vcpus]


def _constructed(problem: Problem, order: tuple[int, ...], *, narrow: bool = False) -> Layout:
    """Seat one after the other in this order; one that finds no room goes first in the next attempt.

    `narrow` takes the set with the fewest nodes among the good ones: another start for what comes after.
    """
    for _ in range(len(order) + 1):
        layout = Layout.empty(problem)
        stuck = None
        for guest in order:
            seat = _narrow_seat(layout, guest) if narrow else _best_seat(layout, guest)
            if seat is None:
                stuck = guest
                break
            layout = layout.seated(guest, seat)
        if stuck is None:
            return layout
        if order[0] == stuck:
            break
        order = (stuck, *(guest for guest in order if guest != stuck))
    raise NoRoom(order[0] if stuck is None else stuck)


def _best_seat(layout: Layout, guest: int) -> Seat | None:
    found = choices(layout, guest)
    return layout.seat_for(guest, found[0].nodes) if found else None


def _narrow_seat(layout: Layout, guest: int) -> Seat | None:
    found = choices(layout, guest, KEPT)
    fewest = min(found, key=lambda choice: (len(choice.nodes), choice.objective), default=None)
    return layout.seat_for(guest, fewest.nodes) if fewest else None


def _improved(layout: Layout) -> Layout:
    """Move one, two and groups of guests until nothing gets better."""
    for _ in range(PASSES):
        before = layout.objective
        for step in (_moved_all, _paired, _gathered):
            layout = step(layout)
        if layout.objective >= before - MARGIN:
            return layout
    return layout


def _moved_all(layout: Layout) -> Layout:
    """Each guest in turn to the best place, until none moves."""
    for _ in range(PASSES):
        before = layout.objective
        layout = _moved(layout)
        if layout.objective >= before - MARGIN:
            break
    return layout


def _moved(layout: Layout) -> Layout:
    """Each guest in turn to the best place, given all others."""
    for guest in _by_name(layout.problem):
        layout = _kept(layout, _reseated(layout.without(guest), [guest]))
    return layout


def _paired(layout: Layout) -> Layout:
    """Two guests at once: one that is worse off than it would be alone to a place that it would like then, and one that
    is in the way there to the best place left. The worst off come first."""
    alone = Layout.empty(layout.problem)
    tried = 0
    for guest in sorted(range(len(layout.seats)), key=lambda guest: (-_regret(layout, alone, guest), guest)):
        if _regret(layout, alone, guest) <= MARGIN:
            break
        for choice in choices(alone, guest, PLACES):
            for other, there in enumerate(layout.seats):
                if other == guest or there is None or not set(there.nodes) & set(choice.nodes):
                    continue
                tried += 1
                if tried > PAIRS:
                    return layout
                rest = layout.without(guest).without(other)
                seat = rest.seat_for(guest, choice.nodes)
                if seat is not None:
                    layout = _kept(layout, _reseated(rest.seated(guest, seat), [other]))
    return layout


def _regret(layout: Layout, alone: Layout, guest: int) -> float:
    """How much more a guest adds to the objective than if it were the only newcomer."""
    rest = layout.without(guest)
    return (layout.objective - rest.objective) - (choices(alone, guest)[0].objective)


def _gathered(layout: Layout) -> Layout:
    """The newcomers of a group that wants them together or near, jointly onto each set of nodes that one of them
    likes.
    """
    problem = layout.problem
    names = {subject.request.name: guest for guest, subject in enumerate(problem.subjects)}
    groups = {membership.group.name: membership for member in problem.groups for membership in member}
    for _, membership in sorted(groups.items()):
        if membership.group.kind is GroupKind.APART:
            continue
        members = [names[name] for name in sorted(membership.group.domains) if name in names]
        rest = layout
        for guest in members:
            rest = rest.without(guest)
        for first in members:
            for choice in choices(rest, first, count=8):
                attempt: Layout | None = rest
                for guest in members:
                    seat = _allowed_seat(attempt, guest, choice.nodes) if attempt else None
                    attempt = attempt.seated(guest, seat) if attempt and seat else None
                layout = _kept(layout, attempt)
    return layout


def _allowed_seat(layout: Layout, guest: int, nodes: tuple[int, ...]) -> Seat | None:
    """A seat on these nodes, for a guest that may be there."""
    subject = layout.problem.subjects[guest]
    if subject.fixed or not set(nodes) <= set(subject.eligible.tolist()):
        return None
    return layout.seat_for(guest, nodes)


def _reseated(layout: Layout, guests: list[int]) -> Layout | None:
    """The layout with these guests each in the best place left, None where one finds no room."""
    for guest in guests:
        seat = _best_seat(layout, guest)
        if seat is None:
            return None
        layout = layout.seated(guest, seat)
    return layout


def _kept(layout: Layout, attempt: Layout | None) -> Layout:
    """The better of the two; the old one where they are equal."""
    if attempt is not None and attempt.objective < layout.objective - MARGIN:
        return attempt
    return layout


def _by_name(problem: Problem) -> list[int]:
    return sorted(range(len(problem.subjects)), key=lambda guest: problem.subjects[guest].request.name)
