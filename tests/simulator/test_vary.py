"""A scenario with one key changed: by the words of its file, and refused as its file would be."""

from __future__ import annotations

import pytest

from domicile.errors import BadInput
from domicile.simulator.scenario import Scenario, load_scenario
from domicile.simulator.vary import vary
from domicile.state.request import SharingMode


def varied(scenario: str, key: str, value: str) -> Scenario:
    return vary(load_scenario(scenario), key, value, "shop")


def test_keys_of_all_kinds() -> None:
    assert varied("one-busy", "seed", "7").seed == 7
    assert varied("one-busy", "duration_s", "1.5").duration_s == 1.5
    assert varied("one-busy", "dom0.memory_mib", "2048").dom0.memory_mib == 2048
    assert varied("sharing-any-node", "domain.shop.sharing", "same-node").domains[0].sharing is SharingMode.SAME_NODE
    assert varied("sharing-any-node", "domain.shop.count", "3").domains[0].names == ("shop1", "shop2", "shop3")
    same = load_scenario("sharing-any-node")
    assert vary(same, "seed", str(same.seed), "shop") == same


@pytest.mark.parametrize(("key", "chosen"), [("sharing.mode", "off"), ("sharing.policy", "off")])
def test_one_of_two_words_holds(key: str, chosen: str) -> None:
    assert varied("sharing-any-node", key, chosen).sharing.chosen == chosen


def test_a_pool_keeps_its_nodes_under_the_other_word() -> None:
    text = vary(load_scenario("cold-pool-far"), "cold_pool.spare_mib", "10", "shop")
    found = vary(text, "tiering.mode", "other-nodes", "shop")
    assert (found.tiering.mode, found.tiering.spare_mib, found.cold_pool.policy) == ("other-nodes", 10, "off")
    back = vary(found, "cold_pool.policy", "far", "shop")
    assert (back.tiering.mode, back.cold_pool.spare_mib, back.cold_pool.policy) == ("off", 10, "far")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("sede", "1", "did you mean 'seed'?"),
        ("seed", "one", "Expected `int`"),
        ("sharing", "off", "is a table"),
        ("domain", "x", "is a table"),
        ("sharing.mod", "off", "did you mean 'mode'?"),
        ("sharing.mode.x", "off", "no such key"),
        ("domain.shop", "off", "no such key"),
        ("domain.web.sharing", "off", "there is no domain 'web'; there are shop"),
        ("domain.shop.sharing", "near", "Invalid enum value 'near'"),
        ("domain.shop.share", "off", "did you mean 'sharing'?"),
    ],
)
def test_what_cannot_be(key: str, value: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        varied("sharing-any-node", key, value)
    assert problem in caught.value.problem
