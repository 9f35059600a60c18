"""One round: what is changed, what is held, what is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from watched import ALL, NODES, TOPOLOGY, busy, host, seen

from domicile.performance.assumptions import DEFAULT
from domicile.policies.scheduling.follow import Rules, follow
from domicile.policies.scheduling.holds import Held
from domicile.policies.scheduling.plan import SchedulingPlan
from domicile.policies.scheduling.room import rooms
from domicile.policies.scheduling.watch import Watch
from domicile.state.model import Cpupool, Domain, Snapshot
from domicile.state.request import Character, DevicePolicy, Intent


def held_after(plan: SchedulingPlan, held: dict[tuple[str, int], Held]) -> dict[tuple[str, int], Held]:
    left = {key: each for key, each in held.items() if key not in {(go.uuid, go.vcpu) for go in plan.let_go}}
    return left | {(each.uuid, each.vcpu): Held(each.domain, each.cpus, each.before) for each in plan.hold}


def carried_out(snapshot: Snapshot, plan: SchedulingPlan, held: dict[tuple[str, int], Held]) -> Snapshot:
    """The host with the plan carried out."""
    soft = {change.uuid: change.cpus for change in plan.soft}
    now = held_after(plan, held)

    def changed(domain: Domain) -> Domain:
        vcpus = tuple(
            replace(
                vcpu,
                soft_affinity=soft.get(domain.uuid, vcpu.soft_affinity),
                hard_affinity=now[domain.uuid, vcpu.id].cpus if (domain.uuid, vcpu.id) in now else ALL,
            )
            for vcpu in domain.vcpus
        )
        return replace(domain, vcpus=vcpus)

    return replace(snapshot, domains=tuple(map(changed, snapshot.domains)))


class TestFollowing:
    def test_vcpus_go_where_memory_is(self) -> None:
        snapshot, watch = seen(busy("a", [2, 3], memory=2, soft=NODES[1]))
        [change] = follow(snapshot, watch, {}).soft
        assert change.nodes == (2,)
        assert change.cpus == NODES[2]
        assert change.gain > 0.3
        assert "node 2" in change.reason

    def test_a_domain_that_nobody_placed_is_adopted(self) -> None:
        snapshot, watch = seen(busy("a", [0, 5], memory=3))
        [change] = follow(snapshot, watch, {}).soft
        assert change.nodes == (3,)

    def test_one_that_is_right_is_left_as_it_is(self) -> None:
        snapshot, watch = seen(busy("a", [2, 3], memory=1, soft=NODES[1]))
        assert not follow(snapshot, watch, {})

    def test_memory_on_two_nodes_wants_both(self) -> None:
        snapshot, watch = seen(busy("a", [0, 1, 6, 7], memory={1: 128, 2: 128}))
        [change] = follow(snapshot, watch, {}).soft
        assert change.nodes == (1, 2)

    def test_a_gain_that_is_too_small_changes_nothing(self) -> None:
        snapshot, watch = seen(busy("a", [2, 3], memory=2, soft=NODES[1]))
        assert not follow(snapshot, watch, {}, Rules(start=5.0)).soft

    def test_nobody_is_called_to_a_node_that_is_full_already(self) -> None:
        """All memory is on node 0: without a look at load all four would be sent there."""
        snapshot, watch = seen(*(busy(f"g{n}", [2 * n, 2 * n + 1], memory=0, soft=NODES[n]) for n in range(4)))
        plan = follow(snapshot, watch, {})
        at_node_0 = 1 + sum(change.nodes == (0,) for change in plan.soft)
        assert at_node_0 < 4


class TestLeftAlone:
    def test_who_hardly_leans_on_memory_need_not_follow_it(self) -> None:
        snapshot, watch = seen(busy("a", [2, 3], memory=2, soft=NODES[1]))
        compute = Intent(domains=(Character("a", memory_bound=0.0, traffic_gbs=0.0),))
        assert not follow(snapshot, watch, {}, Rules(intent=compute)).soft
        leaning = Intent(domains=(Character("a", memory_bound=0.8),))
        [usual], [more] = (follow(snapshot, watch, {}, Rules(intent=each)).soft for each in (Intent(), leaning))
        assert more.gain > 1.9 * usual.gain

    def test_of_two_homes_the_one_beside_its_backends_is_taken(self) -> None:
        """Half of its memory is on node 0 and half on node 3, where Dom0 runs."""
        dom0 = busy("Domain-0", [6], memory=3, soft=NODES[3], number=0)
        plain = busy("a", [0], memory={0: 128, 3: 128})
        snapshot, watch = seen(dom0, replace(plain, backends=("xenbr0",)), share=0.2)
        rules = Rules(start=0.01)
        [change] = follow(snapshot, watch, {}, rules).soft
        assert change.nodes == (3,)
        [alone] = follow(*seen(dom0, plain, share=0.2), {}, rules).soft
        assert alone.nodes == (0,)
        ignored = replace(rules, intent=Intent(devices=DevicePolicy.IGNORED))
        assert follow(snapshot, watch, {}, ignored).soft == (alone,)

    def test_hard_affinity_of_the_administrator(self) -> None:
        snapshot, watch = seen(busy("a", [2, 3], memory=2, hard=NODES[1]))
        plan = follow(snapshot, watch, {})
        assert not plan
        assert plan.left == (("a", "the administrator set the hard affinity of vCPU 0: CPUs 2-3"),)

    def test_soft_affinity_finer_than_nodes(self) -> None:
        snapshot, watch = seen(busy("a", [2, 2], memory=2, soft=frozenset({2})))
        assert not follow(snapshot, watch, {}).soft

    def test_dom0_and_whom_the_intent_names(self) -> None:
        snapshot, watch = seen(busy("Domain-0", [0, 1], memory=3, number=0), busy("a", [0, 1], memory=3))
        plan = follow(snapshot, watch, {}, Rules(leave={"a": "domicile.toml says so"}))
        assert not plan
        assert dict(plan.left).keys() == {"Domain-0", "a"}

    def test_cpupools_bound_what_is_held(self) -> None:
        pools = (Cpupool("Pool-0", ALL - {1}, "credit2"), Cpupool("other", frozenset({1}), "credit2"))
        snapshot, watch = seen(busy("a", [2, 4], memory=0, soft=NODES[0]), share=0.4)
        plan = follow(replace(snapshot, cpupools=pools), watch, {})
        assert {each.cpus for each in plan.hold} == {frozenset({0})}

    def test_nobody_is_sent_away_from_its_memory_to_make_room(self) -> None:
        """Two guests with two busy vCPUs each share a node of two pCPUs, the others idle: for holds to let go."""
        guests = [busy(name, [0, 1], memory=0, soft=NODES[0]) for name in ("a", "b")]
        snapshot, watch = seen(*guests)
        assert follow(snapshot, watch, {}, Rules(start=0.001)).soft == ()


class TestHolding:
    def test_who_strays_is_held_with_all_its_vcpus(self) -> None:
        snapshot, watch = seen(busy("a", [2, 5], memory=1, soft=NODES[1]))
        plan = follow(snapshot, watch, {})
        assert [(each.vcpu, each.cpus, each.before) for each in plan.hold] == [(0, NODES[1], ALL), (1, NODES[1], ALL)]
        assert plan.hold[1].away == 1.0

    def test_with_one_all_at_home_there_are_held_and_nobody_elsewhere(self) -> None:
        guests = [busy("a", [5], memory=1, soft=NODES[1]), busy("b", [2], memory=1, soft=NODES[1])]
        snapshot, watch = seen(*guests, busy("c", [6], memory=3, soft=NODES[3]), share=0.9)
        plan = follow(snapshot, watch, {})
        assert [each.domain for each in plan.hold] == ["a", "b"]
        assert "100%" in plan.hold[0].reason
        assert "others" in plan.hold[1].reason

    def test_who_is_held_stays_held_and_is_asked_once(self) -> None:
        snapshot, watch = seen(busy("a", [2, 5], memory=1, soft=NODES[1]))
        held = held_after(follow(snapshot, watch, {}), {})
        home, watch = seen(busy("a", [2, 3], memory=1, soft=NODES[1], hard=NODES[1]))
        assert not follow(home, watch, held)

    def test_a_full_node_holds_nobody_it_has_no_room_for(self) -> None:
        guests = [busy(name, [0, 4], memory=0, soft=NODES[0]) for name in ("a", "b")]
        snapshot, watch = seen(*guests)
        plan = follow(snapshot, watch, {}, Rules(start=10.0))
        assert {each.domain for each in plan.hold} == {"a"}

    def test_a_node_that_fills_up_lets_go(self) -> None:
        held = {("uuid-a", vcpu): Held("a", NODES[0], ALL) for vcpu in (0, 1)}
        held |= {("uuid-b", vcpu): Held("b", NODES[0], ALL) for vcpu in (0, 1)}
        guests = [busy(name, [0, 1], memory=0, soft=NODES[0], hard=NODES[0]) for name in ("a", "b")]
        snapshot, watch = seen(*guests, share=0.4)
        assert not follow(snapshot, watch, held)
        snapshot, watch = seen(*guests, share=0.9)
        plan = follow(snapshot, watch, held, Rules(start=10.0))
        assert [(each.domain, each.vcpu) for each in plan.let_go] == [("b", 0), ("b", 1)]
        assert "full" in plan.let_go[0].reason

    def test_who_idles_stays_where_its_node_is_busy(self) -> None:
        """It has the credit to run as soon as it wakes up, and let go it runs away from its memory."""
        held = {("uuid-a", 0): Held("a", NODES[0], ALL), ("uuid-b", 0): Held("b", NODES[0], ALL)}
        guests = [busy("a", [0], memory=0), busy("b", [0, 1], memory=0)]
        vcpus = [tuple(replace(vcpu, soft_affinity=NODES[0], hard_affinity=ALL) for vcpu in g.vcpus) for g in guests]
        snapshot, watch = seen(*(replace(g, vcpus=its) for g, its in zip(guests, vcpus, strict=True)))
        watch = replace(watch, used={"uuid-a": 0.001, "uuid-b": 1.8})
        assert not follow(snapshot, watch, held).let_go

    def test_who_waits_counts(self) -> None:
        """Two guests use a node of two pCPUs together, and one of them has a vCPU that waits: there is no room for
        that one."""
        guests = [busy(name, [0, 1], memory=0, soft=NODES[0]) for name in ("a", "b")]
        held = {(f"uuid-{name}", vcpu): Held(name, NODES[0], ALL) for name in "ab" for vcpu in (0, 1)}
        snapshot, watch = seen(*guests, share=0.45)
        assert not follow(snapshot, watch, held, Rules(start=10.0)).let_go
        waiting = replace(watch, waiting={"uuid-a": 0.0, "uuid-b": 1.0})
        let_go = follow(snapshot, waiting, held, Rules(start=10.0)).let_go
        assert [(each.domain, each.vcpu) for each in let_go] == [("b", 1)]

    def test_wide_guests_lend_vcpus_before_small_ones_do(self) -> None:
        """One of a vCPU and one of three, at home on two pCPUs: of the wide one only a part gets slower."""
        guests = [
            busy("small", [0], memory=0, soft=NODES[0], hard=NODES[0]),
            busy("wide", [0, 1, 1], memory=0, soft=NODES[0], hard=NODES[0]),
        ]
        held = {(each.uuid, vcpu.id): Held(each.name, NODES[0], ALL) for each in guests for vcpu in each.vcpus}
        snapshot, watch = seen(*guests, share=0.9)
        let_go = follow(snapshot, watch, held, Rules(start=10.0)).let_go
        assert [(each.domain, each.vcpu) for each in let_go] == [("wide", 1), ("wide", 2)]

    def test_who_is_gone_or_was_pinned_by_others_is_let_go(self) -> None:
        held = {("uuid-a", 0): Held("a", NODES[0], ALL), ("uuid-gone", 0): Held("gone", NODES[0], ALL)}
        snapshot, watch = seen(busy("a", [0], memory=0, soft=NODES[0], hard=NODES[3]))
        assert {each.domain for each in follow(snapshot, watch, held).let_go} == {"a", "gone"}

    def test_a_new_home_moves_the_hold_and_keeps_what_was_before(self) -> None:
        before = ALL - {7}
        held = {("uuid-a", 0): Held("a", NODES[1], before)}
        snapshot, watch = seen(busy("a", [2], memory=3, soft=NODES[1], hard=NODES[1]))
        [holding] = follow(snapshot, watch, held).hold
        assert (holding.cpus, holding.before) == (NODES[3], before)


def test_a_hold_elsewhere_is_no_reason_to_set_the_soft_affinity_that_is_there() -> None:
    """Soft affinity is right already and only the hold keeps it away: the hold moves, and nothing else is wanted."""
    held = {("uuid-a", 0): Held("a", NODES[1], ALL)}
    snapshot, watch = seen(busy("a", [2], memory=2, soft=NODES[2], hard=NODES[1]))
    plan = follow(snapshot, watch, held)
    assert plan.soft == ()
    assert [each.cpus for each in plan.hold] == [NODES[2]]


@st.composite
def hosts(draw: st.DrawFn) -> tuple[Snapshot, Watch]:
    count = draw(st.integers(1, 6))
    guests = []
    for number in range(count):
        vcpus = draw(st.integers(1, 4))
        cpus = draw(st.lists(st.sampled_from(sorted(ALL)), min_size=vcpus, max_size=vcpus))
        memory = draw(st.dictionaries(st.integers(0, 3), st.integers(64, 512), min_size=1, max_size=3))
        nodes = draw(st.sets(st.integers(0, 3), min_size=1))
        soft = frozenset().union(*(NODES[node] for node in nodes))
        guests.append(busy(f"g{number}", cpus, memory, soft=soft, number=number + 1))
    return seen(*guests, share=draw(st.floats(0.01, 1.0)))


@settings(max_examples=60, deadline=None)
@given(hosts())
def test_rounds_come_to_rest(given_host: tuple[Snapshot, Watch]) -> None:
    """Nothing trades places for ever: with what was decided done, and the same load, no more is wanted soon."""
    snapshot, watch = given_host
    held: dict[tuple[str, int], Held] = {}
    for _ in range(8):
        plan = follow(snapshot, watch, held)
        if not plan:
            return
        snapshot = carried_out(snapshot, plan, held)
        held = held_after(plan, held)
    pytest.fail(f"still wants {plan}")


@settings(max_examples=60, deadline=None)
@given(hosts())
def test_no_node_is_held_full(given_host: tuple[Snapshot, Watch]) -> None:
    """Those that are held on a node find room there together, and only on pCPUs of theirs."""
    snapshot, watch = given_host
    plan = follow(snapshot, watch, {})
    wanted = dict.fromkeys(TOPOLOGY.node_ids, 0.0)
    of_a_vcpu = {domain.uuid: watch.demand[domain.uuid] / len(domain.vcpus) for domain in snapshot.domains}
    homes = {domain.uuid: domain.vcpus[0].soft_affinity for domain in snapshot.domains}
    homes |= {change.uuid: change.cpus for change in plan.soft}
    nodes_of = {uuid: {cpu // 2 for cpu in cpus} for uuid, cpus in homes.items()}
    for each in plan.hold:
        assert each.cpus
        assert each.cpus < ALL
        for cpu in each.cpus:
            wanted[cpu // 2] += of_a_vcpu[each.uuid] / len(each.cpus)
    room = rooms(snapshot, watch, DEFAULT)
    for node, want in wanted.items():
        # who is at home on several nodes has whole vCPUs on each, and may have them all on one
        held = {each.uuid for each in plan.hold}
        several = (of_a_vcpu[uuid] for uuid in held if node in nodes_of[uuid] and len(nodes_of[uuid]) > 1)
        whole = max(several, default=0.0)
        assert want <= 2 * room[node].share(1.02, may_hide=False, held=True) + whole + 1e-9


def test_a_crowded_host_holds_what_others_with_room_let_go() -> None:
    """Two guests at home on a node of two pCPUs want 2.2 of them: where all other nodes are as full nobody gains by
    being let go, with room elsewhere one vCPU does."""
    guests = [
        busy(
            f"g{node}{turn}", [2 * node, (2 * node + 3) % 8], memory=node, soft=NODES[node], number=2 * node + turn + 1
        )
        for node in range(4)
        for turn in (0, 1)
    ]
    snapshot, watch = seen(*guests, share=0.55)
    plan = follow(snapshot, watch, {}, Rules(start=10.0))
    assert {each.domain for each in plan.hold} == {each.name for each in guests}
    snapshot, watch = seen(*guests[:2], share=0.55)
    held = [(each.domain, each.vcpu) for each in follow(snapshot, watch, {}, Rules(start=10.0)).hold]
    assert held == [("g00", 0), ("g00", 1), ("g01", 0)]


def test_as_many_vcpus_are_held_as_find_room() -> None:
    """Of two guests with two vCPUs each on two pCPUs; who is held and who is not does not change with every look."""
    guests = [busy(name, [0, 1], memory=0, soft=NODES[0], number=ord(name)) for name in ("a", "b")]
    held = {(f"uuid-{name}", vcpu): Held(name, NODES[0], ALL) for name in "ab" for vcpu in (0, 1)}
    snapshot, watch = seen(*guests, share=0.55)
    plan = follow(snapshot, watch, held, Rules(start=10.0))
    assert [(each.domain, each.vcpu) for each in plan.let_go] == [("b", 1)]
    assert not plan.hold
    del held["uuid-b", 1]
    # it is the one that was held which stays so
    turned = held.copy()
    turned["uuid-b", 1] = turned.pop(("uuid-b", 0))
    for share in (0.5, 0.55, 0.6):
        snapshot, watch = seen(*guests, share=share)
        for which in (held, turned):
            assert not follow(snapshot, watch, which, Rules(start=10.0)).let_go
            assert not follow(snapshot, watch, which, Rules(start=10.0)).hold
    snapshot, watch = seen(*guests, share=0.9)
    plan = follow(snapshot, watch, held, Rules(start=10.0))
    assert [(each.domain, each.vcpu) for each in plan.let_go] == [("b", 0)]
    snapshot, watch = seen(*guests, share=0.4)
    plan = follow(snapshot, watch, held, Rules(start=10.0))
    assert [(each.domain, each.vcpu) for each in plan.hold] == [("b", 1)]


def test_an_empty_host_wants_nothing() -> None:
    assert not follow(host(), Watch(), {})
