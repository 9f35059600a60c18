"""The compiled search: descent by moves and exchanges, and rounds of taking some guests out and putting them back.

A round takes out a few guests (any, those of one node, or a group), puts each back where it adds least, in random
order, lets everybody near look for a better place, and is kept if the layout got better, or worse by a little that gets
less from round to round (Schrimpf et al., "Record breaking optimization results using the ruin and recreate
principle", J. Computational Physics 159, 2000).
"""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import entrance, melted, part
from domicile.policies.placement.afresh.core.arrays import CONSTANT, FIRST, SET, Given, Integers, State
from domicile.policies.placement.afresh.core.moves import added_on, best_candidate, put_in, take_out
from domicile.policies.placement.afresh.core.terms import rebuilt

__all__ = ["improve"]

MARGIN = 1e-9
"""Objectives closer than this are equal: what is left of rounding."""

PASSES = 30
MOST_OUT = 8
"""Guests that a round takes out at most."""

WORSE = 0.02
"""By how much of its slowdowns' sum above 1 a layout may get worse in the first round, on average over guests."""

SMALL = 16
"""With no more guests than this all look for a better place after each round."""


@part
def _drawn(random: Integers, below: int) -> int:
    """A number from 0 to below `below`: a linear congruential generator, whose upper bits are good (Knuth, MMIX)."""
    random[0] = random[0] * 6364136223846793005 + 1442695040888963407
    return int(((random[0] >> 33) & 0x7FFFFFFF) % below)


@melted
def _move(given: Given, state: State, g: int) -> bool:
    """One guest to its best place; whether it moved."""
    old = state.chosen[g]
    before = take_out(given, state, g)
    c, added = best_candidate(given, state, g, old, before - MARGIN)
    put_in(given, state, g, c, added if c != old else before)
    return bool(c != old)


@melted
def _move_all(given: Given, state: State) -> None:
    """Each guest in turn, until none has moved since its last turn."""
    guests = len(given.busy)
    waited = 0
    for turn in range(PASSES * guests):
        waited = 0 if _move(given, state, turn % guests) else waited + 1
        if waited >= guests:
            return


@melted
def _exchange(given: Given, state: State, g: int, h: int) -> bool:
    """Two guests each to the other's set, if that is better; whether it was."""
    candidate, same = given.candidate, given.same
    chosen, value = state.chosen, state.value
    old_g, old_h = chosen[g], chosen[h]
    new_g, new_h = same[g, candidate[SET, old_h]], same[h, candidate[SET, old_g]]
    if new_g < 0 or new_h < 0 or candidate[SET, old_g] == candidate[SET, old_h]:
        return False
    before = value[0]
    added_h = take_out(given, state, h)
    added_g = take_out(given, state, g)
    put_in(given, state, g, new_g, added_on(given, state, g, new_g))
    now_h = added_on(given, state, h, new_h)
    if value[0] + now_h < before - MARGIN:
        put_in(given, state, h, new_h, now_h)
        return True
    _ = take_out(given, state, g)
    put_in(given, state, g, old_g, added_g)
    put_in(given, state, h, old_h, added_h)
    return False


@melted
def _exchange_all(given: Given, state: State) -> bool:
    """All pairs once; whether one was exchanged."""
    found = False
    for g in range(len(given.busy)):
        for h in range(g):
            found = _exchange(given, state, g, h) or found
    return found


@melted
def _gather(given: Given, state: State, group: int, old: Integers) -> bool:
    """The members of a group jointly to the best set for all of them, if that is better; whether it was."""
    guest, candidate, same, gather = given.guest, given.candidate, given.same, given.gather
    members = given.members
    worth = state.value
    begin, end = gather[group], gather[group + 1]
    first = members[begin]
    before, found, least = worth[0], -1, worth[0] - MARGIN
    for i in range(begin, end):
        old[i - begin] = state.chosen[members[i]]
        _ = take_out(given, state, members[i])
    without = worth[0]
    for c in range(guest[FIRST, first], guest[FIRST, first + 1]):
        value, placed = without, begin
        while placed < end and value < least:
            g = members[placed]
            there = same[g, candidate[SET, c]]
            if there < 0:
                break
            put_in(given, state, g, there, added_on(given, state, g, there))
            value, placed = worth[0], placed + 1
        if placed == end and value < least:
            found, least = c, value
        while placed > begin:
            placed -= 1
            _ = take_out(given, state, members[placed])
    for i in range(begin, end):
        g = members[i]
        there = same[g, candidate[SET, found]] if found >= 0 else old[i - begin]
        put_in(given, state, g, there, added_on(given, state, g, there))
    return bool(worth[0] < before - MARGIN)


