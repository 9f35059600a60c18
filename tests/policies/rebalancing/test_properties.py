"""What holds on every host: rounds come to rest, memory is there, the administrator's word counts, ids do not."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from moving_hosts import cpus_of, domain, free_left, host, loaded
from stepped import Stepped

from domicile.policies.migration.records import Permits
from domicile.policies.rebalancing.decide import rebalance
from domicile.policies.rebalancing.records import History, RebalancePlan, Rules, Waiting
from domicile.state.model import Cpupool, Domain, DomainType, Snapshot
from domicile.state.request import Character
from domicile.topology.model import Topology

CPUS = 3
POOLS = (Cpupool("Pool-0", frozenset(range(10)), "credit2"), Cpupool("other", frozenset({10, 11}), "credit2"))

EAGER = Rules(
    settle_s=0.0,
    hold_off_s=0.0,
    per_minute=50,
    per_pair=50,
    usual=Permits(pause_s=20.0, minimum_mib=200),
    memory_weight=0.5,
)
"""Nothing but the gain holds it back."""


@st.composite
def hosts(draw: st.DrawFn) -> tuple[Snapshot, dict[str, float]]:
    """Hosts of four nodes and two pools, tight or not: domains of all types, narrow and wide, pinned and not."""
    pools = draw(st.sampled_from([(), POOLS]))
    left = dict.fromkeys(range(4), 8192)
    domains: list[Domain] = []
    load = {}
    for number in range(draw(st.integers(2, 8))):
        memory = draw(st.dictionaries(st.integers(0, 3), st.integers(100, 4000), min_size=1, max_size=2))
        memory = {node: min(mib, left[node]) for node, mib in memory.items() if left[node] >= 100}
        if not memory:
            continue
        for node, mib in memory.items():
            left[node] -= mib
        soft = cpus_of(sorted(draw(st.sets(st.integers(0, 3), min_size=1))), CPUS)
        hard = draw(st.sampled_from([None, None, None, cpus_of([0, 1], CPUS), cpus_of([2], CPUS)]))
        kind = draw(st.sampled_from([DomainType.PVH, DomainType.HVM, DomainType.PV]))
        each = domain(f"g{number}", memory, draw(st.integers(1, 5)), soft, hard, 12, kind, number + 1)
        pool = draw(st.sampled_from([each.name for each in pools])) if pools and hard is None else "Pool-0"
        domains.append(replace(each, cpupool=pool, weight=draw(st.sampled_from([256, 256, 512]))))
        load[each.name] = draw(st.floats(0.0, 1.0)) * len(each.vcpus)
    return host(*domains, cpus_per_node=CPUS, pools=pools), load


@settings(max_examples=15)
@given(hosts())
def test_rounds_come_to_rest_and_memory_is_never_overcommitted(drawn: tuple[Snapshot, dict[str, float]]) -> None:
    """Under a load that stays as it is. `Stepped` asserts memory, pools and hard affinity at every step."""
    snapshot, load = drawn
    stepped = Stepped(snapshot, lambda _: load, EAGER, every_s=20.0).run(40)
    assert not any(round_ > 30 for round_, _ in stepped.made)
    assert len(stepped.made) <= 4 * len(snapshot.domains)


@settings(max_examples=8)
@given(hosts())
def test_together_with_scheduling_too(drawn: tuple[Snapshot, dict[str, float]]) -> None:
    snapshot, load = drawn
    stepped = Stepped(snapshot, lambda _: load, EAGER, every_s=20.0, schedules=True).run(40)
    assert not any(round_ > 30 for round_, _ in stepped.made)


def decided(snapshot: Snapshot, load: dict[str, float]) -> RebalancePlan:
    """What is decided on a host that was looked at long enough: everything has been waited for."""
    waited = tuple(Waiting((each.uuid,), 0.0, snapshot.taken_at - 5.0, 1e6) for each in snapshot.domains)
    return rebalance(snapshot, loaded(snapshot, load), History(waiting=waited), EAGER)


@settings(max_examples=25)
@given(hosts())
def test_the_same_host_gets_the_same_plan(drawn: tuple[Snapshot, dict[str, float]]) -> None:
    assert decided(*drawn) == decided(*drawn)


@settings(max_examples=25)
@given(hosts())
def test_what_is_unknown_of_memory_is_taken_as_if_it_had_been_stated(drawn: tuple[Snapshot, dict[str, float]]) -> None:
    snapshot, load = drawn
    stated = tuple(Character(each.name, traffic_gbs=3.0) for each in snapshot.domains)
    watch = loaded(snapshot, load)
    as_stated = rebalance(snapshot, watch, rules=replace(EAGER, characters=stated))
    assert rebalance(snapshot, watch, rules=replace(EAGER, unknown_gbs=3.0)) == as_stated


@settings(max_examples=25)
@given(hosts())
def test_other_ids_of_nodes_change_nothing_but_ids(drawn: tuple[Snapshot, dict[str, float]]) -> None:
    """Nodes with gaps between their ids, in the same order: of places that are equal the first is taken."""
    snapshot, load = drawn
    here = decided(snapshot, load)
    there = decided(_renumbered(snapshot), load)
    assert [(move.domain, [3 * node + 1 for node in move.option.nodes]) for move in here.moves] == [
        (move.domain, list(move.option.nodes)) for move in there.moves
    ]
    assert [move.gain for move in here.moves] == [move.gain for move in there.moves]


def _renumbered(snapshot: Snapshot) -> Snapshot:
    """With node ids 1, 4, 7, ... for 0, 1, 2, ..."""
    topology = snapshot.topology
    changed = Topology(
        tuple(replace(node, id=3 * node.id + 1) for node in topology.nodes),
        tuple(replace(cpu, node=None if cpu.node is None else 3 * cpu.node + 1) for cpu in topology.cpus),
        topology.distances,
    )
    domains = tuple(
        replace(
            each,
            pages_by_node={3 * node + 1: pages for node, pages in (each.pages_by_node or {}).items()},
            node_affinity=frozenset(3 * node + 1 for node in each.node_affinity or ()),
        )
        for each in snapshot.domains
    )
    return replace(snapshot, topology=changed, domains=domains)


def test_a_quiet_host_is_looked_at_and_left() -> None:
    """200 domains on 8 nodes, at home and with cores for all: the screen alone says that there is nothing to do."""
    domains = [domain(f"g{n:03}", n % 8, 2, cpus_of([n % 8], 64), count=512, mib=512, number=n + 1) for n in range(200)]
    snapshot = host(*domains, nodes=8, cpus_per_node=64, node_mib=65536)
    plan = rebalance(snapshot, loaded(snapshot, {each.name: 0.3 for each in domains}))
    assert not plan
    assert plan.weighed == 0


def test_what_is_not_seen_for_long_enough_is_left() -> None:
    guests = [domain(f"g{n}", 0, soft=cpus_of([0])) for n in range(5)]
    snapshot = host(*guests)
    assert rebalance(snapshot, loaded(snapshot, {}, seconds=5.0)).weighed == 0
    assert rebalance(snapshot, loaded(snapshot, {}, seconds=60.0)).weighed > 0
    unseen = replace(loaded(snapshot, {}), used={})
    reasons = {each.reason for each in rebalance(snapshot, unseen).considered}
    assert reasons == {"it has not been seen to run for long enough"}


def test_memory_that_is_promised_is_not_used_twice_in_a_round() -> None:
    """Two moves in one plan to the same node, which has memory for one of them."""
    guests = [domain(f"g{n}", 0, soft=cpus_of([0])) for n in range(4)]
    full = domain("full", {1: 6500}, 1, cpus_of([1]))
    snapshot = free_left(host(*guests, full, nodes=2))
    plan = decided(snapshot, {"full": 0.0})
    taken = sum(move.option.cost.twice_mib.get(1, 0) for move in plan.moves if move.option.cost)
    assert plan.moves
    assert taken <= snapshot.available_mib(1)
