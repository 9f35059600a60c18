"""The compiled search: descent by moves and exchanges, and rounds of taking some guests out and putting them back.

A round takes out a few guests (any, those of one node, or a group), puts each back where it adds least, in random
order, lets everybody near look for a better place, and is kept if the layout got better, or worse by a little that gets
less from round to round (Schrimpf et al., "Record breaking optimization results using the ruin and recreate
principle", J. Computational Physics 159, 2000).
"""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import entrance, part
from domicile.policies.placement.afresh.core.arrays import CONSTANT, FIRST, HEAT, LATEST, LEAST, SET, Search
from domicile.policies.placement.afresh.core.moves import added_on, best_candidate, put_in, take_out
from domicile.policies.placement.afresh.core.terms import rebuilt

__all__ = ["MARGIN", "improve"]

MARGIN = 1e-9
"""Objectives closer than this are equal: what is left of rounding."""

PASSES = 30
MOST_OUT = 8
"""Guests that a round takes out at most."""

WORSE = 0.02
"""By how much of its slowdowns' sum above 1 a layout may get worse in the first round, on average over guests."""

SMALL = 16
"""With no more guests than this all look for a better place after each round."""

ASTRAY = 4
"""With so few, one in so many guests that are put back goes anywhere: where two have to go together to what is not the
best for either alone, putting each where it adds least does not find it (as the "blinks" of Christiaens and Vanden
Berghe, "Slack induction by string removals", Transportation Science 54(2), 2020)."""


@part
def _drawn(s: Search, below: int) -> int:
    """A number from 0 to below `below`: a linear congruential generator, whose upper bits are good (Knuth, MMIX)."""
    s.i[s.at_random] = s.i[s.at_random] * 6364136223846793005 + 1442695040888963407
    return int(((s.i[s.at_random] >> 33) & 0x7FFFFFFF) % below)


@part
def _there(s: Search, g: int, c: int) -> int:
    """A guest's candidate that is the same set of nodes as a candidate of another, -1 if it has none."""
    return int(s.i[s.at_same + g * s.sets + s.i[s.at_candidate + SET * s.marks + c]])


@part
def _move(s: Search, g: int) -> bool:
    """One guest to its best place; whether it moved. One that is out is put where it adds least."""
    old, before = s.i[s.at_chosen + g], np.inf
    if old >= 0:
        before = take_out(s, g)
    c, added = best_candidate(s, g, old, before - MARGIN)
    put_in(s, g, c, added if c != old else before)
    return bool(c != old)


@part
def _move_all(s: Search) -> None:
    """Each guest in turn, until none has moved since its last turn."""
    waited = 0
    for turn in range(PASSES * s.guests):
        waited = 0 if _move(s, turn % s.guests) else waited + 1
        if waited >= s.guests:
            return


@part
def _put_on(s: Search, g: int, c: int) -> None:
    put_in(s, g, c, added_on(s, g, c))


@part
def _put_anywhere(s: Search, g: int) -> None:
    """One that is out to any of its candidates."""
    first = s.i[s.at_guest + FIRST * s.rows + g]
    _put_on(s, g, first + _drawn(s, s.i[s.at_guest + FIRST * s.rows + g + 1] - first))


@part
def _exchange(s: Search, g: int, h: int) -> bool:
    """Two guests each to the other's set, if that is better; whether it was."""
    i, before = s.i, s.f[s.at_value]
    old_g, old_h = i[s.at_chosen + g], i[s.at_chosen + h]
    new_g, new_h = _there(s, g, old_h), _there(s, h, old_g)
    if new_g < 0 or new_h < 0 or (new_g == old_g and new_h == old_h):
        return False
    added_h = take_out(s, h)
    added_g = take_out(s, g)
    _put_on(s, g, new_g)
    now_h = added_on(s, h, new_h)
    if s.f[s.at_value] + now_h < before - MARGIN:
        put_in(s, h, new_h, now_h)
        return True
    _ = take_out(s, g)
    put_in(s, g, old_g, added_g)
    put_in(s, h, old_h, added_h)
    return False


@part
def _exchange_all(s: Search) -> bool:
    """All pairs once; whether one was exchanged."""
    found = False
    for g in range(s.guests):
        for h in range(g):
            found = _exchange(s, g, h) or found
    return found


