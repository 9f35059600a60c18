"""What rebalancers are known to do wrong, over many rounds of a host that does as it is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from moving_hosts import at_home, cpus_of, domain, host
from stepped import Stepped

from domicile.policies.migration.records import Permits, Way
from domicile.policies.rebalancing.records import Rules
from domicile.state.model import Cpupool, Domain

NIC = "0000:41:00.0"


def homes(stepped: Stepped, *names: str) -> Counter[int]:
    """How many of these domains are on each node."""
    return Counter(max(where, key=where.__getitem__) for where in map(stepped.where, names))


class TestTradingPlaces:
    def test_two_domains_do_not_trade_places_for_ever(self) -> None:
        """Each would like the other's node better: one that is heavy, and one that is light and has more memory."""
        heavy, light = at_home("heavy", 0, vcpus=4), at_home("light", 1, vcpus=2)
        stepped = Stepped(host(heavy, light, nodes=2)).run(200)
        assert len(stepped.made) <= 1

    def test_not_even_when_their_loads_take_turns(self) -> None:
        """A minute each: whoever is busy finds the other's node emptier, and is idle again when it has got there."""

        def turns(now_s: float) -> dict[str, float]:
            first = (now_s // 60) % 2 == 0
            return {"a": 2.0 if first else 0.1, "b": 0.1 if first else 2.0}

        guests = [at_home("a", 0), at_home("b", 1), at_home("c", 0, mib=512), at_home("d", 1, mib=512)]
        stepped = Stepped(host(*guests, nodes=2), turns).run(720)
        # an hour: with a hold-off that doubles, a domain can be moved four times at most
        assert all(moves <= 4 for moves in Counter(stepped.moved).values())
        late = [round_ for round_, _ in stepped.made if round_ > 360]
        assert len(late) <= 2


class TestTheBusyNetworkCard:
    def guests(self, count: int) -> Stepped:
        served = [replace(at_home(f"g{n}", n % 4, mib=512), backends=("xenbr0",)) for n in range(count)]
        dom0 = domain("Domain-0", 0, vcpus=1, number=0, soft=cpus_of([0]), mib=512)
        snapshot = host(dom0, *served, devices={NIC: 0})
        return Stepped(replace(snapshot, backing={"xenbr0": NIC}), lambda _: {"Domain-0": 0.3})

    def test_guests_are_not_all_pulled_to_its_node(self) -> None:
        stepped = self.guests(8).run(120)
        at_the_card = homes(stepped, *(f"g{n}" for n in range(8)))[0]
        assert at_the_card <= 2

    def test_one_that_finds_room_there_may_come(self) -> None:
        """The card counts, as long as nobody is crowded by it."""
        guest = replace(domain("g0", 3, vcpus=1, soft=cpus_of([3])), backends=("xenbr0",))
        snapshot = replace(host(guest, devices={NIC: 0}), backing={"xenbr0": NIC})
        assert homes(Stepped(snapshot).run(60), "g0") == {0: 1}


class TestAfterAMaintenance:
    NAMES = tuple(f"g{n}" for n in range(8))

    def test_what_was_left_on_one_node_is_spread_though_load_is_light(self) -> None:
        stepped = Stepped(
            host(*(at_home(name, 0, mib=512) for name in self.NAMES)), lambda _: dict.fromkeys(self.NAMES, 0.05)
        )
        stepped.run(150)
        assert max(homes(stepped, *self.NAMES).values()) <= 3
        assert len(stepped.made) <= 8

    def test_on_a_node_with_room_for_all_too(self) -> None:
        """Sixteen pCPUs for sixteen vCPUs that idle: they would be short of cores when they wake."""
        guests = [at_home(name, 0, mib=512, cpus_per_node=16, count=64) for name in self.NAMES]
        stepped = Stepped(host(*guests, cpus_per_node=16), lambda _: dict.fromkeys(self.NAMES, 0.05)).run(150)
        assert max(homes(stepped, *self.NAMES).values()) < 8

    def test_it_is_what_domains_are_held_ready_for_that_spreads_them(self) -> None:
        guests = [at_home(name, 0, mib=512, cpus_per_node=16, count=64) for name in self.NAMES]
        load = dict.fromkeys(self.NAMES, 0.05)
        stepped = Stepped(host(*guests, cpus_per_node=16), lambda _: load, rules=Rules(ready=0.0)).run(60)
        assert not stepped.made

    def test_a_node_that_is_short_of_memory_is_relieved(self) -> None:
        guests = [at_home(name, 0, vcpus=1, mib=1010, cpus_per_node=16, count=64) for name in self.NAMES]
        stepped = Stepped(host(*guests, cpus_per_node=16), lambda _: dict.fromkeys(self.NAMES, 0.0)).run(120)
        free = {node.id: node.free_mib for node in stepped.snapshot.topology.nodes}
        assert all(mib is not None and mib > 8192 * 0.05 for mib in free.values())

    def test_who_fits_together_is_left_together_where_moving_costs_more(self) -> None:
        guests = [at_home(name, 0, mib=512) for name in self.NAMES]
        stepped = Stepped(host(*guests), lambda _: dict.fromkeys(self.NAMES, 0.05), rules=Rules(horizon_s=0.05)).run(
            100
        )
        assert not stepped.made


class TestBursts:
    def crowd(self) -> list[str]:
        return ["a", "b", "c"]

    @pytest.mark.parametrize("burst_s", [10.0, 25.0])
    def test_one_that_ends_before_the_move_would_moves_nobody(self, burst_s: float) -> None:
        def burst(now_s: float) -> dict[str, float]:
            return dict.fromkeys(self.crowd(), 2.0 if 300.0 <= now_s < 300.0 + burst_s else 0.1)

        guests = [at_home(name, 0) for name in self.crowd()]
        stepped = Stepped(host(*guests, nodes=2), burst, rules=Rules(ready=0.0)).run(150)
        assert not stepped.made

    def test_one_that_is_waited_for_as_long_as_its_move_takes(self) -> None:
        """Forty-odd seconds of copying: a burst of forty is over before it would be."""

        def burst(now_s: float) -> dict[str, float]:
            return dict.fromkeys(self.crowd(), 2.0 if 300.0 <= now_s < 340.0 else 0.1)

        guests = [at_home(name, 0, mib=40_000) for name in self.crowd()]
        stepped = Stepped(host(*guests, nodes=2, node_mib=131_072), burst, rules=Rules(ready=0.0)).run(150)
        assert not stepped.made

    def test_load_that_lasts_is_answered(self) -> None:
        def lasting(now_s: float) -> dict[str, float]:
            return dict.fromkeys(self.crowd(), 2.0 if now_s >= 300.0 else 0.1)

        guests = [at_home(name, 0) for name in self.crowd()]
        stepped = Stepped(host(*guests, nodes=2), lasting, rules=Rules(ready=0.0)).run(150)
        assert len(stepped.made) == 1
        round_, _ = stepped.made[0]
        assert 330.0 <= round_ * 5.0 <= 400.0


class TestSwaps:
    def test_two_change_places_where_memory_lets_none_go_alone(self) -> None:
        """Node 0 has two busy domains, node 1 two idle ones, and neither has memory for one of the other's kind."""
        busy = [at_home("busy1", 0, mib=2500), at_home("busy2", 0, mib=4500)]
        idle = [at_home("idle1", 1, mib=1500), at_home("idle2", 1, mib=5200)]
        load = {"idle1": 0.0, "idle2": 0.0}
        stepped = Stepped(host(*busy, *idle, nodes=2, node_mib=8600), lambda _: load, rules=Rules(ready=0.05)).run(100)
        swaps = [swap for plan in stepped.plans for swap in plan.swaps]
        assert len(swaps) == 1
        names = {swaps[0].first.domain, swaps[0].second.domain}
        assert len(names & {"busy1", "busy2"}) == 1
        assert "neither gains alone" in swaps[0].reason
        assert homes(stepped, "busy1", "busy2") == {0: 1, 1: 1}

    def test_they_are_not_kept_waiting_by_others_that_might_be_moved(self) -> None:
        """On a large host somebody always gains enough for the moment; here two pairs that are busy by turns."""
        busy = [at_home("busy1", 0, mib=2500), at_home("busy2", 0, mib=4500)]
        idle = [at_home("idle1", 1, mib=1500), at_home("idle2", 1, mib=5200)]
        turns = [
            replace(at_home(f"{name}{node}", node, mib=500), cpupool="turns")
            for node in (2, 3)
            for name in ("first", "second")
        ]

        def load(now_s: float) -> dict[str, float]:
            of = dict.fromkeys(("idle1", "idle2"), 0.0)
            for node in (2, 3):
                awake = (now_s // 40) % 2 == node % 2
                of |= dict.fromkeys((f"first{node}", f"second{node}"), 2.0 if awake else 0.1)
            return of

        pools = [Cpupool("Pool-0", cpus_of([0, 1]), "credit2"), Cpupool("turns", cpus_of([2, 3]), "credit2")]

        def swapped(*others: Domain) -> int:
            snapshot = host(*busy, *idle, *others, node_mib=8600, pools=pools)
            stepped = Stepped(snapshot, load, rules=Rules(ready=0.05)).run(30)
            others_wait = sum(any(len(each.key) == 1 for each in plan.history.waiting) for plan in stepped.plans)
            assert bool(others_wait) == bool(others)
            return next(round_ for round_, move in stepped.made if move.domain == "busy1")

        assert swapped(*turns) == swapped()

    def test_without_swaps_they_stay(self) -> None:
        busy = [at_home("busy1", 0, mib=2500), at_home("busy2", 0, mib=4500)]
        idle = [at_home("idle1", 1, mib=1500), at_home("idle2", 1, mib=5200)]
        rules = Rules(ready=0.05, swaps=False)
        stepped = Stepped(host(*busy, *idle, nodes=2, node_mib=8600), lambda _: {"idle1": 0, "idle2": 0}, rules).run(50)
        assert not stepped.made
        reasons = [each.reason for each in stepped.plans[-1].considered] + [
            each.reason for each in stepped.plans[0].considered
        ]
        assert any("MiB free" in reason for reason in reasons)


class TestWays:
    def test_a_balloon_where_the_memory_is_not_there_twice(self) -> None:
        """Memory on a node whose CPUs are all busy, and the target full but for what the guest can free."""
        guests = [at_home("a", 0, mib=1200), at_home("b", 0, mib=1200), at_home("c", 1, vcpus=1, mib=7100)]
        rules = Rules(permits={"a": Permits(minimum_mib=200)}, ready=0.05, swaps=False)
        stepped = Stepped(host(*guests, nodes=2), lambda _: {"c": 0.0}, rules).run(60)
        assert [(move.domain, move.option.way) for _, move in stepped.made] == [("a", Way.BALLOON)]

    def test_who_is_to_be_left_alone_is_and_it_is_said(self) -> None:
        guests = [at_home(name, 0) for name in ("a", "b", "c")]
        stepped = Stepped(host(*guests), rules=Rules(leave=("a", "b", "c"))).run(20)
        assert not stepped.made
        assert {each.reason for each in stepped.plans[0].considered} == {"domicile.toml says that it is left alone"}