@melted
def _descend(given: Given, state: State, old: Integers) -> None:
    """Moves, exchanges and joint moves until none is better."""
    for _ in range(PASSES):
        _move_all(given, state)
        again = _exchange_all(given, state)
        for group in range(len(given.gather) - 1):
            again = _gather(given, state, group, old) or again
        if not again:
            return


@melted
def _picked(given: Given, state: State, random: Integers, out: Integers) -> int:
    """Which guests a round takes out, and how many."""
    gather = given.gather
    guests, groups = len(given.busy), len(gather) - 1
    most = 2 + _drawn(random, MOST_OUT - 1)
    kind, count = _drawn(random, 3 if groups > 0 else 2), 0
    if kind == 2:
        group = _drawn(random, groups)
        for i in range(gather[group], gather[group + 1]):
            out[count] = given.members[i]
            count += 1
    place = _drawn(random, len(given.available))
    g = _drawn(random, guests)
    for _ in range(guests):
        if count >= most:
            break
        known = False
        for i in range(count):
            known = known or out[i] == g
        if not known and (kind != 1 or state.shares[g, place] > 0.0):
            out[count] = g
            count += 1
        g = (g + 1) % guests if kind == 1 else _drawn(random, guests)
    return count


@melted
def _round(given: Given, state: State, random: Integers, out: Integers) -> None:
    """Take some guests out, put each back where it adds least, let those near look for a better place."""
    guests = len(given.busy)
    count = _picked(given, state, random, out)
    for i in range(count):
        _ = take_out(given, state, out[i])
    for i in range(count):
        j = i + _drawn(random, count - i)
        out[i], out[j] = out[j], out[i]
        c, added = best_candidate(given, state, out[i], state.chosen[out[i]], np.inf)
        put_in(given, state, out[i], c, added)
    if guests <= SMALL:
        _move_all(given, state)
        return
    for i in range(count + SMALL):
        _ = _move(given, state, out[i] if i < count else _drawn(random, guests))


@melted
def _copy(source: Integers, target: Integers) -> None:
    for i in range(len(source)):
        target[i] = source[i]


@entrance
def improve(given: Given, state: State, order: Integers, random: Integers, rounds: int, kept: Integers) -> None:
    """Improve the layout of `state.chosen`; the best one found is left in `state`.

    Guests that are -1 there are first put, in this order, where they add least. `random` is the state of the generator
    (one number); the same numbers in give the same numbers out. `kept` (3 x M) is room for choices. With `rounds`
    negative, nothing is improved: only what the choices come to is worked out.
    """
    chosen, value = state.chosen, state.value
    out, now, best = kept[0], kept[1], kept[2]
    _ = rebuilt(given, state)
    for g in order:
        if chosen[g] < 0:
            c, added = best_candidate(given, state, g, chosen[g], np.inf)
            put_in(given, state, g, c, added)
    least = latest = np.inf
    heat = 0.0
    # the first turn is the descent from where it begins
    for step in range(rounds + 1):
        if step > 0:
            _round(given, state, random, out)
        if value[0] < least - MARGIN:
            _descend(given, state, out)
            least = rebuilt(given, state)
            _copy(chosen, best)
        if step == 0:
            heat = WORSE * (least - given.figures[CONSTANT]) / max(len(chosen), 1)
        if value[0] < latest + heat * (rounds - step + 1) / max(rounds, 1):
            latest = value[0]
            _copy(chosen, now)
        else:
            _copy(now, chosen)
            latest = rebuilt(given, state)
    if rounds >= 0:
        _copy(best, chosen)
    _ = rebuilt(given, state)
