"""Memory that follows load: moves and swaps that a policy has decided, begun, attended to and written down.

A host goes on with moves by itself. Between rounds nothing is waited for: each round looks which moves have ended,
concludes them, and begins what was waiting for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from domicile.errors import DomicileError, Halted, HostFailed
from domicile.hosts.actions import LetGo, SetMemory
from domicile.hosts.protocol import Host
from domicile.manager.attempt import attempt
from domicile.manager.intents import ActStatus, MemoryAct, MoveIntent, MoveStatus
from domicile.manager.journal import Journal
from domicile.manager.migrate import Moved, begin, conclude, move_vcpus, on_host, ordered
from domicile.policies.migration.records import Permits, Way
from domicile.policies.rebalancing.decide import rebalance
from domicile.policies.rebalancing.records import History, Move, RebalancePlan, Rules
from domicile.policies.rebalancing.records import Moved as Remembered
from domicile.policies.rebalancing.shrink import Ask, Shrunk, give_back, make_room, shrunk_by
from domicile.policies.scheduling.watch import Watch
from domicile.state.mandate import DomainMandate, Mandate
from domicile.state.model import Snapshot

__all__ = ["Outcome", "Rebalancer", "remembered", "rules_of", "settle_memory", "tell_balloon", "undo_memory"]

LEAST_PER_MINUTE = 2
"""Moves that may begin in a minute on the smallest host: a swap is two."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round came to: moves that ended, those that were begun, what guests were asked for or given back, and what
    failed, a line each."""

    ended: tuple[Moved, ...] = ()
    begun: tuple[Move, ...] = ()
    failed: tuple[str, ...] = ()
    asked: tuple[Ask, ...] = ()


def rules_of(mandate: Mandate, snapshot: Snapshot, *, seen_s: float | None = None) -> Rules:
    """What the administrator allows, as the policy's rules. `seen_s`: how long is looked before anything is decided."""
    usual = _permits(mandate, DomainMandate(""))
    stated = {each.domain: _permits(mandate, mandate.of(each.domain)) for each in mandate.domains}
    permits = {domain.name: stated.get(domain.name, usual) for domain in snapshot.domains}
    rules = Rules(
        start=mandate.start,
        stop=min(mandate.stop, mandate.start),
        horizon_s=mandate.horizon_s,
        hold_off_s=mandate.hold_off_s,
        per_minute=_per_minute(mandate, snapshot),
        leave=frozenset(domain for domain in permits if not mandate.may_touch(domain)),
        permits=permits,
    )
    return rules if seen_s is None else replace(rules, seen_s=min(seen_s, rules.seen_s))


def _per_minute(mandate: Mandate, snapshot: Snapshot) -> int:
    """On a host of more nodes more comes and goes; what a move costs the others stays between two of them."""
    if mandate.moves_per_minute is not None:
        return round(mandate.moves_per_minute)
    return max(sum(map(bool, snapshot.topology.cpus_by_node.values())), LEAST_PER_MINUTE)


def _permits(mandate: Mandate, each: DomainMandate) -> Permits:
    return Permits(
        pause_s=each.pause_s, rate_mib_s=mandate.rate_mib_s, may_move=each.may_move, minimum_mib=each.min_mib
    )


def remembered(snapshot: Snapshot, journal: Journal) -> History:
    """What earlier managers of this host have moved: a new one holds off as they would have."""
    ahead_s = snapshot.taken_at - journal.now()
    return History(
        tuple(
            Remembered(
                move.order.uuid,
                _sources(move),
                move.order.nodes,
                dict(move.order.after_mib),
                move.changed_at + ahead_s,
                None if move.pending else move.changed_at + ahead_s,
            )
            for move in journal.moves()
            if move.status is not MoveStatus.FAILED
        )
    )


def _sources(move: MoveIntent) -> tuple[int, ...]:
    return tuple(sorted(node for node, pages in (move.before or {}).items() if pages and node not in move.order.nodes))


def tell_balloon(host: Host, journal: Journal, act: MemoryAct, failed: list[str]) -> None:
    """Carry out one change of memory that is written down, as `attempt` does."""
    attempt(
        host,
        SetMemory(act.domain, act.uuid, act.wanted_mib),
        lambda status: journal.end_memory(act, status),
        failed,
    )


def settle_memory(snapshot: Snapshot, journal: Journal, is_alive: Callable[[int], bool]) -> list[MemoryAct]:
    """Find out what became of changes of memory whose manager died over them; returns those. `is_alive` tells by plan.

    Where the host does not tell what a driver was told, it is taken to have been: then it is given back one day.
    """
    targets = {domain.uuid: domain.target_mib for domain in snapshot.domains}
    return [
        journal.end_memory(
            act, ActStatus.DONE if targets.get(act.uuid, 0) in (None, act.wanted_mib) else ActStatus.FAILED
        )
        for act in journal.memory_acts()
        if act.status is ActStatus.PLANNED and not is_alive(act.plan)
    ]


def undo_memory(host: Host, journal: Journal, plan: int) -> list[MemoryAct]:
    """Give the domains of a plan the memory again that they had. What somebody else has set since is left to them."""
    targets = {domain.uuid: domain.target_mib for domain in host.snapshot().domains}
    ended = []
    for act in reversed([each for each in journal.memory_acts(plan) if each.status is ActStatus.DONE]):
        if targets.get(act.uuid) not in (None, act.wanted_mib) or act.uuid not in targets:
            ended.append(journal.end_memory(act, ActStatus.LEFT))
            continue
        host.perform(SetMemory(act.domain, act.uuid, act.before_mib))
        ended.append(journal.end_memory(act, ActStatus.UNDONE))
    return ended


