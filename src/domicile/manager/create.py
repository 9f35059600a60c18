"""Placing and starting domains, safe against other creations, crashes and cut connections.

Guests given together are planned together, checked and their memory reserved before the first one is started: if one of
them cannot be, none is. From then on each is a transaction of its own, as each is a domain of its own: it runs where it
was planned, or nothing of it is left. One that fails does not take those with it that run already, nor stop those that
follow, unless the host answers no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum

from domicile.errors import DomicileError, HostFailed, Refused
from domicile.hosts.protocol import Host
from domicile.manager.guests import ConfigText, Guest, ReadConfig, WriteConfig, read_guests
from domicile.manager.intents import DomainIntent, Wanted
from domicile.manager.journal import Journal
from domicile.manager.promise import Patience, Policy, Promiser
from domicile.manager.recorded import with_journal
from domicile.manager.recovery import settle
from domicile.manager.signals import interruptible
from domicile.manager.start import MemoryElsewhere, Progress, Starter, Step, Unreachable, silent
from domicile.policies.plan import Placement
from domicile.policies.starting_order import starting_order
from domicile.state.model import Snapshot
from domicile.state.request import Intent

__all__ = ["Outcome", "OutcomeStatus", "Progress", "Step", "create_domains", "exit_status"]


class OutcomeStatus(StrEnum):
    """How a creation ended."""

    STARTED = "started"
    REFUSED = "refused"
    FAILED = "failed"
    NOT_STARTED = "not started"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one guest. `pages_by_node` is what was found of a started one, None if the host cannot tell.

    `error` says why it was not started; `notes` what a person should know although it was.
    """

    domain: str
    status: OutcomeStatus
    placement: Placement | None = None
    pages_by_node: Mapping[int, int] | None = None
    error: DomicileError | None = None
    notes: tuple[str, ...] = ()


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """The process's exit status: 3 if the host failed for any, else the first error's, 0 if all were started."""
    statuses = [outcome.error.exit_status for outcome in outcomes if outcome.error]
    return 3 if 3 in statuses else next(iter(statuses), 0)


