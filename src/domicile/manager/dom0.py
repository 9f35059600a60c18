"""Dom0's place: a plan kept in the journal, its affinity set on the running host, and Dom0 compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from domicile.errors import DomicileError, HostFailed
from domicile.hosts.actions import SetAffinity
from domicile.hosts.protocol import Host
from domicile.manager.journal import Journal
from domicile.policies.dom0.check import Dom0Check, check_dom0
from domicile.policies.dom0.plan import Dom0Plan, VcpuAffinity, dom0_of
from domicile.policies.dom0.target import Dom0Target
from domicile.state.model import MemoryMapAge, Vcpu

__all__ = ["KeptPlan", "keep_plan", "kept_plan", "set_dom0_affinity", "verify_dom0"]

KEPT, SETTING, SET = "dom0-plan", "dom0-affinity-setting", "dom0-affinity-set"


@dataclass(frozen=True, slots=True)
class KeptPlan:
    """A plan's target, and when it was kept, in seconds since 1970."""

    target: Dom0Target
    kept_at: float


def keep_plan(journal: Journal, target: Dom0Target) -> None:
    """Keep a plan for `verify_dom0`, in place of the one before."""
    journal.note(KEPT, msgspec.to_builtins(target))


def kept_plan(journal: Journal) -> KeptPlan | None:
    """The plan that was kept last, None if none was. Raises `HostFailed` for one that makes no sense."""
    event = journal.last(KEPT)
    if event is None:
        return None
    try:
        return KeptPlan(msgspec.convert(event.detail, Dom0Target), event.at)
    except msgspec.ValidationError as error:
        raise HostFailed(f"{journal.path}: its plan for Dom0 makes no sense: {error}; keep a new one") from error


def set_dom0_affinity(host: Host, journal: Journal, plan: Dom0Plan) -> None:
    """Set the affinity that a plan has for now, and look whether it is so.

    What was there is written down before. Raises `HostFailed` where the host fails, saying how far it came: what was
    set until then stays, for the same command brings it to its end.
    """
    dom0 = dom0_of(host.snapshot())
    before = [_set_of(vcpu) for vcpu in dom0.vcpus]
    wanted = {change.vcpu: change for change in plan.affinity}
    journal.note(SETTING, {"before": before, "wanted": plan.affinity})
    done: list[int] = []
    for change in plan.affinity:
        try:
            host.perform(SetAffinity(dom0.name, change.vcpu, change.hard, change.soft))
        except DomicileError as error:
            left = len(plan.affinity) - len(done)
            raise HostFailed(f"{error}; {len(done)} vCPUs were set and {left} not: give the command again") from error
        done.append(change.vcpu)
    snapshot = host.snapshot()
    online = frozenset(cpu.id for cpu in snapshot.topology.cpus)
    wrong = [vcpu.id for vcpu in dom0_of(snapshot).vcpus if not _is_so(vcpu, wanted, online)]
    if wrong:
        raise HostFailed(f"{dom0.name}: the host took the affinity of vCPU {wrong[0]} and does not show it")
    journal.note(SET, {"vcpus": done})


def verify_dom0(host: Host, proximity_domains: Mapping[int, int], target: Dom0Target | None) -> Dom0Check:
    """Dom0 now, its memory counted, against Xen's command line and the target."""
    return check_dom0(host.snapshot(MemoryMapAge.NOW), proximity_domains, target)


def _set_of(vcpu: Vcpu) -> VcpuAffinity:
    return VcpuAffinity(vcpu.id, vcpu.hard_affinity, vcpu.soft_affinity)


def _is_so(vcpu: Vcpu, wanted: Mapping[int, VcpuAffinity], online: frozenset[int]) -> bool:
    change = wanted.get(vcpu.id)
    if change is None:
        return True
    pairs = ((change.hard, vcpu.hard_affinity), (change.soft, vcpu.soft_affinity))
    return all(should is None or should & online == found & online for should, found in pairs)
