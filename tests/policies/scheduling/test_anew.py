"""vCPUs that share a core, or wait, while others are idle: a node of two cores with two threads each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from watched import busy

from domicile.policies.scheduling.anew import looking_anew
from domicile.policies.scheduling.follow import Rules, follow
from domicile.policies.scheduling.holds import Held
from domicile.policies.scheduling.watch import Watch, observe
from domicile.state.model import Snapshot
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Node, by_core

NODE, ALL = frozenset(range(4)), frozenset(range(8))
CELLS = (NODE, ALL - NODE)
TOPOLOGY = checked(
    source="test",
    nodes=[Node(0, 4096, 2048), Node(1, 4096, 2048)],
    cpus=[Cpu(cpu, cpu // 2, cpu // 4, cpu // 4) for cpu in range(8)],
    distances=((10, 20), (20, 10)),
)


def looked(where: Mapping[str, int], *, ran: float = 1.0, before: Mapping[str, int] | None = None) -> Watch:
    """Two looks, 10 s apart, at domains of one vCPU each on these pCPUs; `ran`: for this share of the time."""
    watch = Watch()
    for at_s, there in ((0.0, before or where), (10.0, where)):
        domains = tuple(
            busy(name, [cpu], memory=0, soft=NODE, ran_s=at_s * ran, number=number)
            for number, (name, cpu) in enumerate(there.items(), start=1)
        )
        watch = observe(watch, Snapshot(topology=TOPOLOGY, domains=domains, taken_at=1000.0 + at_s))
    return watch


def chosen(watch: Watch, movable: str = "abcd") -> set[str]:
    assert watch.last is not None
    found = looking_anew(
        watch.last, watch, CELLS, by_core(watch.last.topology.cpus), {(f"uuid-{name}", 0) for name in movable}
    )
    return {uuid.removeprefix("uuid-") for uuid, _ in found}


def test_one_of_two_on_a_core_looks_for_the_idle_one() -> None:
    assert chosen(looked({"a": 0, "b": 1})) == {"b"}


def test_nobody_does_where_each_has_a_core_or_none_is_idle() -> None:
    assert not chosen(looked({"a": 0, "b": 2}))
    assert not chosen(looked({"a": 0, "b": 1, "c": 3}))
    assert not chosen(looked({"a": 0, "b": 1, "c": 2, "d": 3}))


def test_an_idle_core_of_another_node_is_none() -> None:
    assert not chosen(looked({"a": 0, "b": 1, "c": 2}))


@pytest.mark.parametrize("movable", ["a", "b"])
def test_only_who_is_held_is_told(movable: str) -> None:
    assert chosen(looked({"a": 0, "b": 1}), movable) == {movable}
    assert not chosen(looked({"a": 0, "b": 1}), "")


def test_who_sleeps_or_moves_finds_a_place_by_itself() -> None:
    assert not chosen(looked({"a": 0, "b": 1}, ran=0.9))
    assert not chosen(looked({"a": 0, "b": 1}, before={"a": 0, "b": 3}))


def test_it_is_held_once_more_and_then_left_for_a_while() -> None:
    watch = looked({"a": 0, "b": 1})
    snapshot = watch.last
    assert snapshot is not None
    held = {(f"uuid-{name}", 0): Held(name, NODE, ALL) for name in "ab"}
    plan = follow(snapshot, watch, held, Rules(start=10.0))
    [again] = plan.hold
    assert (again.domain, again.cpus, again.before) == ("b", NODE, ALL)
    assert "shares a core" in again.reason
    held["uuid-b", 0] = replace(held["uuid-b", 0], given_s=snapshot.taken_at - 30.0)
    held["uuid-a", 0] = replace(held["uuid-a", 0], given_s=snapshot.taken_at - 30.0)
    assert not follow(snapshot, watch, held, Rules(start=10.0))


def waited(running: Mapping[str, int], waiting: Mapping[str, int], *, ran_s: float = 0.0) -> Watch:
    """Two looks, 10 s apart, at domains of one vCPU each that run on these pCPUs, and at some that wait there both
    times, having run for so long in between."""
    watch = Watch()
    for at_s in (0.0, 10.0):
        there = [(name, cpu, at_s, False) for name, cpu in running.items()]
        there += [(name, cpu, ran_s * at_s / 10.0, True) for name, cpu in waiting.items()]
        domains = []
        for number, (name, cpu, ran, waits) in enumerate(there, start=1):
            domain = busy(name, [cpu], memory=0, soft=NODE, ran_s=ran, number=number)
            vcpus = tuple(replace(vcpu, running=not waits, waiting=waits) for vcpu in domain.vcpus)
            domains.append(replace(domain, vcpus=vcpus))
        watch = observe(watch, Snapshot(topology=TOPOLOGY, domains=tuple(domains), taken_at=1000.0 + at_s))
    return watch


class TestForgotten:
    def test_who_waits_beside_an_idle_pcpu_looks_for_it(self) -> None:
        assert chosen(waited({"a": 0, "b": 2}, {"c": 0})) == {"c"}

    def test_no_more_than_there_are_idle_pcpus(self) -> None:
        assert chosen(waited({"a": 0, "b": 1, "e": 2}, {"c": 0, "d": 0})) == {"c"}

    def test_nobody_does_where_all_pcpus_are_busy_or_it_got_to_run(self) -> None:
        assert not chosen(waited({"a": 0, "b": 1, "e": 2, "f": 3}, {"c": 0}))
        assert not chosen(waited({"a": 0, "b": 2}, {"c": 0}, ran_s=0.1))

    def test_the_plan_holds_it_once_more_and_says_why(self) -> None:
        watch = waited({"a": 0, "b": 2}, {"c": 0})
        assert watch.last is not None
        held = {(f"uuid-{name}", 0): Held(name, NODE, ALL) for name in "abc"}
        [again] = follow(watch.last, watch, held, Rules(start=10.0)).hold
        assert (again.domain, again.cpus) == ("c", NODE)
        assert "it waits" in again.reason
