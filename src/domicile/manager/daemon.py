"""`domicile run`: rounds until told to stop, each with the configuration that holds by then."""

from __future__ import annotations

import gc
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from domicile.errors import BadInput, Halted
from domicile.hosts.actions import Manage
from domicile.local.supervisor import Supervisor
from domicile.manager.balance import LOOKS, Balancer, Done
from domicile.manager.events import tell
from domicile.manager.intents import MoveStatus
from domicile.manager.rebalance import Outcome, Rebalancer, remembered, rules_of
from domicile.manager.settling import settle_changes
from domicile.manager.signals import Told, ToldToEnd
from domicile.state.mandate import Mandate
from domicile.state.model import Snapshot
from domicile.state.request import Intent
from domicile.topology.ids import format_ids

__all__ = ["Daemon", "calm_collector"]


YOUNG_OBJECTS = 50_000
"""A look at a large host makes some ten thousand records, none of them in a circle."""


def calm_collector() -> None:
    """Have Python look for circles of dead objects less often, and not among what was there before the first round.

    As it comes, it would look ten times a round, which takes a seventh of the round's time and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


@dataclass
class Daemon:
    """A manager that goes on. `configuration` reads the intent anew, and raises `BadInput` where it makes no sense."""

    balancer: Balancer
    who: str
    configuration: Callable[[], Intent]
    told: Told
    supervisor: Supervisor
    managing: bool = False
    rebalancer: Rebalancer = field(init=False)

    def __post_init__(self) -> None:
        self.rebalancer = Rebalancer(self.balancer.host, self.balancer.journal)

    def run(self, rounds: int | None = None) -> None:
        """Rounds, until they are done or a signal says so; all vCPUs are let go then.

        Raises `Refused` where somebody else manages the host, `Halted` once somebody has stopped its managers,
        `HostFailed`, and `Interrupted` where a second signal ends it at once.
        """
        self.begin()
        try:
            for _ in itertools.count() if rounds is None else range(rounds):
                self.round()
        except Halted as halted:
            self._end(str(halted), logging.ERROR)
            raise
        except ToldToEnd:
            self._end("it was told to")
        else:
            self._end("its rounds are done")

    def begin(self) -> None:
        """Take office, unless only told to look. Raises as `run` does."""
        self._take_or_lay_down_office()
        mandate = self.balancer.mandate
        self.supervisor.ready()
        tell(
            "started",
            f"watching {self.balancer.host.uri} every {mandate.interval_s:g} s",
            "changing nothing" if mandate.read_only else "",
            uri=self.balancer.host.uri,
            interval_s=mandate.interval_s,
            read_only=mandate.read_only,
        )

    def round(self) -> None:
        """Watch for an interval, then act. Raises as `run` does, and `ToldToEnd`."""
        interval_s = self.balancer.mandate.interval_s
        snapshot = self.balancer.watch_for(interval_s, interval_s / LOOKS, self._meanwhile)
        self._meanwhile()
        self._take_or_lay_down_office()
        plan = self.balancer.decide(snapshot)
        done = self.balancer.carry_out(plan) if self.managing else Done(plan)
        _tell_of(done, changed=self.managing)
        moving = self._rebalance(snapshot)
        held = len(self.balancer.held)
        self.supervisor.status(
            f"watching {len(snapshot.domains)} domains; {len(plan.left)} left alone, {held} vCPUs held, "
            f"{moving} being moved"
        )

    def _rebalance(self, snapshot: Snapshot) -> int:
        """Moves of memory: those that ended, those that begin; how many go on."""
        rules = rules_of(self.balancer.mandate, snapshot)
        if self.managing:
            tell_of_moves(self.rebalancer.attend(snapshot, rules))
        plan = self.rebalancer.decide(snapshot, self.balancer.watch, rules)
        if self.managing:
            tell_of_moves(self.rebalancer.carry_out(plan, rules))
            tell_of_moves(self.rebalancer.make_room(snapshot, self.balancer.watch, plan, rules))
        else:
            for move in (*plan.moves, *(each for swap in plan.swaps for each in (swap.first, swap.second))):
                tell(
                    "move", f"would be: moved to node {format_ids(move.option.nodes)}", move.reason, domain=move.domain
                )
        return len(self.rebalancer.history.under_way)

    def _meanwhile(self, _: float = 0.0) -> None:
        """What is looked after again and again, at moments when nothing is asked of the host."""
        self.supervisor.alive()
        self.told.end_if_told()
        last = self.balancer.watch.last
        if last is not None and last.halted:
            raise Halted(
                f"managers of this host are stopped: {last.halted}; `domicile stop --off` lets them start again"
            )
        if self.told.to_reload:
            self.told.to_reload = False
            self._reload()

    def _reload(self) -> None:
        """Read the configuration again; where it makes no sense, what held before still does."""
        self.supervisor.reloading()
        try:
            intent = self.configuration()
        except BadInput as error:
            tell("reload_refused", "configuration not taken", f"{error}; the old one holds", level=logging.ERROR)
        else:
            changed = _changed(self.balancer.mandate, intent.mandate)
            self.balancer.intent = intent
            tell("reloaded", "configuration read again", _in_words(changed), changed=changed)
        self.supervisor.ready()

    def _take_or_lay_down_office(self) -> None:
        """Be the host's manager or not, as the configuration wants it by now."""
        wanted = not self.balancer.mandate.read_only
        if wanted and not self.managing:
            self.balancer.host.perform(Manage(self.who))
            self.managing = True
            self._adopt()
        elif self.managing and not wanted:
            self._lay_down_office()

    def _adopt(self) -> None:
        """What managers before us have changed, and what the host goes on with."""
        snapshot, journal = self.balancer.look(), self.balancer.journal
        for done in settle_changes(snapshot, self.balancer.host, journal):
            tell_of_moves(Outcome((done,), (), done.failed))
        self.rebalancer.history = remembered(snapshot, journal)

    def _lay_down_office(self) -> None:
        self.balancer.let_all_go()
        if self.managing:
            self.balancer.host.perform(Manage(""))
            self.managing = False

    def _end(self, why: str, level: int = logging.INFO) -> None:
        self.supervisor.stopping()
        self._lay_down_office()
        tell("ended", "ended; all vCPUs let go", why, level=level)


