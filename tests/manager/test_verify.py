"""Every kind of deviation is found, and none that is not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim_machines import config, machine
from sim_policy import fixed
from sim_world import World

from domicile.errors import Refused
from domicile.hosts.actions import CreatePaused, Destroy, SetAffinity, Unpause
from domicile.local.process import NOBODY
from domicile.manager.intents import DomainIntent, IntentStatus, Seen, Wanted
from domicile.manager.verify import Deviation, DeviationKind, deviations, forget, memory_problem, verify
from domicile.state.model import Domain, MemoryMapAge, Snapshot, Vcpu, Vnode


def check(world: World) -> list[tuple[str, DeviationKind]]:
    return [(each.domain, each.kind) for each in verify(world.host, world.journal).deviations]


def line(world: World) -> str:
    (deviation,) = verify(world.host, world.journal).deviations
    return str(deviation)


@pytest.fixture
def two(world: World) -> World:
    """web1 on node 2, db1 on nodes 0 and 1."""
    world.create("web1", policy=fixed(2))
    world.create("db1", policy=fixed(0, 1), vcpus=3, maxvcpus=4)
    return world


def by_hand(change: Callable[[Domain], Domain], name: str = "web1") -> Callable[[World], None]:
    return lambda world: world.host.alter(name, change)


def do(*actions: CreatePaused | Destroy | SetAffinity | Unpause) -> Callable[[World], None]:
    def act(world: World) -> None:
        for action in actions:
            world.host.perform(action)

    return act


DEVIATIONS: list[tuple[DeviationKind, Callable[[World], None], str]] = [
    (
        DeviationKind.GONE,
        do(Destroy("web1")),
        "web1: domain gone: no domain has its name or UUID; intended: running with UUID ",
    ),
    (
        DeviationKind.REPLACED,
        do(Destroy("web1"), CreatePaused("web1", config("web1", uuid="other")), Unpause("web1")),
        "web1: another domain of this name: a domain started otherwise, with UUID other; intended: UUID ",
    ),
    (
        DeviationKind.RENAMED,
        by_hand(lambda domain: replace(domain, name="web9")),
        "web1: renamed: called web9; intended: called web1",
    ),
    (
        DeviationKind.MEMORY,
        by_hand(lambda domain: replace(domain, pages_by_node={2: 64536, 3: 1000})),
        "web1: memory elsewhere: node 2: 252 MiB, node 3: 4 MiB; intended: node 2: 256 MiB",
    ),
    (
        DeviationKind.MEMORY,
        by_hand(lambda domain: replace(domain, pages_by_node={0: 65536}), "db1"),
        "db1: memory elsewhere: node 0: 256 MiB; intended: node 0: 128 MiB, node 1: 128 MiB",
    ),
    (
        DeviationKind.SOFT_AFFINITY,
        do(SetAffinity("web1", 1, soft=frozenset(range(8)))),
        "web1: soft affinity changed: vCPU 1: all CPUs; intended: vCPU 1: CPUs 4-5",
    ),
    (
        DeviationKind.SOFT_AFFINITY,
        do(*(SetAffinity("db1", vcpu, soft=frozenset({vcpu // 2})) for vcpu in range(4))),
        "db1: soft affinity changed: vCPU 0-1: CPUs 0, vCPU 2-3: CPUs 1; intended: vCPU 0-3: CPUs 0-3",
    ),
    (
        DeviationKind.HARD_AFFINITY,
        do(SetAffinity("web1", 0, hard=frozenset({4, 5, 7}))),
        "web1: hard affinity changed: vCPU 0: CPUs 4-5,7; intended: vCPU 0: all CPUs",
    ),
    (
        DeviationKind.VCPUS,
        by_hand(lambda domain: replace(domain, vcpus=tuple(replace(v, online=v.id < 2) for v in domain.vcpus)), "db1"),
        "db1: vCPU count changed: 2 vCPUs online; intended: 3 vCPUs",
    ),
    (
        DeviationKind.CPUPOOL,
        by_hand(lambda domain: replace(domain, cpupool="other")),
        "web1: cpupool changed: in cpupool other; intended: in cpupool Pool-0",
    ),
]


@pytest.mark.parametrize(("kind", "provoke", "says"), DEVIATIONS)
def test_each_kind_is_found_and_told(
    two: World, kind: DeviationKind, provoke: Callable[[World], None], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domicile.manager.verify.BOOT_S", 0.0)  # as if they had been started long ago
    assert check(two) == []
    provoke(two)
    (deviation,) = verify(two.host, two.journal).deviations
    assert deviation.kind is kind
    assert str(deviation).startswith(says)


def test_a_guest_that_boots_has_not_all_its_vcpus_online_yet(two: World) -> None:
    fewer = by_hand(lambda domain: replace(domain, vcpus=(domain.vcpus[0], replace(domain.vcpus[1], online=False))))
    fewer(two)
    assert verify(two.host, two.journal).deviations == ()


VNODES = (Vnode(1, 256, frozenset({0, 1}), (10, 20)), Vnode(2, 256, frozenset({2, 3}), (20, 10)))
VNODE_KINDS = {DeviationKind.VNODES, DeviationKind.VNODE_MEMORY}


@pytest.mark.parametrize(
    ("pages", "vnodes", "kinds"),
    [
        # debug key `u` of Xen 4.17.7 for an HVM guest with these virtual nodes
        ({0: 43, 1: 65394, 2: 65586, 3: 44}, VNODES, []),
        ({1: 65536 - 8 * 256, 2: 65536 + 8 * 256}, VNODES, []),
        # ballooned down to half: what is missing on one node may have been given back
        ({1: 8000, 2: 57536}, VNODES, []),
        ({1: 131072}, VNODES, [DeviationKind.VNODE_MEMORY]),
        ({1: 70000, 2: 61072}, VNODES, [DeviationKind.VNODE_MEMORY]),
        ({1: 65536, 2: 65536}, (VNODES[0], replace(VNODES[1], pnode=3)), [DeviationKind.VNODES]),
        ({1: 65536, 2: 65536}, (), []),
        (None, VNODES, []),
    ],
)
def test_virtual_nodes(pages: dict[int, int] | None, vnodes: tuple[Vnode, ...], kinds: list[DeviationKind]) -> None:
    everywhere = frozenset(range(8))
    vcpus = tuple(Vcpu(number, None, everywhere, everywhere) for number in range(4))
    domain = Domain(7, "wide", "u", vcpus, 512, 512, pages_by_node=pages, vnodes=vnodes)
    wanted = Wanted("wide", "u", (1, 2), {1: 256, 2: 256}, None, 4, "Pool-0", "", VNODES, True, 8)
    intent = DomainIntent(1, 1, IntentStatus.ACTIVE, wanted, None, NOBODY, 0.0, 0.0)
    found = deviations(Snapshot(machine(), (domain,), 0.0), [intent], 1000.0)
    if pages == {1: 8000, 2: 57536}:
        # by the nodes' shares it is elsewhere all the same
        found = [one for one in found if one.kind is not DeviationKind.MEMORY]
    assert [one.kind for one in found] == kinds
    assert all(line in str(found[0]) for line in ["virtual node"] if kinds)


def test_every_kind_is_provoked() -> None:
    assert {kind for kind, _, _ in DEVIATIONS} == set(DeviationKind) - {
        DeviationKind.HALF_MADE,
        *VNODE_KINDS,
    }


@pytest.mark.parametrize(
    "harmless",
    [
        by_hand(lambda domain: domain),
        by_hand(lambda domain: replace(domain, id=99)),
        by_hand(lambda domain: replace(domain, pages_by_node={2: 65000, 3: 536})),
        by_hand(lambda domain: replace(domain, pages_by_node={2: 30000}, memory_mib=117)),
        by_hand(lambda domain: replace(domain, pages_by_node={0: 30000, 1: 35000}), "db1"),
        by_hand(lambda domain: replace(domain, pages_by_node={0: 15000, 1: 15000}), "db1"),
        by_hand(lambda domain: replace(domain, paused=True)),
        do(CreatePaused("other", config("other")), Unpause("other")),
        do(SetAffinity("web1", 0, soft=frozenset({4, 5}))),
    ],
    ids=["nothing", "migrated here", "a few pages", "ballooned", "a little", "both halves", "paused", "other", "same"],
)
def test_what_is_no_deviation_is_not_found(two: World, harmless: Callable[[World], None]) -> None:
    harmless(two)
    verification = verify(two.host, two.journal)
    assert verification.deviations == ()
    assert verification.checked == 2
    assert verification.unchecked == ()


def test_several_at_once(two: World) -> None:
    two.host.perform(Destroy("web1"))
    two.host.perform(SetAffinity("db1", 0, soft=frozenset({7}), hard=frozenset({7})))
    assert check(two) == [
        ("web1", DeviationKind.GONE),
        ("db1", DeviationKind.SOFT_AFFINITY),
        ("db1", DeviationKind.HARD_AFFINITY),
    ]


class TestGone:
    def test_is_reported_until_it_is_started_again(self, two: World) -> None:
        two.host.perform(Destroy("web1"))
        assert check(two) == check(two) == [("web1", DeviationKind.GONE)]
        two.create("web1")
        assert check(two) == []

    def test_a_start_that_fails_does_not_silence_it(self, two: World) -> None:
        two.host.perform(Destroy("web1"))
        with pytest.raises(Refused):
            two.create("web1", memory=99999)
        assert check(two) == [("web1", DeviationKind.GONE)]

    def test_or_acknowledged(self, two: World) -> None:
        two.host.perform(Destroy("web1"))
        forget(two.journal, "web1")
        assert check(two) == []
        with pytest.raises(Refused, match="web1: no domain of this name is looked after; those that are: db1"):
            forget(two.journal, "web1")


def test_a_half_made_domain_is_told_until_it_is_removed(world: World) -> None:
    wanted = Wanted("a", "mine", (0,), {0: 256}, None, 2, "Pool-0", "")
    (intent,) = world.journal.begin("create", "test", [wanted])
    world.journal.advance(intent.id, IntentStatus.CREATING)
    world.host.perform(CreatePaused("a", config("a", uuid="mine")))
    assert check(world) == []
    world.journal.abandon(intent)
    assert check(world) == [("a", DeviationKind.HALF_MADE)]
    world.create("b")
    assert check(world) == []


def test_without_a_memory_map_the_rest_is_checked_and_it_is_said(two: World) -> None:
    class Blind:
        def __init__(self, world: World) -> None:
            self.world = world

        def __getattr__(self, name: str) -> object:
            return getattr(self.world.host, name)

        def snapshot(self, memory_map: MemoryMapAge) -> Snapshot:
            seen = self.world.host.snapshot(memory_map)
            return replace(seen, domains=tuple(replace(each, pages_by_node=None) for each in seen.domains))

    two.host.perform(SetAffinity("web1", 0, soft=frozenset({0})))
    verification = verify(Blind(two), two.journal)  # type: ignore[arg-type]
    assert [each.kind for each in verification.deviations] == [DeviationKind.SOFT_AFFINITY]
    assert [each.partition(":")[0] for each in verification.unchecked] == ["web1", "db1"]


def test_only_reads(two: World) -> None:
    before = (two.host.snapshot().domains, two.journal.intents(), two.journal.events())
    two.host.perform(Destroy("web1"))
    verify(two.host, two.journal)
    assert (two.journal.intents(), two.journal.events()) == before[1:]


# --- the pure comparison

CPUS = frozenset(range(8))
sets = st.frozensets(st.integers(0, 7), min_size=1)
pages = st.dictionaries(st.integers(0, 3), st.integers(0, 100_000), min_size=1)


def guest(
    memory: dict[int, int], soft: tuple[frozenset[int], ...], hard: frozenset[int]
) -> tuple[Domain, DomainIntent]:
    """A domain and an intent that it fulfils."""
    vcpus = tuple(Vcpu(i, None, hard, each) for i, each in enumerate(soft))
    domain = Domain(5, "a", "u", vcpus, 1, 1, pages_by_node=memory)
    planned = {node: count for node, count in memory.items() if count}
    wanted = Wanted("a", "u", tuple(planned), planned, soft, len(soft), "Pool-0", "")
    seen = Seen(memory, {v.id: v.hard_affinity for v in vcpus}, {v.id: v.soft_affinity for v in vcpus})
    return domain, DomainIntent(1, 1, IntentStatus.ACTIVE, wanted, seen, NOBODY, 0.0, 0.0)


def compare(intent: DomainIntent, *domains: Domain) -> list[Deviation]:
    return deviations(Snapshot(machine(), domains, 0.0), [intent], 0.0)


@given(pages, st.lists(sets, min_size=1, max_size=4).map(tuple), sets)
def test_what_is_as_wanted_never_deviates(
    memory: dict[int, int], soft: tuple[frozenset[int], ...], hard: frozenset[int]
) -> None:
    domain, intent = guest(memory, soft, hard)
    assert compare(intent, domain) == []


@given(pages, st.lists(sets, min_size=1, max_size=4).map(tuple), sets, sets, sets)
def test_affinity_that_differs_is_always_found(
    memory: dict[int, int],
    soft: tuple[frozenset[int], ...],
    hard: frozenset[int],
    new_soft: frozenset[int],
    new_hard: frozenset[int],
) -> None:
    domain, intent = guest(memory, soft, hard)
    changed = replace(domain.vcpus[0], soft_affinity=new_soft, hard_affinity=new_hard)
    found = {each.kind for each in compare(intent, replace(domain, vcpus=(changed, *domain.vcpus[1:])))}
    assert (DeviationKind.SOFT_AFFINITY in found) == (new_soft != soft[0])
    assert (DeviationKind.HARD_AFFINITY in found) == (new_hard != hard)


@given(pages, st.integers(0, 3))
def test_memory_off_its_nodes_is_found_from_a_hundredth_on(memory: dict[int, int], node: int) -> None:
    total = sum(memory.values())
    off = total - memory.get(node, 0)
    assert memory_problem({node: 256}, memory) == (off > total / 100)


@pytest.mark.parametrize(
    ("pages", "wrong"),
    [
        ({0: 65536, 1: 65536}, False),
        ({0: 70000, 1: 61072}, False),
        ({0: 90000, 1: 41072}, True),
        ({0: 118000, 1: 13072}, True),
        # 2 GiB: the first one in small pages, the second one in a single large one
        ({0: 393216, 1: 131072}, False),
        ({0: 471859, 1: 52429}, True),
    ],
)
def test_shares_of_planned_nodes_are_those_of_the_plan(pages: dict[int, int], wrong: bool) -> None:
    assert memory_problem({0: 256, 1: 256}, pages) == wrong


def test_a_guest_that_fell_unevenly_from_the_first_on_is_found() -> None:
    domain, intent = guest({0: 59000, 1: 6536}, (CPUS,), CPUS)
    intent = replace(intent, wanted=replace(intent.wanted, memory_mib={0: 128, 1: 128}))
    assert [each.kind for each in compare(intent, domain)] == [DeviationKind.MEMORY]


def test_an_offline_cpu_makes_no_difference() -> None:
    domain, intent = guest({0: 9}, (frozenset({0, 1, 64}),), CPUS | {64})
    vcpu = replace(domain.vcpus[0], soft_affinity=frozenset({0, 1}), hard_affinity=CPUS)
    assert compare(intent, replace(domain, vcpus=(vcpu,))) == []


def test_during_a_local_migration_the_one_with_the_name_counts() -> None:
    domain, intent = guest({0: 9}, (CPUS,), CPUS)
    incoming = replace(domain, id=4, name="a--incoming", pages_by_node={3: 9})
    assert compare(intent, incoming, domain) == []


def test_scheduling_left_to_xen_is_compared_with_what_xen_chose() -> None:
    domain, intent = guest({0: 9}, (frozenset({0, 1}),), CPUS)
    left = replace(intent, wanted=replace(intent.wanted, soft_affinity=None))
    assert compare(left, domain) == []
    moved = replace(domain, vcpus=(replace(domain.vcpus[0], soft_affinity=CPUS),))
    assert [each.kind for each in compare(left, moved)] == [DeviationKind.SOFT_AFFINITY]
