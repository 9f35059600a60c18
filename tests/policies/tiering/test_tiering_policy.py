"""Tiering as a policy: where cold pages may go, what they take, that switches hold, which mode is best where."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_hosts import TOTAL_MIB, domain, host, hosts, machine

from domicile.performance.assumptions import DEFAULT
from domicile.policies.tiering import Pool, choose_tiering
from domicile.policies.tiering.pool import CALL_S, LINES_PER_PAGE
from domicile.simulator import cold_pages
from domicile.state.model import Snapshot
from domicile.state.page_use import PageUse
from domicile.state.request import Intent, TieringMode

OFF, OTHER, FAR = TieringMode


@settings(max_examples=40, deadline=None)
@given(hosts(), st.data())
def test_what_holds_everywhere(case: tuple[Snapshot, list[PageUse]], data: st.DataObject) -> None:
    snapshot, uses = case
    topology = snapshot.topology
    said = tuple((use.domain, data.draw(st.sampled_from(TieringMode))) for use in uses if data.draw(st.booleans()))
    intent = Intent(tiering_by_domain=said)
    pool = Pool(after_s=data.draw(st.sampled_from([0.0, 1.0, 20.0])))
    choice = choose_tiering(snapshot, uses, intent, pool=pool)
    assert choice == choose_tiering(snapshot, uses, intent, pool=pool)
    has_far = any(not topology.cpus_by_node[node] for node in topology.node_ids)
    known = {use.domain: use for use in uses}
    free = {node.id: node.free_mib or 0 for node in topology.nodes}
    for effect in choice.effects:
        wants_far = FAR in {effect.mode, *dict(said).values()} and (
            effect.mode != FAR or len(said) < len(snapshot.domains) or FAR in dict(said).values()
        )
        assert bool(effect.refused) == (wants_far and not has_far)
        if effect.refused:
            continue
        # what leaves one node is on another
        assert abs(effect.freed_in_all_mib) <= len(free)
        assert all(free[node] + mib >= -1 for node, mib in effect.freed_mib.items())
        for each in effect.domains:
            assert each.mode == dict(said).get(each.domain, effect.mode)
            use, size = known.get(each.domain), next(d.memory_mib for d in snapshot.domains if d.name == each.domain)
            most = min(use.ephemeral + use.persistent, use.cold) * size if use and each.mode != OFF else 0.0
            assert each.away_mib <= most + 1
            assert each.loss >= -1e-9
    if not choice.effects[0].refused and not said:
        assert choice.effects[0].freed_mib == {}


def crowded(far: bool) -> tuple[Snapshot, list[PageUse]]:
    """A guest that fills node 0, of which it uses half; node 1 and far memory are empty."""
    topology = machine(2, far)
    sizes = [TOTAL_MIB - 200, 0] + [0] * far
    return host(topology, [domain(1, "d", sizes, topology)]), [PageUse("d", "", 0.0, 0.5, 0.25, 0.15, 100.0, 1.0)]


@pytest.mark.parametrize(("far", "expected"), [(False, {0: 3197, 1: -3197}), (True, {0: 3197, 2: -3197})])
def test_a_full_node_is_relieved(far: bool, expected: dict[int, int]) -> None:
    snapshot, uses = crowded(far)
    choice = choose_tiering(snapshot, uses)
    effect = choice.effects[2 if far else 1]
    assert {node: pytest.approx(mib, abs=2) for node, mib in expected.items()} == effect.freed_mib
    assert choice.best.mode == OTHER  # nearer than far memory, and as much relief
    assert "shortage" in choice.reason
    if not far:
        assert "none is named as far memory" in choice.reasons[2]


def test_a_node_can_be_named_as_far_memory() -> None:
    snapshot, uses = crowded(far=False)
    effect = choose_tiering(snapshot, uses, Intent(far_nodes=(1,))).effects[2]
    assert not effect.refused
    assert effect.freed_mib[1] < -3000


def test_the_spare_is_left_and_what_finds_no_room_stays() -> None:
    topology = machine(2)
    domains = [domain(1, "d", [8000, 0], topology), domain(2, "e", [0, 7700], topology)]
    uses = [PageUse("d", "", 0.0, 1.0, 0.0, 0.5)]
    effect = choose_tiering(host(topology, domains), uses, pool=Pool(spare_mib=100)).effects[1]
    assert effect.freed_mib == {0: 392, 1: -392}


def test_copying_takes_time() -> None:
    """In closed form: 10 MiB/s touched and put again, 256 pages a MiB, one core's time for each."""
    snapshot, _ = crowded(far=True)
    uses = [PageUse("d", "", 0.0, 0.5, 0.1, 0.0, 1000.0, 10.0)]
    found = choose_tiering(snapshot, uses, pool=Pool(since_s=20.0, after_s=60.0)).effects[2]
    latency_ns = DEFAULT.local_latency_ns * 4
    page_s = CALL_S + LINES_PER_PAGE * latency_ns * 1e-9 / DEFAULT.lines_per_core
    assert found.busy_vcpus == pytest.approx(2 * 10 * 256 * page_s, rel=0.01)
    assert found.worst_loss == pytest.approx(found.busy_vcpus / 2 / (1 - found.busy_vcpus / 2), rel=0.1)


def test_a_page_costs_what_it_does_in_the_simulator() -> None:
    assert (CALL_S, LINES_PER_PAGE) == (cold_pages.CALL_S, cold_pages.LINES_PER_PAGE)


def test_a_domain_keeps_its_own_mode() -> None:
    snapshot, uses = crowded(far=True)
    intent = Intent(tiering_by_domain=(("d", OFF),))
    assert all(effect.freed_mib == {} for effect in choose_tiering(snapshot, uses, intent).effects)
    away = choose_tiering(snapshot, uses, Intent(tiering_by_domain=(("d", FAR),))).effects[0]
    assert set(away.freed_mib) == {0, 2}
