"""The screen of all domains and nodes at once says what trying each of them says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_hosts import cpus_of, domain, host

from domicile.performance.accesses import Accesses
from domicile.performance.assumptions import DEFAULT
from domicile.policies.rebalancing.records import History, Rules
from domicile.policies.rebalancing.screen import REMOTE, screen
from domicile.policies.rebalancing.standing import Standing
from domicile.state.model import Cpupool, Domain, Snapshot, Vnode
from domicile.state.request import Character

DEVICE = "0000:41:00.0"


@st.composite
def hosts(draw: st.DrawFn) -> Snapshot:
    pools = (Cpupool("Pool-0", frozenset(range(10)), "credit2"), Cpupool("other", frozenset({10, 11}), "credit2"))
    domains: list[Domain] = []
    for number in range(draw(st.integers(1, 6))):
        memory = draw(st.dictionaries(st.integers(0, 3), st.integers(1, 900), min_size=1, max_size=3))
        soft = cpus_of(sorted(draw(st.sets(st.integers(0, 3), min_size=1))), 3)
        each = domain(f"g{number}", memory, draw(st.integers(1, 5)), soft=soft, count=12, number=number + 1)
        weight = draw(st.sampled_from([256, 256, 64, 1024]))
        devices = draw(st.sampled_from([(), (), (DEVICE,)]))
        vnodes = tuple(Vnode(node, mib, frozenset()) for node, mib in memory.items())
        domains.append(
            replace(
                each,
                weight=weight,
                devices=devices,
                cpupool=draw(st.sampled_from(["Pool-0", "other"])),
                vnodes=vnodes if draw(st.booleans()) else (),
            )
        )
    return host(*domains, cpus_per_node=3, devices={DEVICE: 2}, pools=draw(st.sampled_from([(), pools])))


@settings(max_examples=40)
@given(hosts(), st.floats(0.0, 1.0), st.booleans())
def test_the_screen_agrees_with_trying(snapshot: Snapshot, share: float, stated: bool) -> None:
    load = {each.name: share * len(each.vcpus) for each in snapshot.domains}
    rules = Rules(characters=(Character("g0", memory_bound=0.9, traffic_gbs=7.0),) if stated else ())
    standing = Standing.of(snapshot, load, History(), rules, DEFAULT)
    found = screen(standing)
    nodes = np.arange(4)
    tenants = standing.tenants
    loose, held, _ = Accesses.of(tenants.vcpu_share, tenants.memory_share, tenants.own_share)
    remote = loose.sum(axis=1) * held.sum(axis=1) - (loose * held).sum(axis=1)
    # accesses on the links that are fewer than REMOTE are left out; where a link is overloaded they cost more than so
    left_out = np.where(remote > REMOTE, 1e-6, 3.0 * REMOTE * max(float(tenants.each_counts.max()), 1.0))
    for row in range(len(snapshot.domains)):
        newcomer, without = standing.newcomer(row), standing.without(row)
        vcpus, memory = standing.tenants.vcpu_share[row], standing.tenants.memory_share[row]
        now = without.try_sets(newcomer, nodes[None], vcpus[None], memory[None]).total[0]
        ones = np.ones((4, 1))
        there = without.try_sets(newcomer, nodes[:, None], ones, ones).total
        usable = standing.machine.pcpus[newcomer.pool] > 0
        gain = found.gain[row]
        assert gain[usable] == pytest.approx(now - there[usable], rel=1e-6, abs=float(left_out[row]))
        assert (gain[~usable] == -np.inf).all()
