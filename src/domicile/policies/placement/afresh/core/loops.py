"""The compiled search: descent by moves and exchanges, and rounds of taking some guests out and putting them back.

A round takes out a few guests (any, those of one node, or a group), puts each back where it adds least, in random
order, lets everybody near look for a better place, and is kept if the layout got better, or worse by a little that gets
less from round to round (Schrimpf et al., "Record breaking optimization results using the ruin and recreate
principle", J. Computational Physics 159, 2000).
"""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import entrance, part
from domicile.policies.placement.afresh.core.arrays import CONSTANT, FIRST, SET, Given, Integers, State
from domicile.policies.placement.afresh.core.moves import added_on, best_candidate, put_in, take_out
from domicile.policies.placement.afresh.core.terms import new_state, rebuilt

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


@part
def _move(given: Given, state: State, g: int) -> bool:
    """One guest to its best place; whether it moved."""
    old = state.chosen[g]
    before = take_out(given, state, g)
    c, added = best_candidate(given, state, g, old, before - MARGIN)
    put_in(given, state, g, c, added if c != old else before)
    return bool(c != old)


@part
def _move_all(given: Given, state: State) -> None:
    """Each guest in turn, until none has moved since its last turn."""
    guests = len(given.busy)
    waited, g = 0, 0
    for _ in range(PASSES * guests):
        waited = 0 if _move(given, state, g) else waited + 1
        g = (g + 1) % guests
        if waited >= guests:
            return


@part
def _exchange(given: Given, state: State, g: int, h: int) -> bool:
    """Two guests each to the other's set, if that is better; whether it was."""
    old_g, old_h = state.chosen[g], state.chosen[h]
    new_g, new_h = given.same[g, given.candidate[SET, old_h]], given.same[h, given.candidate[SET, old_g]]
    if new_g < 0 or new_h < 0 or given.candidate[SET, old_g] == given.candidate[SET, old_h]:
        return False
    before = state.value[0]
    added_h = take_out(given, state, h)
    added_g = take_out(given, state, g)
    put_in(given, state, g, new_g, added_on(given, state, g, new_g))
    now_h = added_on(given, state, h, new_h)
    if state.value[0] + now_h < before - MARGIN:
        put_in(given, state, h, new_h, now_h)
        return True
    _ = take_out(given, state, g)
    put_in(given, state, g, old_g, added_g)
    put_in(given, state, h, old_h, added_h)
    return False


@part
def _exchange_all(given: Given, state: State) -> bool:
    """All pairs once; whether one was exchanged."""
    found = False
    for g in range(len(given.busy)):
        for h in range(g):
            found = _exchange(given, state, g, h) or found
    return found


@part
def _gather(given: Given, state: State, group: int, old: Integers) -> bool:
    """The members of a group jointly to the best set for all of them, if that is better; whether it was."""
    begin, end = given.gather[group], given.gather[group + 1]
    first = given.members[begin]
    before, found, least = state.value[0], -1, state.value[0] - MARGIN
    for i in range(begin, end):
        old[i - begin] = state.chosen[given.members[i]]
        _ = take_out(given, state, given.members[i])
    without = state.value[0]
    for c in range(given.guest[FIRST, first], given.guest[FIRST, first + 1]):
        value, placed = without, begin
        while placed < end and value < least:
            g = given.members[placed]
            there = given.same[g, given.candidate[SET, c]]
            if there < 0:
                break
            put_in(given, state, g, there, added_on(given, state, g, there))
            value, placed = state.value[0], placed + 1
        if placed == end and value < least:
            found, least = c, value
        while placed > begin:
            placed -= 1
            _ = take_out(given, state, given.members[placed])
    for i in range(begin, end):
        g = given.members[i]
        there = given.same[g, given.candidate[SET, found]] if found >= 0 else old[i - begin]
        put_in(given, state, g, there, added_on(given, state, g, there))
    return bool(state.value[0] < before - MARGIN)


@part
def _descend(given: Given, state: State, old: Integers) -> None:
    """Moves, exchanges and joint moves until none is better."""
    for _ in range(PASSES):
        _move_all(given, state)
        again = _exchange_all(given, state)
        for group in range(len(given.gather) - 1):
            again = _gather(given, state, group, old) or again
        if not again:
            return


@part
def _picked(given: Given, state: State, random: Integers, out: Integers) -> int:
    """Which guests a round takes out, and how many."""
    guests, groups = len(given.busy), len(given.gather) - 1
    most = 2 + _drawn(random, MOST_OUT - 1)
    kind, count = _drawn(random, 3 if groups > 0 else 2), 0
    if kind == 2:
        group = _drawn(random, groups)
        for i in range(given.gather[group], given.gather[group + 1]):
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


@part
def _round(given: Given, state: State, random: Integers, out: Integers) -> None:
    """Take some guests out, put each back where it adds least, let those near look for a better place."""
    guests = len(given.busy)
    count = _picked(given, state, random, out)
    for i in range(count):
        _ = take_out(given, state, out[i])
    for i in range(count):
        j = i + _drawn(random, count - i)
        out[i], out[j] = out[j], out[i]
        c, added = best_candidate(given, state, out[i], -1, np.inf)
        put_in(given, state, out[i], c, added)
    if guests <= SMALL:
        _move_all(given, state)
        return
    for i in range(count):
        _ = _move(given, state, out[i])
    for _ in range(SMALL):
        _ = _move(given, state, _drawn(random, guests))


@part
def _copy(source: Integers, target: Integers) -> None:
    for i in range(len(source)):
        target[i] = source[i]


@part
def _told(state: State, mib: Integers) -> tuple[float, float]:
    for g in range(mib.shape[0]):
        for n in range(mib.shape[1]):
            mib[g, n] = state.mib[g, n]
    return state.value[0], state.value[1]


@entrance
def improve(
    given: Given, chosen: Integers, order: Integers, random: Integers, rounds: int, mib: Integers
) -> tuple[float, float]:
    """Improve a layout, and give the best one found back in `chosen`: its objective, and MiB that find no room.

    Guests that are -1 there are first put, in this order, where they add least. `random` is the state of the generator
    (one number); the same numbers in give the same numbers out. `mib` (M x N) is filled with where memory falls. With
    `rounds` negative, nothing is improved: only what the choices come to is worked out.
    """
    state = new_state(given)
    _copy(chosen, state.chosen)
    _ = rebuilt(given, state)
    for g in order:
        if state.chosen[g] < 0:
            c, added = best_candidate(given, state, g, -1, np.inf)
            put_in(given, state, g, c, added)
    if rounds < 0:
        return _told(state, mib)
    out = np.zeros(len(chosen), dtype=np.int64)
    _descend(given, state, out)
    best = rebuilt(given, state)
    now = best
    current = state.chosen.copy()
    _copy(current, chosen)
    heat = WORSE * (best - given.figures[CONSTANT]) / max(len(chosen), 1)
    for step in range(rounds):
        _round(given, state, random, out)
        if state.value[0] < best - MARGIN:
            _descend(given, state, out)
            best = rebuilt(given, state)
            _copy(state.chosen, chosen)
        if state.value[0] < now + heat * (rounds - step) / rounds:
            now = state.value[0]
            _copy(state.chosen, current)
        else:
            _copy(current, state.chosen)
            now = rebuilt(given, state)
    _copy(chosen, state.chosen)
    _ = rebuilt(given, state)
    return _told(state, mib)
