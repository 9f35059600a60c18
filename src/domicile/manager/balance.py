"""Rounds of NUMA-aware scheduling: look, decide, write down, do, look again.

Soft affinity is changed for good, and written down before and after; holds last as long as the host's side sees this
connection, so they need no journal to be undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from domicile.errors import DomicileError, HostFailed, Refused
from domicile.hosts.actions import Hold, LetGo, Manage, SetAffinity
from domicile.hosts.protocol import Host
from domicile.manager.intents import Act, ActStatus
from domicile.manager.journal import Journal
from domicile.policies.scheduling.follow import Rules, follow
from domicile.policies.scheduling.holds import Held
from domicile.policies.scheduling.plan import Holding, LettingGo, SchedulingPlan, SoftChange
from domicile.policies.scheduling.watch import Watch, observe
from domicile.state.model import MemoryMapAge, Snapshot

__all__ = ["LOOKS", "Balancer", "Done", "managing", "settle_acts", "undo"]

LOOKS = 2
"""Looks at the host in a round of `domicile run`: where a vCPU ran is known from where it is found."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a round: the plan, and what of it failed, a line each."""

    plan: SchedulingPlan
    plan_id: int | None = None
    failed: tuple[str, ...] = ()


@contextmanager
def managing(host: Host, who: str) -> Iterator[None]:
    """Be the host's manager within. Raises `Refused`, naming them, while somebody else is."""
    host.perform(Manage(who))
    try:
        yield
    finally:
        host.perform(Manage(""))


@dataclass
class Balancer:
    """The manager of one host between its rounds: what it has seen, and what it holds."""

    host: Host
    journal: Journal
    rules: Rules = Rules()  # noqa: RUF009 - immutable
    watch: Watch = Watch()  # noqa: RUF009 - immutable
    held: dict[tuple[str, int], Held] = field(default_factory=dict)

    def look(self, memory_map: MemoryMapAge = MemoryMapAge.RECENT) -> Snapshot:
        """One more snapshot, folded into what was seen."""
        snapshot = self.host.snapshot(memory_map)
        self.watch = observe(self.watch, snapshot)
        return snapshot

    def watch_for(self, seconds: float, every_s: float = 1.0) -> Snapshot:
        """Look again and again for so many seconds of the host's time; the last look is with a memory map."""
        snapshot = self.watch.last or self.look(MemoryMapAge.NONE)
        passed_s = 0.0
        while passed_s < seconds:
            step_s = min(every_s, seconds - passed_s)
            self.host.wait(step_s)
            passed_s += step_s
            snapshot = self.look(MemoryMapAge.NONE if passed_s < seconds else MemoryMapAge.RECENT)
        return snapshot

    def decide(self, snapshot: Snapshot) -> SchedulingPlan:
        """What to change; nothing is changed."""
        return follow(snapshot, self.watch, self.held, self.rules)

    def carry_out(self, plan: SchedulingPlan) -> Done:
        """Do it. What one domain refuses does not keep the others from theirs; `HostFailed` ends it."""
        failed: list[str] = []
        for each in plan.let_go:
            self._let_go(each)
        written = self._change_soft(plan.soft, failed) if plan.soft else None
        for holding in plan.hold:
            self._hold(holding, failed)
        return Done(plan, written, tuple(failed))

    def let_all_go(self) -> None:
        """End all holds: what the host's side does by itself when the connection ends."""
        for (uuid, vcpu), was in list(self.held.items()):
            self._let_go(LettingGo(was.domain, uuid, vcpu, "the manager ends"))

    def _let_go(self, each: LettingGo) -> None:
        self.host.perform(LetGo(each.uuid, each.vcpu))
        self.held.pop((each.uuid, each.vcpu), None)

    def _hold(self, each: Holding, failed: list[str]) -> None:
        try:
            self.host.perform(Hold(each.domain, each.uuid, each.vcpu, each.cpus, each.before))
        except Refused as error:
            self.held.pop((each.uuid, each.vcpu), None)
            failed.append(str(error))
        else:
            self.held[each.uuid, each.vcpu] = Held(each.domain, each.cpus, each.before)

    def _change_soft(self, changes: tuple[SoftChange, ...], failed: list[str]) -> int:
        wanted = [
            Act(change.domain, change.uuid, vcpu, before, change.cpus, change.reason)
            for change in changes
            for vcpu, before in change.before
            if before != change.cpus
        ]
        acts = self.journal.begin_acts("balance", "domicile", wanted)
        for act in acts:
            perform(self.host, self.journal, act, failed)
        return acts[0].plan


def perform(host: Host, journal: Journal, act: Act, failed: list[str]) -> None:
    """Carry out one change that is written down, and write down what came of it."""
    try:
        host.perform(SetAffinity(act.domain, act.vcpu, soft=act.wanted))
    except HostFailed:
        # whether it was done is for the next to find out, who can look at the host
        raise
    except DomicileError as error:
        journal.end_act(act, ActStatus.FAILED)
        failed.append(str(error))
    else:
        journal.end_act(act, ActStatus.DONE)


def settle_acts(snapshot: Snapshot, journal: Journal, is_alive: Callable[[int], bool]) -> list[Act]:
    """Find out what became of changes whose manager died over them; returns those. `is_alive` tells by plan."""
    soft = _soft(snapshot)
    return [
        journal.end_act(act, ActStatus.DONE if soft.get((act.uuid, act.vcpu)) == act.wanted else ActStatus.FAILED)
        for act in journal.acts()
        if act.status is ActStatus.PLANNED and not is_alive(act.plan)
    ]


def undo(host: Host, journal: Journal, plan: int) -> list[Act]:
    """Give the vCPUs of a plan the soft affinity back that they had, the last change first.

    What somebody else has set since is left to them. Returns the changes with what became of each. Raises `Refused`
    where there is nothing to undo.
    """
    done = [act for act in journal.acts(plan) if act.status is ActStatus.DONE]
    if not done:
        raise Refused(f"plan {plan}: has changed no affinity that could be put back; see domicile history")
    soft = _soft(host.snapshot())
    ended = []
    for act in reversed(done):
        if soft.get((act.uuid, act.vcpu)) != act.wanted:
            ended.append(journal.end_act(act, ActStatus.LEFT))
            continue
        host.perform(SetAffinity(act.domain, act.vcpu, soft=act.before))
        ended.append(journal.end_act(act, ActStatus.UNDONE))
    return ended


def _soft(snapshot: Snapshot) -> Mapping[tuple[str, int], frozenset[int]]:
    return {(domain.uuid, vcpu.id): vcpu.soft_affinity for domain in snapshot.domains for vcpu in domain.vcpus}
