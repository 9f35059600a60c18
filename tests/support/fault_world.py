"""A small simulated host with everybody who uses it, and what each of them does, as the commands of domicile do it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from fault_ledger import Ledger
from fault_line import Faults, Line, NoFaults, StagedJournal
from fault_stage import Player, SharedStore, Stage
from sim_machines import config, machine, place_into, read_guest
from sim_policy import emptiest

from domicile.errors import DomicileError, Refused
from domicile.hosts.actions import Action, CreatePaused, EndMove, Unpause
from domicile.hosts.simulated import SimulatedHost
from domicile.hosts.simulated.open import first_state
from domicile.hosts.simulated.state import BalloonDriver, Owner, Resident, SimulatedState
from domicile.manager.balance import Balancer, managing, settle_acts, undo
from domicile.manager.create import Outcome, OutcomeStatus, create_domains
from domicile.manager.guests import ConfigText
from domicile.manager.intents import ActStatus, DomainIntent, IntentStatus, MoveStatus, Seen
from domicile.manager.journal import Journal
from domicile.manager.migrate import migrate, move_vcpus, ordered, settle_moves, undo_moves
from domicile.manager.promise import Patience, Policy
from domicile.manager.recovery import settle
from domicile.manager.start import MemoryElsewhere
from domicile.policies.migration.records import Option, Permits, Way
from domicile.policies.migration.ways import options
from domicile.policies.scheduling.follow import Rules, follow
from domicile.policies.scheduling.holds import Limits
from domicile.policies.scheduling.plan import SchedulingPlan
from domicile.state.model import PAGES_PER_MIB, Domain, Snapshot
from domicile.state.moves import INCOMING, MoveWay

__all__ = ["PERMITS", "FaultWorld"]

PERMITS = Permits(pause_s=60.0, rate_mib_s=150.0, minimum_mib=48, live_pause_s=60.0, busy_vcpus=0.0)
PUT_BACK = {MoveStatus.MOVED, MoveStatus.PARTLY}


class Eager(Balancer):
    """Changes affinity for the least gain, and holds vCPUs on full nodes too."""

    def decide(self, snapshot: Snapshot) -> SchedulingPlan:
        return follow(snapshot, self.watch, self.held, Rules(0.0, Limits(full=4.0)))


class WatchedHost(SimulatedHost):
    """A connection whose actions the ledger hears of."""

    ledger: Ledger

    def perform(self, action: Action) -> None:
        super().perform(action)
        self.ledger.performed(action)


class FaultWorld:
    """The host, its stage and its ledger. `folder` is for the journal."""

    def __init__(self, folder: Path, seed: int, memory_mib: Sequence[int] = (512, 512, 512)) -> None:
        self.stage = Stage(seed)
        self.chance = random.Random(seed + 1)
        self.ledger = Ledger()
        first = first_state("box", machine(memory_mib))
        self.store = SharedStore(first, self.ledger.check)
        self.journal_path = folder / "journal.sqlite"
        self.host_id = first.machine.host_id
        self.ending: list[Line] = []
        self.lines: dict[Player, list[Line]] = {}
        self.stage.between = self.end_some
        self.stage.died = self._died
        self._engine = random.Random(seed + 2)
        self._connections = 0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within, processes are the stage's, and time passes without the simulator's engine, which takes longer than
        all the rest."""
        with ExitStack() as stack:
            stack.enter_context(self.stage.installed())
            stack.enter_context(patch("domicile.hosts.simulated.advance._lived_through", self._lived_through))
            yield

    def outside(self) -> SimulatedHost:
        """A connection for who is no player."""
        self._connections += 1
        host = WatchedHost("sim:///box", self.store, read_guest)  # type: ignore[arg-type]
        host.ledger = self.ledger
        process = self.stage.current.process if self.stage.current else host._owner.process
        host._owner = Owner(f"connection {self._connections}", process)
        return host

    @contextmanager
    def line(self, player: Player, faults: Faults) -> Iterator[tuple[Line, StagedJournal]]:
        """A player's line to the host, and its journal."""
        line = Line(self.outside(), player, faults, self._over, lambda: self.outside().wait(2.0))
        self.lines.setdefault(player, []).append(line)
        journal = LedgerJournal(self.journal_path, self.host_id, player, faults)
        journal.ledger = self.ledger
        try:
            with line:
                yield line, journal
        finally:
            journal.close()

    def end_some(self) -> None:
        """The host's side notices, sooner or later, that connections are gone."""
        for line in list(self.ending):
            if self.chance.random() < 0.3:
                self._end(line)

    def end_all(self) -> None:
        """All that are gone."""
        for line in list(self.ending):
            self._end(line)

    def _over(self, line: Line) -> None:
        self.ending.append(line)
        if not line.is_broken:
            self._end(line)

    def _end(self, line: Line) -> None:
        self.ending.remove(line)
        line.finish()
        self.store.ended.add(line.connection)
        self.store.read()

    def _died(self, player: Player) -> None:
        for line in self.lines.get(player, ()):
            line.over()

    def _lived_through(self, state: SimulatedState, seconds: float) -> SimulatedState:
        """All vCPUs that may run do, each anywhere that it may, most often not where it would like to."""
        pool = state.machine.cpupools[0].cpus
        residents = []
        for each in state.residents:
            if each.owner is None and not each.domain.paused:
                vcpus = tuple(
                    replace(
                        vcpu,
                        pcpu=self._engine.choice(sorted(vcpu.hard_affinity & pool)),
                        running=True,
                        time_ns=(vcpu.time_ns or 0) + round(seconds * 1e9),
                    )
                    for vcpu in each.domain.vcpus
                )
                each = replace(each, domain=replace(each.domain, vcpus=vcpus))  # noqa: PLW2901
            residents.append(each)
        clock = replace(state.clock, up_ns=state.clock.up_ns + round(seconds * 1e9))
        return replace(state, residents=tuple(residents), clock=clock)

    # what players do

    def creating(self, names: Sequence[str], memory: int, faults: Faults, policy: Policy = emptiest) -> Act:
        """`domicile create`."""

        def act(player: Player) -> None:
            with self.line(player, faults) as (host, journal):
                texts = [ConfigText(f"{name}.cfg", config(name, memory, overhead=3)) for name in names]
                chance = random.Random(self.chance.random())
                patience = Patience(8, 3.0, 0.1, 0.5, self.stage.sleep, self.stage.clock, chance)
                outcomes = create_domains(
                    host,
                    texts,
                    policy=policy,
                    read=lambda text, snapshot: read_guest(text.text, text.source, snapshot.topology),
                    write=lambda text, *more: place_into(text.text, *more),
                    journal=journal,
                    patience=patience,
                )
                self._check_created(outcomes)

        return self._forgiving(act)

    def migrating(self, name: str, nodes: tuple[int, ...], way: Way | None, faults: Faults) -> Act:
        """`domicile migrate`."""

        def act(player: Player) -> None:
            with self.line(player, faults) as (host, journal):
                found = options(host.snapshot(), _the(host.snapshot(), name), nodes, PERMITS)
                chosen = next((each for each in found if not each.refused and way in (None, each.way)), None)
                if chosen is None:
                    self.stage.tell(f"{player.name}: {[each.refused for each in found if way in (None, each.way)]}")
                    raise Refused("no way")
                with managing(host, player.name):
                    settle_moves(host.snapshot(), host, journal)
                    snapshot = host.snapshot()
                    domain = _the(snapshot, name)
                    if chosen.way is Way.VCPUS:
                        move_vcpus(host, journal, snapshot, domain, nodes, "for a test")
                    else:
                        migrate(host, journal, ordered(snapshot, domain, chosen, PERMITS), "for a test")

        return self._forgiving(act)

    def undoing(self, faults: Faults) -> Act:
        """`domicile undo`."""

        def find(snapshot: Snapshot, domain: Domain, nodes: tuple[int, ...], way: Way) -> Option:
            return next(each for each in options(snapshot, domain, nodes, PERMITS) if each.way is way)

        def act(player: Player) -> None:
            with self.line(player, faults) as (host, journal):
                undoing = {plan.id for plan in journal.plans() if plan.kind == "undo"}
                done = [act.plan for act in journal.acts() if act.status is ActStatus.DONE]
                done += [move.plan for move in journal.moves() if move.status in PUT_BACK]
                done = [plan for plan in done if plan not in undoing]
                if not done:
                    return
                with managing(host, player.name):
                    settle_moves(host.snapshot(), host, journal)
                    if any(move.plan == max(done) and move.status in PUT_BACK for move in journal.moves()):
                        undo_moves(host, journal, max(done), find, PERMITS)
                    else:
                        undo(host, journal, max(done))

        return self._forgiving(act)

    def running(self, rounds: int, faults: Faults) -> Act:
        """`domicile run`, of so many rounds."""

        def act(player: Player) -> None:
            with self.line(player, faults) as (host, journal):
                balancer = Eager(host, journal)
                with managing(host, player.name):
                    self._settle_acts(balancer, journal)
                    for _ in range(rounds):
                        balancer.carry_out(balancer.decide(balancer.watch_for(1.0, 0.5)))
                    balancer.let_all_go()

        return self._forgiving(act)

    def _settle_acts(self, balancer: Balancer, journal: Journal) -> None:
        owners = {plan.id: plan.owner for plan in journal.plans()}
        settle_acts(balancer.look(), journal, lambda plan: self.stage.is_alive(owners[plan]))

    def recover(self) -> None:
        """The faults have ended, time passes, and a new manager looks after what it finds. Again, that is nothing."""
        self.end_all()

        def look(player: Player) -> None:
            with self.line(player, NoFaults()) as (host, journal):
                settled = settle(host, journal)
                assert not [each.error for each in settled if each.error]
                with managing(host, player.name):
                    for turn in range(60):
                        if turn == 30:
                            # a saved domain waits for the memory that somebody took who was not promised it
                            self._send_outsiders_away()
                        settle_moves(host.snapshot(), host, journal)
                        if not self.store.read().moves and not any(move.pending for move in journal.moves()):
                            break
                        host.wait(5.0)
                    self._settle_acts(Balancer(host, journal), journal)

        self.alone("the next manager", look)
        with self.journal() as journal:
            self.ledger.check_settled(self.store.read(), journal)
            told = len(journal.events())
        self.alone("the one after it", look)
        with self.journal() as journal:
            assert len(journal.events()) == told, "settling what is settled changed something"
            self.ledger.check_settled(self.store.read(), journal)

    def _send_outsiders_away(self) -> None:
        for each in self.store.read().residents:
            if each.domain.uuid in self.ledger.outsiders:
                self.destroy(each.domain.name)

    def alone(self, name: str, act: Act) -> None:
        """Somebody acts without anybody beside them; nothing is forgiven."""
        self.stage.act_alone(name, act)

    def journal(self) -> Journal:
        """To look into, from the main thread."""
        return Journal(self.journal_path, self.host_id)

    def names(self) -> list[str]:
        """The guests that are there, whoever they belong to."""
        return [each.domain.name for each in self.store.read().residents if each.domain.id]

    def _forgiving(self, act: Act) -> Act:
        """A command that ends with an error has said so."""

        def forgiving(player: Player) -> None:
            try:
                act(player)
            except DomicileError as error:
                self.stage.tell(f"{player.name}: {type(error).__name__}: {error}")
            else:
                self.stage.tell(f"{player.name}: done")

        return forgiving

    def _check_created(self, outcomes: Sequence[Outcome]) -> None:
        there = {each.domain.name: each for each in self.store.read().residents}
        for outcome in outcomes:
            self.stage.tell(f"  {outcome.domain}: {outcome.status} {outcome.error or ''}")
            promised = self.ledger.tainted or not isinstance(outcome.error, MemoryElsewhere)
            assert promised, f"its memory was promised to {outcome.domain}: {outcome.error}"
            if outcome.status is OutcomeStatus.STARTED and outcome.domain in there:
                self.ledger.living.add(there[outcome.domain].domain.uuid)

    # what others do

    def destroy(self, name: str) -> None:
        """`xl destroy`."""
        host = self.outside()
        resident = self.store.read().resident(name)
        if resident is None:
            return
        self.ledger.gone.add(resident.domain.uuid)
        with host._store.changing() as transaction:
            kept = tuple(each for each in transaction.state.residents if each.domain.id != resident.domain.id)
            transaction.state = replace(transaction.state, residents=kept)

    def pause(self, name: str, *, paused: bool) -> None:
        """`xl pause`, `xl unpause`, of a domain that runs."""
        resident = self.store.read().resident(name)
        if resident is not None and resident.owner is None and not self._is_moved(resident):
            self.ledger.paused.add(resident.domain.uuid)
            self.change(name, lambda each: replace(each, domain=replace(each.domain, paused=paused)))

    def pin(self, name: str, cpus: frozenset[int], *, hard: bool) -> None:
        """`xl vcpu-pin` of its first vCPU."""
        resident = self.store.read().resident(name)
        if resident is None:
            return
        if not hard:
            self.ledger.changed_soft.add((resident.domain.uuid, 0))
        what = {"hard_affinity": cpus} if hard else {"soft_affinity": cpus}
        self.change(
            name,
            lambda each: replace(
                each,
                domain=replace(
                    each.domain,
                    vcpus=(replace(each.domain.vcpus[0], **what), *each.domain.vcpus[1:]),  # type: ignore[arg-type]
                ),
            ),
        )

    def shrink(self, name: str, part: float) -> None:
        """`xl mem-set` to this part, of a guest that does so at once."""
        resident = self.store.read().resident(name)
        if resident is None or resident.owner is not None or self._is_moved(resident, MoveWay.SAVE, MoveWay.BALLOON):
            return
        left = {node: round(pages * part) for node, pages in (resident.domain.pages_by_node or {}).items()}
        mib = sum(left.values()) // PAGES_PER_MIB
        left = _whole_mib(left, mib)
        self.ledger.changed_memory.add(resident.domain.uuid)
        self.change(
            name,
            lambda each: replace(each, domain=replace(each.domain, pages_by_node=left, memory_mib=mib, target_mib=mib)),
        )

    def rename(self, name: str, new: str) -> None:
        """`xl rename`."""
        resident = self.store.read().resident(name)
        if resident is not None and not name.endswith(INCOMING):
            self.ledger.renamed[name] = resident.domain.uuid
            self.change(name, lambda each: replace(each, domain=replace(each.domain, name=new)))

    def call_off(self) -> None:
        """Somebody calls the moves off that go on."""
        host = self.outside()
        for move in self.store.read().moves:
            if move.end is None:
                host.perform(EndMove(move.order.token))

    def driver(self, name: str, rate_mib_s: float, keeps: float) -> None:
        """A guest's balloon driver becomes slow, or stops answering."""
        self.change(name, lambda each: replace(each, balloon=BalloonDriver(rate_mib_s, keeps)))

    def outsider(self, name: str, memory: int) -> None:
        """`xl create`, which asks nobody what was promised."""
        host = self.outside()
        self.ledger.tainted = True
        try:
            host.perform(CreatePaused(name, config(name, memory)))
        except DomicileError:
            return
        resident = self.store.read().resident(name)
        assert resident is not None
        self.ledger.outsiders.add(resident.domain.uuid)
        host.perform(Unpause(name))

    def power_cut(self) -> None:
        """The machine goes off and on again: nothing is there but Dom0."""
        state = self.store.read()
        self.ledger.gone |= {each.domain.uuid for each in state.residents}
        self.ledger.rebooted = True
        dom0 = state.residents[:1]
        self.store.state = replace(state, residents=dom0, promises=(), holds=(), office=None, moves=())

    def change(self, name: str, change: Callable[[Resident], Resident]) -> None:
        """A domain becomes otherwise; one that is not there does not."""
        resident = self.store.read().resident(name)
        if resident is not None:
            with self.store.changing() as transaction:
                transaction.state = transaction.state.with_resident(change(resident))

    def _is_moved(self, resident: Resident, *ways: MoveWay) -> bool:
        going = [move.order for move in self.store.read().moves if move.end is None]
        return any(order.uuid == resident.domain.uuid and order.way in (ways or MoveWay) for order in going)


Act = Callable[[Player], None]


class LedgerJournal(StagedJournal):
    """A journal whose active intents the ledger hears of."""

    ledger: Ledger

    def advance(self, intent: int, status: IntentStatus, reason: str = "", seen: Seen | None = None) -> DomainIntent:
        done = super().advance(intent, status, reason, seen)
        if status is IntentStatus.ACTIVE:
            self.ledger.living.add(done.wanted.uuid)
        return done


def _the(snapshot: Snapshot, name: str) -> Domain:
    domain = snapshot.domain(name)
    if domain is None:
        raise Refused(f"{name}: is not there")
    return domain


def _whole_mib(pages: Mapping[int, int], mib: int) -> dict[int, int]:
    """The same, in whole MiB all together."""
    over = sum(pages.values()) - mib * PAGES_PER_MIB
    most = max(pages, key=lambda node: pages[node])
    return {node: count - (over if node == most else 0) for node, count in pages.items()}