def tell_of_moves(outcome: Outcome) -> None:
    """Moves that ended, and those that were begun."""
    for done in outcome.ended:
        move = done.move
        tell(
            "moved",
            f"{move.status}, to node {format_ids(move.order.nodes)} ({move.order.way})",
            move.why,
            domain=move.order.domain,
            level=logging.INFO if move.status in {MoveStatus.MOVED, MoveStatus.PARTLY} else logging.WARNING,
            nodes=list(move.order.nodes),
            way=move.order.way.value,
            status=move.status.value,
            plan=move.plan,
        )
    for begun in outcome.begun:
        tell(
            "move",
            f"being moved to node {format_ids(begun.option.nodes)} ({begun.option.way})",
            begun.reason,
            domain=begun.domain,
            nodes=list(begun.option.nodes),
            way=begun.option.way.value,
            gain=round(begun.gain, 4),
        )
    for ask in outcome.asked:
        tell("memory", f"to come to {ask.target_mib} of {ask.from_mib} MiB", ask.reason, domain=ask.domain)
    for line in outcome.failed:
        tell("failed", "failed", line, level=logging.WARNING)


def _changed(before: Mandate, after: Mandate) -> dict[str, Any]:
    """What differs, by name: the new values."""
    names = [each.name for each in fields(Mandate)]
    return {name: _plain(getattr(after, name)) for name in names if getattr(before, name) != getattr(after, name)}


def _plain(value: Any) -> Any:
    """A setting as JSON has it: of domains, the names."""
    return [getattr(each, "domain", each) for each in value] if isinstance(value, tuple) else value


def _in_words(changed: dict[str, Any]) -> str:
    return "; ".join(f"{name} = {value}" for name, value in changed.items()) or "nothing has changed"


def _tell_of(done: Done, *, changed: bool) -> None:
    """What a round did, or would have done."""
    plan, would = done.plan, "" if changed else "would be: "
    for going in plan.let_go:
        tell("let_go", f"{would}vCPU {going.vcpu} let go", going.reason, domain=going.domain, vcpu=going.vcpu)
    for change in plan.soft:
        tell(
            "soft_affinity",
            f"{would}soft affinity to CPUs {format_ids(change.cpus)}",
            change.reason,
            domain=change.domain,
            cpus=sorted(change.cpus),
            nodes=list(change.nodes),
            gain=round(change.gain, 4),
            plan=done.plan_id,
        )
    for each in plan.hold:
        tell(
            "hold",
            f"{would}vCPU {each.vcpu} held on CPUs {format_ids(each.cpus)}",
            each.reason,
            domain=each.domain,
            vcpu=each.vcpu,
            cpus=sorted(each.cpus),
            away=round(each.away, 4),
        )
    for line in done.failed:
        tell("failed", "failed", line, level=logging.WARNING)
