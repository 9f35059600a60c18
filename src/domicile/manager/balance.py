"""Rounds of NUMA-aware scheduling: look, decide, write down, do, look again.

Soft affinity is changed for good, and written down before and after; holds last as long as the host's side sees this
connection, so they need no journal to be undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from domicile.errors import DomicileError, Halted, HostFailed, Refused, ReservationConflict
from domicile.hosts.actions import Hold, LetGo, Manage, SetAffinity
from domicile.hosts.protocol import Host, no_progress
from domicile.manager.attempt import attempt
from domicile.manager.intents import Act, ActStatus
from domicile.manager.journal import Journal
from domicile.policies.scheduling.follow import Rules, follow
from domicile.policies.scheduling.holds import Held
from domicile.policies.scheduling.plan import Holding, LettingGo, SchedulingPlan, SoftChange
from domicile.policies.scheduling.watch import Watch, observe
from domicile.state.mandate import Mandate
from domicile.state.model import MemoryMapAge, Snapshot
from domicile.state.request import Intent

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
    """The manager of one host between its rounds: what it may do, what it has seen, and what it holds."""

    host: Host
    journal: Journal
    intent: Intent = Intent()  # noqa: RUF009 - immutable
    watch: Watch = Watch()  # noqa: RUF009 - immutable
    held: dict[tuple[str, int], Held] = field(default_factory=dict)
    mapped_at: float | None = None
    """When the last memory map was asked for, by the host's clock."""

    @property
    def mandate(self) -> Mandate:
        """What it may do."""
        return self.intent.mandate

    def look(self, memory_map: MemoryMapAge = MemoryMapAge.RECENT) -> Snapshot:
        """One more snapshot, folded into what was seen."""
        snapshot = self.host.snapshot(memory_map)
        if memory_map is not MemoryMapAge.NONE:
            self.mapped_at = snapshot.taken_at
        self.watch = observe(self.watch, snapshot)
        return snapshot

    def watch_for(
        self, seconds: float, every_s: float = 1.0, progress: Callable[[float], None] = no_progress
    ) -> Snapshot:
        """Look again and again for so many seconds of the host's time; the last look has a memory map, if one is due.

        `progress` is called now and then while nothing is asked of the host.
        """
        snapshot = self.watch.last or self.look(MemoryMapAge.NONE)
        passed_s = 0.0
        while passed_s < seconds:
            step_s = min(every_s, seconds - passed_s)
            self.host.wait(step_s, progress)
            passed_s += step_s
            snapshot = self.look(MemoryMapAge.NONE if passed_s < seconds else self._map_age(step_s))
        return snapshot

    def _map_age(self, step_s: float) -> MemoryMapAge:
        """Whether a memory map is due once `step_s` has passed since the last look."""
        last = self.watch.last
        if self.mapped_at is None or last is None:
            return MemoryMapAge.RECENT
        # a clock that was set back would put it off for as long
        since_s = last.taken_at + step_s - self.mapped_at
        return MemoryMapAge.NONE if 0 <= since_s < self.mandate.memory_map_every_s else MemoryMapAge.RECENT

    def decide(self, snapshot: Snapshot) -> SchedulingPlan:
        """What to change; nothing is changed."""
        self.held = _in_force(self.held, snapshot)
        mandate = self.mandate
        leave = {each.name: "domicile.toml says so" for each in snapshot.domains if not mandate.may_touch(each.name)}
        leave |= {move.order.domain: "its memory is being moved" for move in snapshot.moves if move.end is None}
        return follow(snapshot, self.watch, self.held, Rules(start=mandate.start, leave=leave, intent=self.intent))

    def carry_out(self, plan: SchedulingPlan) -> Done:
        """Do it. What one domain refuses does not keep the others from theirs; `HostFailed` and `Halted` end it."""
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
        except Halted:
            raise
        except (Refused, ReservationConflict) as error:
            # the second: somebody else has set it since we looked
            self.held.pop((each.uuid, each.vcpu), None)
            failed.append(str(error))
        else:
            now_s = self.watch.last.taken_at if self.watch.last else 0.0
            self.held[each.uuid, each.vcpu] = Held(each.domain, each.cpus, each.before, now_s)

    def _change_soft(self, changes: tuple[SoftChange, ...], failed: list[str]) -> int:
        wanted = [
            Act(change.domain, change.uuid, vcpu, before, change.cpus, change.reason)
            for change in changes
            for vcpu, before in change.before
            if before != change.cpus
        ]
        acts = self.journal.begin_acts("balance", "domicile", wanted)
        for number, act in enumerate(acts):
            try:
                perform(self.host, self.journal, act, failed)
            except Halted:
                for rest in acts[number:]:
                    self.journal.end_act(rest, ActStatus.FAILED)
                raise
        return acts[0].plan


