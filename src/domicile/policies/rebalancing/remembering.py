"""What rounds remember, and what they must not do because of it: hold-offs, budgets, gains that are waited for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from domicile.policies.migration.records import Cost
from domicile.policies.rebalancing.records import History, Move, Moved, Rules, Waiting

__all__ = ["Memory", "tidied"]

MINUTE_S = 60.0

FALLING = 0.8
"""A gain below this part of what it was on average is falling. It gets there within 10 s of the end of a burst, what is
left of which halves in that time."""

AVERAGED_S = 30.0
"""A gain of so long ago counts half in the average: it falls slower than what is left of a burst, and one look that
found more than the others does not stand in the way for a minute."""

WEIGHED_EVERY_S = 10.0
"""How often a move that is waited for is weighed anew."""

LONGEST_GAP_S = 60.0
"""Nobody looked for longer than this: what was lost meanwhile is not known."""


def tidied(history: History, uuids: Iterable[str], now_s: float, rules: Rules) -> History:
    """Without what is of no account any more."""
    there = set(uuids)
    moves = tuple(
        each
        for each in history.moves
        if each.uuid in there and (each.ended_s is None or now_s - each.ended_s < _longest_s(rules))
    )
    waiting = tuple(each for each in history.waiting if there.issuperset(each.key))
    looked = {
        uuid: at_s
        for uuid, at_s in history.looked.items()
        if uuid in there and 0.0 <= now_s - at_s < rules.look_again_s
    }
    return replace(history, moves=moves, waiting=waiting, looked=looked)


def _longest_s(rules: Rules) -> float:
    return max(rules.forget_s, rules.hold_off_s, MINUTE_S)


@dataclass(slots=True)
class Memory:
    """A round's own copy of its history, in which it notes what it does."""

    rules: Rules
    now_s: float
    history: History
    waiting: dict[tuple[str, ...], Waiting] = field(default_factory=dict)
    looked: dict[str, float] = field(default_factory=dict)
    begun: list[Moved] = field(default_factory=list)
    swaps_looked_s: float = -math.inf

    @classmethod
    def of(cls, history: History, now_s: float, rules: Rules) -> Memory:
        """A round that begins now."""
        return cls(rules, now_s, history, {}, dict(history.looked), [], history.swaps_looked_s)

    def to_be_kept(self) -> History:
        """What the next round is to be given, before what is begun of this one's plan is added."""
        waiting = tuple(self.waiting[key] for key in sorted(self.waiting))
        return replace(self.history, waiting=waiting, looked=self.looked, swaps_looked_s=self.swaps_looked_s)

    def waits(self, key: tuple[str, ...]) -> Waiting | None:
        """What was waited for so far."""
        return next((each for each in self.history.waiting if each.key == key), None)

    def is_due(self, each: Waiting) -> bool:
        """Whether what is waited for is to be weighed anew."""
        return self.now_s - each.last_s >= min(WEIGHED_EVERY_S, self.rules.settle_s / 3.0)

    def pending(self) -> int:
        """How many domains wait for a move of their own that would be made if its gain lasts."""
        kept = {each.key: each for each in self.history.waiting} | self.waiting
        return sum(len(key) == 1 and each.gain >= self.rules.start for key, each in kept.items())

    def held_off(self, uuid: str) -> str:
        """Why this domain is not to be moved now; "" if it may be."""
        own = [each for each in self.history.moves if each.uuid == uuid]
        if not own:
            return ""
        if any(each.ended_s is None for each in own):
            return "it is being moved"
        last_s = max(each.ended_s for each in own if each.ended_s is not None)
        lately = sum(self.now_s - (each.ended_s or 0.0) < self.rules.forget_s for each in own)
        until_s = last_s + self.rules.hold_off_s * 2.0 ** (max(lately, 1) - 1)
        if self.now_s >= until_s:
            return ""
        return f"it was moved {self.now_s - last_s:.0f} s ago and stays for another {until_s - self.now_s:.0f} s"

    def no_budget(self, moves: int = 1) -> str:
        """Why so many more moves cannot begin now; "" if they can."""
        lately = sum(self.now_s - each.began_s < MINUTE_S for each in self.history.moves) + len(self.begun)
        if lately + moves > self.rules.per_minute:
            return f"{lately} moves were begun within a minute, and {self.rules.per_minute} may be"
        return ""

    def pair_busy(self, sources: Iterable[int], targets: Iterable[int]) -> str:
        """Whether as many moves as may be are under way between two of these nodes, said in words; "" if not."""
        wanted = _pairs(sources, targets)
        running = [_pairs(each.sources, each.targets) for each in (*self.history.under_way, *self.begun)]
        for pair in sorted(wanted):
            if sum(pair in pairs for pairs in running) >= self.rules.per_pair:
                return f"between nodes {pair[0]} and {pair[1]} a move is under way"
        return ""

    def wait(self, key: tuple[str, ...], gain: float, cost: Cost) -> str:
        """Note a gain; why it is waited for, "" once it was waited for long enough."""
        was = self.waits(key)
        if was is None and gain < self.rules.start:
            return f"it gains {gain:.3f}, and {self.rules.start:g} is asked for"
        now_s = self.now_s
        since_s, lost_s, level = now_s, 0.0, gain
        if was is not None and 0.0 <= now_s - was.last_s <= LONGEST_GAP_S:
            passed_s = now_s - was.last_s
            since_s, lost_s = was.since_s, was.lost_s + gain * passed_s
            kept = 0.5 ** (passed_s / AVERAGED_S)
            level = kept * was.level + (1.0 - kept) * gain
        if was is not None and max(gain, was.gain) < self.rules.start and now_s - since_s > 2.0 * self.rules.settle_s:
            return f"it gained more for a while, gains {gain:.3f} now, and {self.rules.start:g} is asked for"
        self.waiting[key] = Waiting(key, since_s, now_s, lost_s, level, gain)
        if gain < self.rules.start or gain < FALLING * level:
            return f"its gain is falling: {gain:.3f}, and it was {level:.3f}"
        long_enough_s = max(self.rules.settle_s, cost.time_s)
        if now_s - since_s < long_enough_s:
            return f"its gain has lasted for {now_s - since_s:.0f} s, and is waited for until {long_enough_s:.0f} s"
        if lost_s < cost.slowdown_s:
            return f"{lost_s:.1f} domain-seconds were lost so far, and moving it costs {cost.slowdown_s:.1f}"
        return ""

    def begin(self, move: Move) -> None:
        """Note a move of this round."""
        self.begun.append(Moved(move.uuid, move.sources, move.option.nodes, move.option.memory_mib, self.now_s))


def _pairs(sources: Iterable[int], targets: Iterable[int]) -> set[tuple[int, int]]:
    to = tuple(targets)
    return {(min(a, b), max(a, b)) for a in sources for b in to if a != b}