def create_domains(
    host: Host,
    configs: Sequence[ConfigText],
    *,
    policy: Policy,
    read: ReadConfig,
    write: WriteConfig,
    intent: Intent | None = None,
    journal: Journal | None = None,
    patience: Patience | None = None,
    progress: Progress = silent,
) -> list[Outcome]:
    """Place the guests on the host and start them; one outcome each, in order. Without a journal the host's is used.

    Raises, with nothing started, `BadInput` for a bad configuration, `Refused` where they do not fit together, and
    `HostFailed` where the host or the journal fails before the first start. An interrupt (Ctrl-C, SIGTERM, SIGHUP)
    undoes what is half done and is passed on; domains that run already stay.
    """
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        first = host.snapshot()
        if journal is None:
            journal = stack.enter_context(Journal.for_host(first.host_id))
        settled = settle(host, journal)
        guests = with_journal(read_guests(configs, first, read), journal)
        if not guests:
            return []

        def waiting(domain: str, detail: str) -> None:
            progress(domain, Step.WAITING, detail)

        promiser = Promiser(host, policy, intent or Intent(), patience or Patience(), waiting)
        creation = _Creation(promiser, Starter(host, journal, progress), write, journal, progress)
        try:
            return creation.run(guests, None if settled else first)
        except BaseException as error:
            for failed in promiser.release(promiser.held):
                error.add_note(f"a reservation could not be released and ends with the connection: {failed}")
            raise


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One try to start a guest: where, from which text, with which reservation, under which intent."""

    placement: Placement
    text: str
    token: str
    intent: DomainIntent


@dataclass(frozen=True, slots=True)
class _Creation:
    promiser: Promiser
    starter: Starter
    write: WriteConfig
    journal: Journal
    progress: Progress

    def run(self, guests: Sequence[Guest], first: Snapshot | None) -> list[Outcome]:
        """Promise all, then start one after the other; the outcomes are in the order of the guests."""
        for guest in guests:
            self.progress(guest.name, Step.PLANNING, "")
        attempts = self._promised(guests, first)
        outcomes: dict[int, Outcome] = {}
        try:
            for index, attempt in attempts.items():
                outcomes[index] = self._one(guests[index], attempt)
                if isinstance(outcomes[index].error, Unreachable):
                    break
        finally:
            intents = [attempt.intent for attempt in attempts.values()]
            self.starter.close_unstarted(intents, "the creation ended before its turn")
        for index in set(attempts) - set(outcomes):
            name, placement = guests[index].name, attempts[index].placement
            error = HostFailed(f"{name}: was not tried, as the host answers no more")
            outcomes[index] = Outcome(name, OutcomeStatus.NOT_STARTED, placement, error=error)
        return [outcomes[index] for index in range(len(guests))]

    def _promised(self, guests: Sequence[Guest], first: Snapshot | None = None) -> dict[int, _Attempt]:
        """Decide, reserve, and write down what is about to be done: after this, only the host can still refuse. By the
        guests' indices, in the order in which they have to start."""
        promise = self.promiser.promise(guests, first)
        wanted = [_wanted(*each) for each in zip(guests, promise.placements, strict=True)]
        texts = {
            index: guests[index].text(self.write, promise.placements[index], topology)
            for index, topology in starting_order(promise.snapshot, promise.placements)
        }
        intents = self.journal.begin("create", promise.policy, wanted)
        return {
            index: _Attempt(promise.placements[index], text, promise.tokens[index], intents[index])
            for index, text in texts.items()
        }

    def _one(self, guest: Guest, attempt: _Attempt) -> Outcome:
        """Start one. If its memory falls elsewhere, look again and decide once more; then it is refused."""
        outcome = self._try(guest, attempt)
        if not isinstance(outcome.error, MemoryElsewhere):
            return outcome
        self.progress(guest.name, Step.PLANNING, "once more")
        try:
            (again,) = self._promised([guest]).values()
        except Refused as error:
            return replace(outcome, error=MemoryElsewhere(f"{outcome.error}; and there is no other place: {error}"))
        except DomicileError as error:
            return replace(outcome, status=OutcomeStatus.FAILED, error=error)
        outcome = self._try(guest, again)
        if isinstance(outcome.error, MemoryElsewhere):
            return replace(outcome, error=MemoryElsewhere(f"{outcome.error}; it was so at the first try too"))
        return outcome

    def _try(self, guest: Guest, attempt: _Attempt) -> Outcome:
        """Start it or leave nothing of it; either way its reservation ends."""
        try:
            started = self.starter.start(guest, attempt.text, attempt.placement, attempt.intent)
        except DomicileError as error:
            notes = self._release(attempt.token)
            self.progress(guest.name, Step.FAILED, str(error))
            status = OutcomeStatus.FAILED if isinstance(error, HostFailed) else OutcomeStatus.REFUSED
            return Outcome(guest.name, status, attempt.placement, error=error, notes=notes)
        notes = (*started.notes, *self._release(attempt.token))
        self.progress(guest.name, Step.DONE, "")
        return Outcome(guest.name, OutcomeStatus.STARTED, attempt.placement, started.pages_by_node, notes=notes)

    def _release(self, token: str) -> tuple[str, ...]:
        return tuple(
            f"its reservation could not be released ({error}): it ends with the connection"
            for error in self.promiser.release([token])
        )


def _wanted(guest: Guest, placement: Placement) -> Wanted:
    return Wanted(
        domain=guest.name,
        uuid=guest.request.uuid,
        nodes=placement.nodes,
        memory_mib=dict(placement.memory_mib),
        soft_affinity=placement.soft_affinity,
        vcpus=guest.request.vcpus,
        cpupool=guest.request.cpupool,
        config_digest=guest.config.digest,
        vnodes=placement.vnodes,
        vnodes_are_ours=bool(placement.vnodes) and not guest.request.vnodes,
        video_mib=guest.request.video_mib if placement.vnodes else 0,
    )