def _in_force(held: Mapping[tuple[str, int], Held], snapshot: Snapshot) -> dict[tuple[str, int], Held]:
    """Without the holds that have ended behind our back: a move ends those of the domain before it begins, and may be
    refused then, or be over before anybody looks. Those of a domain that has gone stay: they are still to be let go."""
    if not held:
        return {}
    hard = {(domain.uuid, vcpu.id): vcpu.hard_affinity for domain in snapshot.domains for vcpu in domain.vcpus}
    return {key: was for key, was in held.items() if hard.get(key, was.cpus) == was.cpus}


def perform(host: Host, journal: Journal, act: Act, failed: list[str]) -> None:
    """Carry out one change of affinity that is written down, as `attempt` does."""
    attempt(
        host,
        SetAffinity(act.domain, act.vcpu, soft=act.wanted),
        lambda status: journal.end_act(act, status),
        failed,
    )


def settle_acts(snapshot: Snapshot, journal: Journal, is_alive: Callable[[int], bool]) -> list[Act]:
    """Find out what became of changes whose manager died over them; returns those. `is_alive` tells by plan.

    For the host's manager alone: what was being put back, nobody else is putting back any more.
    """
    soft = _soft(snapshot)
    ended = []
    for act in journal.acts():
        now = soft.get((act.uuid, act.vcpu))
        if act.status is ActStatus.PLANNED and not is_alive(act.plan):
            ended.append(journal.end_act(act, ActStatus.DONE if now == act.wanted else ActStatus.FAILED))
        elif act.status is ActStatus.UNDOING:
            ended.append(journal.end_act(act, ActStatus.DONE if now == act.wanted else _put_back(act, now)))
    return ended


def _put_back(act: Act, now: frozenset[int] | None) -> ActStatus:
    """What a change is that is not in force any more."""
    return ActStatus.UNDONE if now == act.before else ActStatus.LEFT


def undo(host: Host, journal: Journal, plan: int) -> list[Act]:
    """Give the vCPUs of a plan the soft affinity back that they had, the last change first.

    What somebody else has set since is left to them. Returns the changes with what became of each. Raises `Refused`
    where there is nothing to undo.
    """
    done = [act for act in journal.acts(plan) if act.status in {ActStatus.DONE, ActStatus.UNDOING}]
    if not done:
        raise Refused(f"plan {plan}: has changed no affinity that could be put back; see domicile history")
    soft = _soft(host.snapshot())
    ended = []
    for act in reversed(done):
        now = soft.get((act.uuid, act.vcpu))
        if now != act.wanted:
            ended.append(journal.end_act(act, _put_back(act, now)))
            continue
        undoing = journal.end_act(act, ActStatus.UNDOING)
        try:
            host.perform(SetAffinity(act.domain, act.vcpu, soft=act.before))
        except HostFailed:
            raise
        except DomicileError:
            journal.end_act(undoing, ActStatus.DONE)
            raise
        ended.append(journal.end_act(undoing, ActStatus.UNDONE))
    return ended


def _soft(snapshot: Snapshot) -> Mapping[tuple[str, int], frozenset[int]]:
    return {(domain.uuid, vcpu.id): vcpu.soft_affinity for domain in snapshot.domains for vcpu in domain.vcpus}
