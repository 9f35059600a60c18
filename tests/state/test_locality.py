"""Home nodes and remote shares."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.state.locality import home_nodes, remote_share, vcpu_share_by_node
from domicile.state.model import Domain, Vcpu
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Node

MACHINE = checked(
    source="made", nodes=[Node(n, 1024) for n in range(4)], cpus=[Cpu(n, n, n // 2, n // 2) for n in range(6)]
)
ALL = frozenset(range(6))


def domain(
    soft: frozenset[int] = ALL,
    hard: frozenset[int] = ALL,
    pages: Mapping[int, int] | None = None,
    node_affinity: frozenset[int] | None = None,
    on: tuple[int | None, ...] = (0, 1),
) -> Domain:
    vcpus = tuple(Vcpu(n, cpu, hard, soft) for n, cpu in enumerate(on))
    return Domain(1, "web1", "u", vcpus, 1, 1, pages_by_node=pages, node_affinity=node_affinity)


@pytest.mark.parametrize(
    ("soft", "hard", "node_affinity", "home"),
    [
        (ALL, ALL, None, (0, 1, 2)),
        (frozenset({2, 3}), ALL, None, (1,)),
        (ALL, frozenset({4}), None, (2,)),
        (frozenset({0}), frozenset({5}), None, (2,)),  # soft affinity outside the hard one has no effect
        (ALL, ALL, frozenset({3}), (3,)),
        (frozenset({2, 3}), ALL, frozenset({0}), (1,)),
    ],
)
def test_home(
    soft: frozenset[int], hard: frozenset[int], node_affinity: frozenset[int] | None, home: tuple[int, ...]
) -> None:
    assert home_nodes(domain(soft, hard, node_affinity=node_affinity), MACHINE) == home


def test_remote_share_by_hand() -> None:
    spread = domain(pages={0: 300, 1: 100}, on=(0, 2))
    shares = vcpu_share_by_node(spread, MACHINE)
    assert shares == {0: 0.5, 1: 0.5}
    assert remote_share(spread, shares) == pytest.approx(0.5)
    assert remote_share(domain(pages={0: 400}, on=(0, 1)), {0: 1.0}) == 0.0
    assert remote_share(domain(pages=None), {0: 1.0}) is None
    assert remote_share(domain(pages={0: 1}, on=(None,)), vcpu_share_by_node(domain(on=(None,)), MACHINE)) is None


@given(
    pages=st.dictionaries(st.integers(0, 3), st.integers(1, 1 << 40), min_size=1),
    on=st.lists(st.integers(0, 5), min_size=1, max_size=8),
)
def test_remote_share_against_counting_pairs(pages: dict[int, int], on: list[int]) -> None:
    found = remote_share(domain(pages=pages), vcpu_share_by_node(domain(on=tuple(on)), MACHINE))
    away = sum(count for cpu in on for node, count in pages.items() if cpu // 2 != node)
    assert found == pytest.approx(away / (len(on) * sum(pages.values())), abs=1e-9)
