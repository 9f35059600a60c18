"""What is seen of a host over time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watched import busy, host, seen

from domicile.policies.scheduling.watch import Watch, observe
from domicile.state.model import Domain


def test_one_look_tells_nothing_yet() -> None:
    watch = observe(Watch(), host(busy("a", [0, 1], memory=0)))
    assert not watch.demand
    assert watch.seen_s == 0.0
    assert watch.away("uuid-a", 0, frozenset({0})) == 0.0


def test_demand_and_positions_over_several_looks() -> None:
    watch = Watch()
    for second, cpus in enumerate([[0, 1], [0, 2], [0, 3], [1, 2]]):
        watch = observe(watch, host(busy("a", cpus, memory=0, ran_s=second), at=second))
    assert watch.demand["uuid-a"] == pytest.approx(2.0)
    assert watch.away("uuid-a", 0, frozenset({0})) == 0.0
    assert watch.away("uuid-a", 1, frozenset({0})) == pytest.approx(1.0)
    assert watch.away("uuid-a", 1, frozenset({0, 1})) == 0.0


def test_who_waits_wants_more_than_it_uses() -> None:
    """Two of three vCPUs run, the third waits for a pCPU at every second look."""
    watch = Watch()
    for second in range(200):
        domain = busy("a", [0, 1, 1], memory=0, ran_s=second * 2 / 3)
        waits = [False, False, second % 2 == 0]
        vcpus = tuple(replace(vcpu, waiting=waits[vcpu.id]) for vcpu in domain.vcpus)
        watch = observe(watch, host(replace(domain, vcpus=vcpus), at=second))
    assert watch.used["uuid-a"] == pytest.approx(2.0)
    assert watch.waiting["uuid-a"] == pytest.approx(0.5, abs=0.05)
    assert watch.demand["uuid-a"] == pytest.approx(2.5, abs=0.05)


def counted(name: str, second: int, *, gbs: float, busy_for: float = 1.0) -> Domain:
    """A domain of one vCPU that is busy for so much of each second, with memory traffic on average over it."""
    domain = busy(name, [0], memory=0, ran_s=busy_for * second)
    return replace(domain, traffic_bytes=round(gbs * second * 1e9))


def test_traffic_is_that_of_a_busy_vcpu() -> None:
    watch = Watch()
    for second in range(30):
        domains = counted("a", second, gbs=3.0, busy_for=0.5), counted("b", second, gbs=0.1, busy_for=0.001)
        watch = observe(watch, host(*domains, busy("c", [1], memory=0, ran_s=second), at=second))
    assert watch.last is not None
    # who hardly runs says nothing of what it would be, nor does who is not counted
    assert watch.traffic_gbs(watch.last) == pytest.approx({"a": 6.0})


def test_traffic_that_is_counted_anew() -> None:
    """Somebody connects again: what the last connection had counted is gone."""
    watch = Watch()
    for second in range(20):
        watch = observe(watch, host(counted("a", second, gbs=3.0), at=second))
    anew = replace(counted("a", 20, gbs=3.0), traffic_bytes=0)
    watch = observe(watch, host(anew, at=20))
    assert not watch.traffic
    watch = observe(watch, host(replace(counted("a", 21, gbs=3.0), traffic_bytes=3 * 10**9), at=21))
    assert watch.traffic == pytest.approx({"uuid-a": 3.0})


def test_nobody_wants_more_than_a_pcpu_for_each_vcpu() -> None:
    """Times come in tenths of a second, and of two vCPUs that run all the time each look may find one that waits for
    a moment."""
    watch = Watch()
    for turn in range(12):
        domain = busy("a", [0, 1], memory=0, ran_s=5.1 * turn)
        vcpus = tuple(replace(vcpu, waiting=vcpu.id == turn % 2) for vcpu in domain.vcpus)
        watch = observe(watch, host(replace(domain, vcpus=vcpus), at=5.0 * turn))
        if turn:
            assert watch.demand["uuid-a"] == pytest.approx(2.0)


def test_what_a_cap_keeps_it_from_is_not_wanted() -> None:
    watch = Watch()
    for second in range(60):
        domain = replace(busy("a", [0, 1], memory=0, ran_s=second / 2), cap_percent=100)
        vcpus = tuple(replace(vcpu, waiting=True) for vcpu in domain.vcpus)
        watch = observe(watch, host(replace(domain, vcpus=vcpus), at=second))
    assert watch.demand["uuid-a"] == pytest.approx(1.0)


def test_where_nobody_tells_who_waits_demand_is_what_is_used() -> None:
    _, watch = seen(busy("a", [0, 1], memory=0))
    assert not watch.waiting
    assert watch.demand == watch.used


def test_older_looks_count_less() -> None:
    watch = observe(Watch(), host(busy("a", [0], memory=0)))
    watch = observe(watch, host(busy("a", [2], memory=0, ran_s=10), at=10), half_life_s=10)
    assert watch.away("uuid-a", 0, frozenset({0})) == 1.0
    watch = observe(watch, host(busy("a", [0], memory=0, ran_s=20), at=20), half_life_s=10)
    # ten seconds away that count half, ten seconds at home
    assert watch.away("uuid-a", 0, frozenset({0})) == pytest.approx(1 / 3)


def test_a_domain_that_is_gone_is_forgotten() -> None:
    watch = observe(Watch(), host(busy("a", [0], memory=0)))
    watch = observe(watch, host(busy("a", [0], memory=0, ran_s=1), at=1))
    watch = observe(watch, host(at=2))
    assert not watch.demand
    assert not watch.ran


def test_a_look_that_is_not_later_changes_nothing() -> None:
    watch = observe(Watch(), host(busy("a", [0], memory=0), at=5))
    assert observe(watch, host(busy("a", [0], memory=0, ran_s=9), at=5)) is watch


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0.5, 20_000.0), st.integers(0, 10)), min_size=1, max_size=40),
    st.sampled_from([1.0, 10.0]),
)
def test_as_if_all_that_is_older_were_made_less_at_every_look(
    looks: list[tuple[int, float, int]], half_life_s: float
) -> None:
    """Against the plain sum; hundreds of half-lives go by, which no float holds without being made small again."""
    at = ran_s = 0.0
    watch = observe(Watch(), host(busy("a", [0], memory=0)), half_life_s)
    seen = [0.0] * 4
    for node, passed_s, tenths in looks:
        at, ran_s = at + passed_s, ran_s + tenths / 10 * passed_s
        watch = observe(watch, host(busy("a", [2 * node], memory=0, ran_s=ran_s), at=at), half_life_s)
        seen = [0.5 ** (passed_s / half_life_s) * time_s for time_s in seen]
        seen[node] += tenths / 10 * passed_s
        # less than this is nothing
        for home in range(4) if sum(seen) > 1e-6 else ():
            expected = 1.0 - seen[home] / sum(seen)
            assert watch.away("uuid-a", 0, {home}) == pytest.approx(expected, abs=1e-6)
