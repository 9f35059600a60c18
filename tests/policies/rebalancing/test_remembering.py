"""What one round leaves to the next: hold-offs, budgets, gains that are waited for."""

from __future__ import annotations

from hypothesis import given, strategies

from domicile.policies.migration.records import Cost
from domicile.policies.rebalancing.records import History, Moved, Rules
from domicile.policies.rebalancing.remembering import Memory


class TestRemembering:
    def test_a_domain_that_was_moved_stays_and_twice_as_long_each_time(self) -> None:
        moves = tuple(Moved("u", (0,), (1,), {1: 100}, began_s, began_s + 5.0) for began_s in (100.0, 1000.0))
        rules = Rules(hold_off_s=300.0)
        assert "another 500 s" in Memory.of(History(moves), 1105.0, rules).held_off("u")
        assert Memory.of(History(moves), 1605.0, rules).held_off("u") == ""
        assert "another 200 s" in Memory.of(History(moves[:1]), 205.0, rules).held_off("u")
        assert Memory.of(History(moves), 1105.0, rules).held_off("other") == ""

    def test_one_that_is_under_way_is_not_moved_again_nor_another_between_its_nodes(self) -> None:
        history = History((Moved("u", (0,), (1,), {1: 100}, 100.0),))
        memory = Memory.of(history, 500.0, Rules())
        assert memory.held_off("u") == "it is being moved"
        assert "between nodes 0 and 1" in memory.pair_busy((1,), (0,))
        assert memory.pair_busy((0,), (2,)) == ""
        assert Memory.of(history.ended("u", 400.0), 500.0, Rules()).pair_busy((0,), (1,)) == ""

    def test_so_many_moves_a_minute(self) -> None:
        history = History(tuple(Moved(f"u{n}", (0,), (1,), {}, 100.0 + n, 101.0 + n) for n in range(2)))
        assert "2 moves were begun" in Memory.of(history, 130.0, Rules()).no_budget()
        assert Memory.of(history, 162.0, Rules()).no_budget(2) == ""

    def test_a_gain_is_waited_for_until_waiting_costs_what_moving_does(self) -> None:
        rules, cost = Rules(settle_s=10.0), Cost(time_s=4.0, slowdown_s=3.0)
        history, answers = History(), []
        for now_s in range(0, 60, 5):
            memory = Memory.of(history, float(now_s), rules)
            answers.append(memory.wait(("u",), 0.1, cost))
            history = memory.to_be_kept()
        assert [bool(answer) for answer in answers] == [True] * 6 + [False] * 6
        assert "domain-seconds" in answers[4]

    def test_a_gain_that_falls_is_not_answered_and_one_that_never_was_enough_not_waited_for(self) -> None:
        rules, cost = Rules(settle_s=0.0), Cost()
        memory = Memory.of(History(), 0.0, rules)
        assert "asked for" in memory.wait(("u",), 0.04, cost)
        assert memory.wait(("v",), 0.4, cost) == ""
        later = Memory.of(memory.to_be_kept(), 5.0, rules)
        assert "falling" in later.wait(("v",), 0.2, cost)
        assert later.wait(("v",), 0.39, cost) == ""

    def test_one_look_that_finds_more_does_not_put_a_gain_off(self) -> None:
        rules, cost = Rules(settle_s=0.0), Cost()
        memory, answers = Memory.of(History(), 0.0, rules), []
        for now_s, gain in ((0.0, 0.4), (10.0, 0.8), (20.0, 0.4), (30.0, 0.42)):
            memory = Memory.of(memory.to_be_kept(), now_s, rules)
            answers.append(memory.wait(("u",), gain, cost))
        assert answers == [""] * 4

    @given(strategies.floats(1.0, 600.0), strategies.floats(0.1, 5.0), strategies.sampled_from([5.0, 10.0]))
    def test_what_is_left_of_a_burst_is_never_answered(self, lasted_s: float, gain: float, every_s: float) -> None:
        """Its gain halves in 10 s, or faster."""
        rules, cost = Rules(settle_s=0.0), Cost()
        memory, now_s = Memory.of(History(), 0.0, rules), 0.0
        while now_s < lasted_s:
            memory.wait(("u",), gain, cost)
            now_s += every_s
            memory = Memory.of(memory.to_be_kept(), now_s, rules)
        memory.wait(("u",), gain, cost)
        left = [gain * 0.5 ** (step * every_s / 10.0) for step in range(1, 30)]
        for step, rest in enumerate(left, start=1):
            memory = Memory.of(memory.to_be_kept(), now_s + step * every_s, rules)
            assert memory.wait(("u",), rest, cost) != ""

    def test_what_nobody_looked_at_for_long_is_begun_anew(self) -> None:
        rules, cost = Rules(), Cost()
        first = Memory.of(History(), 0.0, rules)
        first.wait(("u",), 0.5, cost)
        assert "0 s" in Memory.of(first.to_be_kept(), 500.0, rules).wait(("u",), 0.5, cost)
