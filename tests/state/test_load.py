"""Load between two snapshots."""

from dataclasses import replace

import pytest

from domicile.state.load import load_between
from domicile.state.model import Domain, Snapshot, Vcpu
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Node

MACHINE = checked(
    source="made", nodes=[Node(0, 1024), Node(1, 1024)], cpus=[Cpu(n, n, n // 2, n // 2) for n in range(4)]
)
ALL = frozenset(range(4))


def domain(time_ns: int | None, *, vcpus: int = 2, domain_id: int = 1) -> Domain:
    """A domain whose first vCPU has used this much time."""
    return Domain(
        id=domain_id,
        name="web1",
        uuid="u",
        vcpus=tuple(
            Vcpu(n, n, ALL, ALL, time_ns=None if time_ns is None else time_ns * (n == 0)) for n in range(vcpus)
        ),
        memory_mib=1,
        max_memory_mib=1,
    )


def snapshot(at: float, time_ns: int | None, idle: dict[int, int]) -> Snapshot:
    return Snapshot(topology=MACHINE, domains=(domain(time_ns),), taken_at=at, pcpu_idle_ns=idle)


def test_counts_what_ran_not_what_is_there() -> None:
    second = 1_000_000_000
    load = load_between(
        snapshot(10.0, 5 * second, {0: 0, 1: 0, 2: 0, 3: 0}),
        snapshot(12.0, 8 * second, {0: 0, 1: second, 2: 2 * second, 3: 2 * second}),
    )
    assert load.window_s == 2.0
    assert load.nodes == pytest.approx({0: 1.5, 1: 0.0})
    assert load.domains == pytest.approx({"web1": 1.5})


def test_says_nothing_where_the_host_tells_nothing() -> None:
    load = load_between(snapshot(1.0, None, {0: 0}), snapshot(2.0, None, {0: 0}))
    assert load.nodes == {}
    assert load.domains == {}


def test_a_domain_started_again_is_another() -> None:
    later = replace(snapshot(2.0, 9, {}), domains=(domain(9, domain_id=2),))
    assert load_between(snapshot(1.0, 5, {}), later).domains == {}


def test_order_matters() -> None:
    with pytest.raises(ValueError, match="not later"):
        load_between(snapshot(2.0, 1, {}), snapshot(2.0, 1, {}))


def test_slowdown_is_time_spent_over_work_done() -> None:
    first, last = snapshot(1.0, 5, {}), snapshot(2.0, 25, {})
    worked = [
        replace(each, domains=(replace(each.domains[0], waited_ns=waited, work_ns=work),))
        for each, waited, work in ((first, 10, 100), (last, 50, 140))
    ]
    assert load_between(*worked).slowdowns == {"web1": (20 + 40) / 40}
    assert load_between(first, last).slowdowns == {}
    idle = replace(last, domains=(replace(last.domains[0], waited_ns=50, work_ns=100),))
    assert load_between(worked[0], idle).slowdowns == {}