@part
def _gather(s: Search, group: int) -> bool:
    """The members of a group jointly to the best set for all of them, if that is better; whether it was."""
    i, value = s.i, s.at_value
    begin, end = s.at_members + i[s.at_gather + group], s.at_members + i[s.at_gather + group + 1]
    first = s.at_guest + FIRST * s.rows + i[begin]
    before, found, least = s.f[value], -1, s.f[value] - MARGIN
    for at in range(begin, end):
        i[s.at_kept + at - begin] = i[s.at_chosen + i[at]]
        _ = take_out(s, i[at])
    for c in range(i[first], i[first + 1]):
        placed = begin
        while placed < end and s.f[value] < least:
            there = _there(s, i[placed], c)
            if there < 0:
                break
            _put_on(s, i[placed], there)
            placed += 1
        if placed == end and s.f[value] < least:
            found, least = c, s.f[value]
        while placed > begin:
            placed -= 1
            _ = take_out(s, i[placed])
    for at in range(begin, end):
        _put_on(s, i[at], _there(s, i[at], found) if found >= 0 else i[s.at_kept + at - begin])
    return bool(s.f[value] < before - MARGIN)


@part
def _descend(s: Search) -> None:
    """Moves, exchanges and joint moves until none is better."""
    for _ in range(PASSES):
        _move_all(s)
        again = _exchange_all(s)
        for group in range(s.groups):
            again = _gather(s, group) or again
        if not again:
            return


@part
def _picked(s: Search) -> int:
    """Which guests a round takes out (the first of `kept`), and how many."""
    i, out = s.i, s.at_kept
    most = 2 + _drawn(s, MOST_OUT - 1)
    kind, count = _drawn(s, 3 if s.groups > 0 else 2), 0
    if kind == 2:
        group = s.at_gather + _drawn(s, s.groups)
        for member in range(i[group], i[group + 1]):
            i[out + count] = i[s.at_members + member]
            count += 1
    place = _drawn(s, s.nodes)
    g = _drawn(s, s.guests)
    for _ in range(s.guests):
        if count >= most:
            break
        known = False
        for at in range(out, out + count):
            known = known or i[at] == g
        if not known and (kind != 1 or s.f[s.at_shares + g * s.nodes + place] > 0.0):
            i[out + count] = g
            count += 1
        g = (g + 1) % s.guests if kind == 1 else _drawn(s, s.guests)
    return count


@part
def _round(s: Search) -> None:
    """Take some guests out, put each back where it adds least, let those near look for a better place."""
    i, out = s.i, s.at_kept
    count = _picked(s)
    for at in range(out, out + count):
        _ = take_out(s, i[at])
    for at in range(count):
        other = out + at + _drawn(s, count - at)
        i[out + at], i[other] = i[other], i[out + at]
        if s.guests <= SMALL and _drawn(s, ASTRAY) == 0:
            _put_anywhere(s, i[out + at])
        else:
            _ = _move(s, i[out + at])
    if s.guests <= SMALL:
        _move_all(s)
        return
    for at in range(count + SMALL):
        _ = _move(s, i[out + at] if at < count else _drawn(s, s.guests))


@part
def _copy(s: Search, source: int, target: int) -> None:
    for at in range(s.guests):
        s.i[target + at] = s.i[source + at]


@entrance
def improve(s: Search, step: int, end: int, rounds: int) -> None:
    """Improve the layout of `State.chosen`: the steps from `step` to before `end`, of 0 (descent from where it begins)
    and as many `rounds`. After the last of them, or with `end` beyond them, the best layout is in `State.chosen`.

    Guests that are -1 there are first put, in `State.order`, where they add least. The same numbers in give the same
    numbers out. With `rounds` -1, nothing is improved: only what the choices come to is worked out.
    """
    now, best = s.at_kept + s.guests, s.at_kept + 2 * s.guests
    value, least, latest, heat = s.at_value, s.at_value + LEAST, s.at_value + LATEST, s.at_value + HEAT
    if step == 0:
        _ = rebuilt(s)
    for turn in range(step, end):
        if turn > 0:
            _round(s)
        else:
            s.f[least] = s.f[latest] = np.inf
            for at in range(s.at_order, s.at_order + s.guests):
                if s.i[s.at_chosen + s.i[at]] < 0:
                    _ = _move(s, s.i[at])
        if s.f[value] < s.f[least] - MARGIN:
            _descend(s)
            s.f[least] = rebuilt(s)
            _copy(s, s.at_chosen, best)
        if turn == 0:
            s.f[heat] = WORSE * (s.f[least] - s.f[s.at_figures + CONSTANT]) / max(s.guests, 1)
        if s.f[value] < s.f[latest] + s.f[heat] * (rounds - turn + 1) / max(rounds, 1):
            s.f[latest] = s.f[value]
            _copy(s, s.at_chosen, now)
        else:
            _copy(s, now, s.at_chosen)
            s.f[latest] = rebuilt(s)
    if 0 <= rounds < end:
        _copy(s, best, s.at_chosen)
        _ = rebuilt(s)
