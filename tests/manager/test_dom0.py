"""Dom0's plan kept, its affinity set, and both found again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sim_faults import FaultyHost, failing_at

from domicile.errors import HostFailed
from domicile.hosts.actions import Action
from domicile.hosts.open import open_host
from domicile.hosts.protocol import Host
from domicile.local.paths import STATE_VARIABLE
from domicile.manager.dom0 import keep_plan, kept_plan, set_dom0_affinity, verify_dom0
from domicile.manager.journal import Journal
from domicile.policies.dom0.check import DifferenceKind
from domicile.policies.dom0.plan import Dom0Plan, Dom0Wish, plan_dom0


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    with open_host("sim:///4node") as opened:
        yield opened


def planned(host: Host, *, strict: bool = False) -> Dom0Plan:
    return plan_dom0(host.snapshot(), Dom0Wish(nodes=(3,), strict=strict), host.proximity_domains())


def test_the_last_plan_kept_is_found(host: Host, journal: Journal) -> None:
    assert kept_plan(journal) is None
    target = planned(host).target
    keep_plan(journal, target)
    keep_plan(journal, replace(target, vcpus=1))
    with Journal.for_host(host.snapshot().host_id) as again:
        found = kept_plan(again)
    assert found is not None
    assert found.target == replace(target, vcpus=1)


def test_a_plan_that_makes_no_sense_is_told(journal: Journal) -> None:
    journal.note("dom0-plan", {"nodes": "all"})
    with pytest.raises(HostFailed, match="its plan for Dom0 makes no sense"):
        kept_plan(journal)


@pytest.mark.parametrize("strict", [False, True])
def test_affinity_is_set_and_seen(host: Host, journal: Journal, *, strict: bool) -> None:
    plan = planned(host, strict=strict)
    before = host.snapshot().domains[0].vcpus
    kind = DifferenceKind.HARD_AFFINITY if strict else DifferenceKind.SOFT_AFFINITY

    def differs() -> bool:
        found = verify_dom0(host, host.proximity_domains(), plan.target).differences
        return kind in {one.kind for one in found}

    assert differs()
    set_dom0_affinity(host, journal, plan)
    assert not differs()
    for vcpu in host.snapshot().domains[0].vcpus:
        assert (vcpu.hard_affinity if strict else vcpu.soft_affinity) == {6, 7}
    setting, done = journal.events()[-2:]
    assert [one["soft"] for one in setting.detail["before"]] == [sorted(vcpu.soft_affinity) for vcpu in before]
    assert done.detail["vcpus"] == list(range(8))
    assert planned(host, strict=strict).affinity == ()


def test_a_host_that_fails_halfway(host: Host, journal: Journal) -> None:
    plan = planned(host)
    # the first call is a snapshot
    faulty = FaultyHost(host, failing_at({(3, False)}))
    with pytest.raises(HostFailed, match="connection lost; 2 vCPUs were set and 6 not: give the command again"):
        set_dom0_affinity(faulty, journal, plan)
    assert len(faulty.performed) == 2
    assert len(planned(host).affinity) == 6
    set_dom0_affinity(host, journal, planned(host))
    assert planned(host).affinity == ()


class Liar(FaultyHost):
    """Says yes and does nothing."""

    def perform(self, action: Action) -> None:
        self.performed.append(action)


def test_a_host_that_says_yes_and_does_not(host: Host, journal: Journal) -> None:
    with pytest.raises(HostFailed, match="took the affinity of vCPU 0 and does not show it"):
        set_dom0_affinity(Liar(host, lambda name, after: None), journal, planned(host))
