"""Page sharing as a policy: what it may never do, that switches are honoured, and which mode is best where."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_hosts import TOTAL_MIB, domain, host, hosts, machine

from domicile.policies.memory_modes import USUAL_LIMITS, Limits
from domicile.policies.sharing import Scanner, choose_sharing
from domicile.state.model import Snapshot
from domicile.state.page_use import PageUse
from domicile.state.request import Character, Intent, SharingMode

OFF, SAME, ANY = SharingMode
NO_INTENT = Intent()
QUICK = Scanner(scan_mib_s=1e6, written_mib_s=0.0)


@settings(max_examples=40, deadline=None)
@given(hosts(), st.data())
def test_what_holds_everywhere(case: tuple[Snapshot, list[PageUse]], data: st.DataObject) -> None:
    snapshot, uses = case
    said = tuple((use.domain, data.draw(st.sampled_from(SharingMode))) for use in uses if data.draw(st.booleans()))
    intent = Intent(sharing_by_domain=said)
    choice = choose_sharing(snapshot, uses, intent, scanner=QUICK)
    assert choice == choose_sharing(snapshot, uses, intent, scanner=QUICK)
    plain = choose_sharing(snapshot, uses, scanner=QUICK)
    off, same, _ = plain.effects
    sizes = {each.name: each.memory_mib for each in snapshot.domains}
    equal = [use.equal_pages * sizes[use.domain] for use in uses]
    for effect in (*choice.effects, choice.best, *plain.effects):
        assert -1 <= effect.freed_in_all_mib <= sum(equal) + 1
        for each in effect.domains:
            asked = dict(said).get(each.domain) if effect in choice.effects or effect is choice.best else None
            assert asked is None or each.mode == asked
            if each.mode != ANY:
                assert each.away_mib == 0
                assert each.remote_share == pytest.approx(
                    next(o for o in off.domains if o.domain == each.domain).remote_share
                )
    assert off.freed_in_all_mib == 0
    assert all(each.loss == 0.0 for each in off.domains)
    # nobody's accesses go elsewhere
    assert same.remote_share == pytest.approx(off.remote_share)
    assert same.worst_loss == pytest.approx(0.0, abs=1e-9)
    assert not any(use.domain == name for use in uses for name, _ in choice.best.exceptions if use.domain in dict(said))


def full(free_mib: int, intent: Intent = NO_INTENT, limits: Limits = USUAL_LIMITS) -> tuple[str, dict[str, str]]:
    """The best mode of a host with two guests of one image on each of two nodes, so much being free on each."""
    topology = machine(2)
    size = (TOTAL_MIB - free_mib) // 2
    domains = [domain(n + 1, f"d{n}", [size, 0] if n < 2 else [0, size], topology) for n in range(4)]
    uses = [PageUse(each.name, "image", 0.3) for each in domains]
    best = choose_sharing(host(topology, domains), uses, intent, scanner=QUICK, limits=limits).best
    return best.mode, dict(best.exceptions)


def test_nothing_is_done_for_nothing() -> None:
    assert full(TOTAL_MIB // 2) == (OFF, {})


def test_memory_that_is_short_is_worth_some_slowdown() -> None:
    # sharing anywhere costs the two guests of node 1: 30 % of their accesses are twice as far, at 0.4 of their time
    assert full(200, limits=Limits(mean_loss=1.0, worst_loss=1.0)) == (ANY, {})
    assert full(200) == (SAME, {})


def test_who_loses_too_much_shares_on_its_own_node() -> None:
    topology = machine(3)
    domains = [domain(n + 1, f"d{n}", [7000 if node == n else 0 for node in range(3)], topology) for n in range(3)]
    uses = [PageUse(each.name, "image", 0.3) for each in domains]
    light = Intent(domains=tuple(Character(name, memory_bound=0.01, traffic_gbs=0.1) for name in ("d0", "d1")))
    choice = choose_sharing(host(topology, domains), uses, light, scanner=QUICK)
    assert (choice.best.mode, choice.best.exceptions) == (ANY, (("d2", "same-node"),))
    assert "d2 would lose" in choice.reasons[2]
    assert choice.best.freed_mib == {1: 2100}
    # unless its mode is the administrator's
    said = Intent(domains=light.domains, sharing_by_domain=(("d2", ANY),))
    assert choose_sharing(host(topology, domains), uses, said, scanner=QUICK).best.mode == OFF


def test_a_domain_that_says_off_is_left_alone() -> None:
    topology = machine(1)
    domains = [domain(n + 1, f"d{n}", [2000], topology) for n in range(3)]
    uses = [PageUse(each.name, "image", 0.5) for each in domains]
    intent = Intent(sharing_by_domain=(("d0", OFF),))
    effects = choose_sharing(host(topology, domains), uses, intent, scanner=QUICK).effects
    assert [effect.freed_in_all_mib for effect in effects] == [0, 1000, 1000]
    on = Intent(sharing_by_domain=(("d0", SAME), ("d1", ANY)))
    assert choose_sharing(host(topology, domains), uses, on, scanner=QUICK).effects[0].freed_in_all_mib == 1000
