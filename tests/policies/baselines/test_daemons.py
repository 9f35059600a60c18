"""The daemons among the baselines, on hosts of four nodes with two pCPUs each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from watched import ALL, NODES, TOPOLOGY, busy, host

from domicile.policies.baselines import esxi, numad_daemon
from domicile.policies.baselines.rehoming import home_nodes, movable
from domicile.state.model import Domain, Snapshot

MIB = {0: 1024}


def guest(name: str, node: int, vcpus: int = 1, *, home: int | None = None, mib: int = 1024) -> Domain:
    hard = ALL if home is None else NODES[home]
    return busy(name, [2 * node] * vcpus, {node: mib}, hard=hard)


def with_free(snapshot: Snapshot, free_mib: int) -> Snapshot:
    nodes = tuple(replace(node, free_mib=free_mib) for node in snapshot.topology.nodes)
    return replace(snapshot, topology=replace(TOPOLOGY, nodes=nodes))


def on(*domains: Domain, at: float = 0.0, free_mib: int = 2048) -> Snapshot:
    return with_free(host(*domains, at=at), free_mib)


def demand(**wants: float) -> dict[str, float]:
    return {f"uuid-{name}": want for name, want in wants.items()}


class TestEsxi:
    def test_a_newcomer_stays_where_it_was_placed(self) -> None:
        [settled] = esxi.rebalance(on(guest("a", 2)), demand(a=0.1))
        assert (settled.nodes, settled.before) == ((2,), ())

    def test_one_on_all_nodes_stays_on_all(self) -> None:
        spread = busy("a", [0, 2, 4, 6], dict.fromkeys(range(4), 256))
        assert esxi.first_home(on(spread), spread) == (0, 1, 2, 3)

    def test_the_least_loaded_node_gets_one_of_the_most_loaded(self) -> None:
        """Of a difference of 0.7 the large one leaves -0.3, the small one 0.2."""
        guests = [
            guest("a", 0, home=0),
            guest("b", 0, home=0),
            *(guest(name, n, home=n) for n, name in enumerate("xcde") if n),
        ]
        [move] = esxi.rebalance(on(*guests), demand(a=1.0, b=0.5, c=0.4, d=0.3, e=0.1))
        assert (move.domain, move.before, move.nodes) == ("b", (0,), (3,))

    def test_one_that_has_memory_there_goes_first(self) -> None:
        here = replace(guest("a", 0, home=0), pages_by_node={0: 1000, 3: 500})
        guests = [here, guest("b", 0, home=0), guest("c", 1, home=1), guest("d", 2, home=2)]
        [move] = esxi.rebalance(on(*guests), demand(a=1.0, b=0.5, c=0.4, d=0.3))
        assert move.domain == "a"

    @pytest.mark.parametrize(("second", "moves"), [(0.81, 0), (0.79, 1)])
    def test_it_takes_a_tenth(self, second: float, moves: int) -> None:
        """1.0 on two pCPUs beside 0.8 of two is a difference of a tenth; a small one that helps is there."""
        guests = [guest(name, node, home=node) for node, name in enumerate("abcd")]
        guests.append(guest("e", 0, home=0))
        found = esxi.rebalance(on(*guests), demand(a=0.95, b=1.0, c=1.0, d=second, e=0.05))
        assert len(found) == moves

    def test_nobody_goes_where_there_is_no_room(self) -> None:
        guests = [guest("a", 0, home=0), guest("b", 0, home=0)]
        assert esxi.rebalance(on(*guests, free_mib=512), demand(a=1.0, b=1.0)) == ()

    def test_nobody_goes_where_it_would_be_no_better(self) -> None:
        assert esxi.rebalance(on(guest("a", 0, 2, home=0)), demand(a=2.0)) == ()


class TestNumad:
    def test_who_has_no_home_gets_one_the_largest_first_and_one_at_a_time(self) -> None:
        guests = [guest("a", 0, mib=512), guest("b", 1, mib=1024)]
        found = numad_daemon.manage(on(*guests), demand(a=0.9, b=0.9), {})
        assert found.move is not None
        assert (found.move.domain, found.move.nodes, found.move.before) == ("b", (1,), ())
        assert (dict(found.bound_at), found.next_s) == ({"uuid-b": 1000.0}, 5.0)

    @pytest.mark.parametrize(("wants", "mib"), [(0.5, 1024), (0.9, 300)])
    def test_small_ones_are_none_of_its_business(self, wants: float, mib: int) -> None:
        found = numad_daemon.manage(on(guest("a", 0, mib=mib)), demand(a=wants), {})
        assert (found.move, found.next_s) == (None, 15.0)

    def test_five_minutes_pass_before_it_looks_again(self) -> None:
        """Its memory is on another node than its home by now."""
        strange = replace(guest("a", 0, home=0), pages_by_node={0: 100, 1: 1000})
        bound = {"uuid-a": 1000.0}
        assert numad_daemon.manage(on(strange, at=299.0), demand(a=0.9), bound).move is None
        later = numad_daemon.manage(on(strange, at=301.0), demand(a=0.9), bound)
        assert later.move is not None
        assert later.bound_at == {"uuid-a": 1301.0}

    def test_who_is_where_it_should_be_is_marked_and_left(self) -> None:
        found = numad_daemon.manage(on(guest("a", 0, home=0), at=400.0), demand(a=0.9), {"uuid-a": 1000.0})
        assert (found.move, dict(found.bound_at)) == (None, {"uuid-a": 1400.0})

    def test_the_wait_is_cut_short_on_the_busiest_node(self) -> None:
        """CPUs and memory would both be more even: the first of two guests goes to an empty node."""
        guests = [guest("a", 0, home=0, mib=1000), guest("b", 0, home=0, mib=1000)]
        snapshot = on(*guests, at=10.0)
        nodes = tuple(replace(node, free_mib=2000 if node.id == 0 else 4000) for node in snapshot.topology.nodes)
        snapshot = replace(snapshot, topology=replace(TOPOLOGY, nodes=nodes))
        bound = {"uuid-a": 1000.0, "uuid-b": 1000.0}
        found = numad_daemon.manage(snapshot, demand(a=0.8, b=0.8), bound)
        assert found.bound_at != bound, "one of them was looked at"

    def test_who_has_gone_is_forgotten(self) -> None:
        assert numad_daemon.manage(on(), {}, {"uuid-a": 1000.0}).bound_at == {}


def test_homes_are_what_hard_affinity_leaves() -> None:
    snapshot = on(guest("a", 0, home=2), guest("b", 1))
    assert [home_nodes(snapshot, domain) for domain in snapshot.domains] == [(2,), ()]
    dom0 = replace(guest("dom0", 0), id=0)
    assert movable(on(dom0, replace(guest("a", 0), paused=True), guest("b", 0))) == [on(guest("b", 0)).domains[0]]
