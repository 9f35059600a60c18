"""Demand: decayed means over all that was seen, by closed forms."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.state.demand import HALF_LIFE_S, Seen, demand_between, demand_of, seen_now
from domicile.state.model import Domain, Snapshot, Vcpu
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Node

CPUS = 4
MACHINE = checked(
    source="made", nodes=[Node(0, 1024), Node(1, 1024)], cpus=[Cpu(n, n, n // 2, n // 2) for n in range(CPUS)]
)
ALL = frozenset(range(CPUS))
SECOND = 1_000_000_000


def domain(name: str = "web", used_s: float | None = 0.0, *, number: int = 1, vcpus: int = 2) -> Domain:
    """A domain whose vCPUs have used so much together."""
    times = [None if used_s is None else round(used_s * SECOND) * (n == 0) for n in range(vcpus)]
    return Domain(
        number, name, f"uuid-{name}", tuple(Vcpu(n, n, ALL, ALL, time_ns=times[n]) for n in range(vcpus)), 1, 1
    )


def look(at: float, *domains: Domain, idle_s: float = 0.0) -> Snapshot:
    """The host at this moment, each pCPU idle for so long until then."""
    return Snapshot(MACHINE, domains, at, pcpu_idle_ns={cpu: round(idle_s * SECOND) for cpu in range(CPUS)})


def seen(*looks: Snapshot) -> Seen:
    found = None
    for each in looks:
        found = seen_now(each, found)
    assert found is not None
    return found


def demand(*looks: Snapshot) -> dict[str, float]:
    return demand_of(looks[-1], seen(*looks))


def test_a_second_look_tells_the_mean_between() -> None:
    assert demand(look(100.0, domain(used_s=50)), look(110.0, domain(used_s=65))) == {"web": pytest.approx(1.5)}


def test_what_is_a_half_life_back_counts_half() -> None:
    found = demand(
        look(0.0, domain(used_s=0)),
        look(HALF_LIFE_S, domain(used_s=2 * HALF_LIFE_S)),
        look(2 * HALF_LIFE_S, domain(used_s=2 * HALF_LIFE_S)),
    )
    assert found == {"web": pytest.approx(2.0 * 1 / 3)}


@given(
    st.lists(st.tuples(st.floats(0.5, 200), st.floats(0, 2)), min_size=1, max_size=8),
    st.lists(st.integers(1, 4), min_size=8, max_size=8),
)
def test_it_is_the_weighted_mean_however_often_one_looks(
    intervals: list[tuple[float, float]], pieces: list[int]
) -> None:
    """Oracle: the sum over all intervals, written out; looking more often in an interval changes nothing."""
    ends = [0.0]
    for length, _ in intervals:
        ends.append(ends[-1] + length)
    weights = [0.5 ** ((ends[-1] - end) / HALF_LIFE_S) - 0.5 ** ((ends[-1] - start) / HALF_LIFE_S)
               for start, end in pairwise(ends)]  # fmt: skip
    expected = sum(w * busy for w, (_, busy) in zip(weights, intervals, strict=True)) / sum(weights)
    looks, at, used = [look(0.0, domain())], 0.0, 0.0
    for (length, busy), count in zip(intervals, pieces, strict=False):
        for _ in range(count):
            at, used = at + length / count, used + busy * length / count
            looks.append(look(at, domain(used_s=used)))
    if ends[-1] >= 1.0:
        assert demand(*looks)["web"] == pytest.approx(expected, abs=1e-6)
    else:
        assert demand(*looks) == {}


def test_a_life_that_began_at_a_known_moment_is_the_first_interval() -> None:
    young = replace(domain(used_s=10), started_at=80.0)
    assert demand(look(100.0, young)) == {"web": pytest.approx(0.5)}
    later = replace(domain(used_s=10), started_at=80.0)
    weight = 1 - 0.5 ** (20 / HALF_LIFE_S)
    old, new = weight * 0.5 ** (60 / HALF_LIFE_S), 1 - 0.5 ** (60 / HALF_LIFE_S)
    assert demand(look(100.0, young), look(160.0, later)) == {"web": pytest.approx(0.5 * old / (old + new))}


def test_nothing_is_said_of_what_was_not_seen() -> None:
    assert demand(look(100.0, domain(used_s=10))) == {}, "when it began is not known"
    assert demand(look(100.0, replace(domain(used_s=0.3), started_at=99.5))) == {}, "half a second is too little"
    waits = replace(domain(), started_at=50.0, paused=True)
    assert demand(look(100.0, waits), look(200.0, waits)) == {}, "it has not run yet"
    assert demand(look(1.0, domain(used_s=None)), look(9.0, domain(used_s=None))) == {}


def test_a_domain_that_could_run_and_did_not_wants_nothing() -> None:
    assert demand(look(100.0, domain()), look(110.0, domain())) == {"web": 0.0}


def test_time_waited_was_wanted() -> None:
    first = replace(domain(used_s=5), waited_ns=5 * SECOND)
    last = replace(domain(used_s=10), waited_ns=15 * SECOND)
    assert demand(look(0.0, first), look(10.0, last)) == {"web": pytest.approx(1.5)}
    assert demand_between(look(0.0, first), look(10.0, last)) == {"web": pytest.approx(1.5)}


def test_never_more_than_there_are_vcpus() -> None:
    last = replace(domain(used_s=30), waited_ns=15 * SECOND)
    assert demand(look(0.0, domain()), look(10.0, last)) == {"web": 2.0}


def test_dom0_is_as_old_as_the_host() -> None:
    dom0 = domain("Domain-0", 50, number=0)
    assert demand(look(1e9, dom0, idle_s=87.5)) == {"Domain-0": pytest.approx(0.5)}


def test_a_reboot_and_a_clock_set_back_begin_anew() -> None:
    before = (look(0.0, domain(used_s=0), idle_s=100), look(50.0, domain(used_s=100), idle_s=150))
    rebooted = look(100.0, domain(used_s=2), idle_s=20)
    assert demand(*before, rebooted) == {}
    assert demand(*before, look(40.0, domain(used_s=110), idle_s=200)) == {}
    assert demand(*before, look(60.0, domain(used_s=100), idle_s=160))["web"] > 0


def test_a_guest_started_again_is_another_and_one_that_is_gone_is_forgotten() -> None:
    again = domain(used_s=3, number=2)
    assert demand(look(0.0, domain()), look(10.0, domain(used_s=20)), look(20.0, again)) == {}
    assert seen(look(0.0, domain()), look(10.0)).domains == {}


def test_the_same_moment_twice_says_nothing_new() -> None:
    first = seen(look(0.0, domain()), look(10.0, domain(used_s=5)))
    assert seen_now(look(10.0, domain(used_s=5)), first) == first


class TestWindow:
    """Demand by two looks alone."""

    def test_vcpu_times_go_before_idle_times(self) -> None:
        """A domain that ended within the window left pCPUs busy: nobody there gets its load."""
        first = look(0.0, domain(), domain("gone", 0, number=2), idle_s=0)
        last = look(10.0, domain(used_s=5), idle_s=5)
        assert demand_between(first, last) == {"web": pytest.approx(0.5)}

    def test_idle_times_serve_where_a_domain_tells_no_time(self) -> None:
        """4 pCPUs idle for half of the time, 0.5 of the 2 busy ones explained: 1.5 over 2 + 1 vCPUs."""
        silent = domain("silent", None, number=2), domain("quiet", None, number=3, vcpus=1)
        found = demand_between(look(0.0, domain(), *silent), look(10.0, domain(used_s=5), *silent, idle_s=5))
        assert found == {"web": pytest.approx(0.5), "silent": pytest.approx(1.0), "quiet": pytest.approx(0.5)}

    def test_order_matters(self) -> None:
        with pytest.raises(ValueError, match="not later"):
            demand_between(look(1.0), look(1.0))


def with_one_waiting(used_s: float, **more: object) -> Domain:
    """A domain of two vCPUs, the second of which has no pCPU at this look."""
    first, second = domain(used_s=used_s).vcpus
    vcpus = (replace(first, waiting=False), replace(second, waiting=True))
    return replace(domain(used_s=used_s), vcpus=vcpus, **more)  # type: ignore[arg-type]


class TestWaiting:
    def test_a_vcpu_that_a_look_finds_waiting_wants_to_run(self) -> None:
        looks = look(0.0, with_one_waiting(0)), look(10.0, with_one_waiting(8))
        assert demand(*looks) == {"web": pytest.approx(1.8)}
        assert demand_between(*looks) == {"web": pytest.approx(1.8)}

    def test_a_window_has_it_by_half_if_one_of_two_looks_finds_it(self) -> None:
        looks = look(0.0, domain(used_s=0)), look(10.0, with_one_waiting(8))
        assert demand_between(*looks) == {"web": pytest.approx(1.3)}

    def test_a_domain_wants_no_more_than_its_vcpus(self) -> None:
        looks = look(0.0, with_one_waiting(0)), look(10.0, with_one_waiting(15))
        assert demand(*looks) == {"web": pytest.approx(2.0)}

    @pytest.mark.parametrize(("cap_percent", "wanted"), [(120, 1.2), (80, 0.8)])
    def test_what_a_cap_keeps_waiting_wants_no_more(self, cap_percent: int, wanted: float) -> None:
        looks = [look(at, with_one_waiting(used, cap_percent=cap_percent)) for at, used in ((0.0, 0.0), (10.0, 8.0))]
        assert demand(*looks) == {"web": pytest.approx(wanted)}
        assert demand_between(*looks) == {"web": pytest.approx(wanted)}

    def test_where_the_time_is_told_a_look_adds_nothing(self) -> None:
        looks = [look(at, with_one_waiting(used, waited_ns=0)) for at, used in ((0.0, 0.0), (10.0, 8.0))]
        assert demand(*looks) == {"web": pytest.approx(0.8)}