@dataclass
class Rebalancer:
    """What moves memory on one host, between its rounds."""

    host: Host
    journal: Journal
    history: History = History()  # noqa: RUF009 - immutable
    waiting: dict[str, Move] = field(default_factory=dict)
    """By the token of the first of two that change places: the second, begun when the first has moved."""
    wanted_s: float = -math.inf
    """When room was last wanted that was not there, by the host's clock."""

    def decide(self, snapshot: Snapshot, watch: Watch, rules: Rules) -> RebalancePlan:
        """What to move now; nothing is changed."""
        plan = rebalance(snapshot, watch, self.history, rules)
        self.history = plan.history
        return plan

    def decide_now(self, snapshot: Snapshot, watch: Watch, rules: Rules) -> RebalancePlan:
        """What to move where a person asks for it, who does not want it to be waited for."""
        self.history = self.decide(snapshot, watch, rules).history.waited()
        return self.decide(snapshot, watch, rules)

    def attend(self, snapshot: Snapshot, rules: Rules) -> Outcome:
        """Conclude the moves that have ended, and begin what waited for them. Costs nothing while none is pending."""
        ended, begun, failed = list[Moved](), list[Move](), list[str]()
        for move in self.journal.moves():
            state = on_host(snapshot, move)
            if not move.pending or (state is not None and state.end is None):
                continue
            done = conclude(self.host, self.journal, move)
            ended.append(done)
            failed += done.failed
            self.history = self.history.ended(move.order.uuid, snapshot.taken_at)
            second = self.waiting.pop(move.order.token, None)
            if second is None:
                continue
            if done.move.status is MoveStatus.MOVED:
                self._begin(second, rules, begun, failed)
            else:
                # it was promised a place that has not become free
                self.history = self.history.ended(second.uuid, snapshot.taken_at)
        return Outcome(tuple(ended), tuple(begun), tuple(failed))

    def carry_out(self, plan: RebalancePlan, rules: Rules) -> Outcome:
        """Begin a plan's moves. What one domain refuses does not keep the others from theirs; `HostFailed` and `Halted`
        end it."""
        begun, failed = list[Move](), list[str]()
        for move in plan.moves:
            self._begin(move, rules, begun, failed)
        for swap in plan.swaps:
            token = self._begin(swap.first, rules, begun, failed)
            if token:
                self.waiting[token] = swap.second
                # it is on its way in all but deed: nothing else is to be decided about it
                self.history = self.history.began(swap.second, self.host.snapshot().taken_at)
        return Outcome((), tuple(begun), tuple(failed))

    def make_room(self, snapshot: Snapshot, watch: Watch, plan: RebalancePlan, rules: Rules) -> Outcome:
        """Ask idle guests for memory where the move that gains most has no room; give it back once nobody has wanted
        any for as long as a domain is left where it was moved."""
        wants = [each for each in plan.considered if each.short_mib and each.gain >= rules.start]
        shrunk = self.shrunk()
        if wants:
            self.wanted_s = snapshot.taken_at
            best = max(wants, key=lambda each: (each.gain, each.uuid))
            wanted = {node: mib + snapshot.available_mib(node) for node, mib in best.short_mib.items()}
            return self._ask(make_room(snapshot, watch, wanted, rules).asks)
        # who wants room is weighed again only so often, and waits once there is some
        patience_s = rules.hold_off_s + rules.look_again_s + rules.settle_s
        if shrunk and not self.history.under_way and snapshot.taken_at - self.wanted_s > patience_s:
            return self._ask(give_back(snapshot, shrunk, rules))
        return Outcome()

    def shrunk(self) -> dict[str, Shrunk]:
        """Who was asked for memory, by us or by a manager before us, and has not been given it again."""
        found: dict[str, Shrunk] = {}
        for act in self.journal.memory_acts():
            if act.status is ActStatus.DONE:
                ask = Ask(act.domain, act.uuid, act.before_mib, act.wanted_mib, {})
                found = shrunk_by((ask,), found)
        return found

    def _ask(self, asks: Sequence[Ask]) -> Outcome:
        if not asks:
            return Outcome()
        failed: list[str] = []
        wanted = [MemoryAct(each.domain, each.uuid, each.from_mib, each.target_mib, each.reason) for each in asks]
        for act in self.journal.begin_memory("balance", "domicile", wanted):
            tell_balloon(self.host, self.journal, act, failed)
        return Outcome((), (), tuple(failed), tuple(asks))

    def _begin(self, move: Move, rules: Rules, begun: list[Move], failed: list[str]) -> str:
        """Begin one move; its token, "" where it could not be begun (or is done at once)."""
        snapshot = self.host.snapshot()
        domain = next((each for each in snapshot.domains if each.uuid == move.uuid), None)
        if domain is None:
            failed.append(f"{move.domain}: is not there any more")
            return ""
        # a hold ends with the domain's id, and must not be taken for somebody else's affinity there
        for hold in snapshot.holds:
            if hold.uuid == domain.uuid:
                self.host.perform(LetGo(hold.uuid, hold.vcpu))
        token = ""
        try:
            if move.option.way is Way.VCPUS:
                failed += move_vcpus(self.host, self.journal, snapshot, domain, move.option.nodes, move.reason)[1]
            else:
                order = ordered(snapshot, domain, move.option, rules.permits_of(domain.name))
                begin(self.host, self.journal, order, move.reason, gain=move.gain, kind="balance")
                token = order.token
        except (HostFailed, Halted):
            raise
        except DomicileError as error:
            failed.append(str(error))
            return ""
        begun.append(move)
        self.history = self.history.began(move, snapshot.taken_at)
        if not token:
            self.history = self.history.ended(move.uuid, snapshot.taken_at)
        return token
