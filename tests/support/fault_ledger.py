"""What must be so on a host whatever fails, checked at every change of it, and what must be so when all is settled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from domicile.hosts.actions import Action, StartMove
from domicile.hosts.simulated.moving import is_saved, is_second_copy
from domicile.hosts.simulated.state import Resident, SimulatedState
from domicile.manager.intents import ActStatus, IntentStatus, MoveIntent, MoveStatus
from domicile.manager.journal import Journal
from domicile.state.model import PAGES_PER_MIB
from domicile.state.moves import INCOMING, MoveEnd, MoveOrder, MoveState, MoveWay

__all__ = ["Ledger"]

ROUNDED_MIB = 2
"""Free memory is told in whole MiB, and what is outstanding is rounded up, node by node and promise by promise."""


class Ledger:
    """What has happened on a host, written down by who sees all of it."""

    def __init__(self) -> None:
        self.living: set[str] = set()
        """UUIDs of domains that somebody was told are started, or that the journal has as active."""
        self.gone: set[str] = set()
        """UUIDs of domains that somebody else destroyed."""
        self.whole: dict[str, int] = {}
        """By UUID, the pages that a domain has when nothing is moved."""
        self.changed_memory: set[str] = set()
        """UUIDs of domains whose memory somebody else changed."""
        self.changed_soft: set[tuple[str, int]] = set()
        """vCPUs whose soft affinity somebody else set."""
        self.paused: set[str] = set()
        """Those that somebody else has paused."""
        self.renamed: dict[str, str] = {}
        """By the name that it had before, the one that somebody else has renamed. The journal gives it up when another
        gets that name; a reservation that was made for it counts twice until it is released."""
        self.outsiders: set[str] = set()
        """Those that somebody else started."""
        self.tainted = False
        """Whether somebody took memory without asking whom it was promised to."""
        self.ends: dict[str, MoveState] = {}
        """By token, how a move ended on the host."""
        self.begun: set[str] = set()
        """Tokens of the moves that the host has begun."""
        self.handed_over: set[str] = set()
        """Tokens of reservations whose move has begun: it is the move's now."""
        self.after: dict[str, Mapping[int, int]] = {}
        """By token, where a domain's pages were when its move had ended."""
        self.rebooted = False

    def performed(self, action: Action) -> None:
        """An action was carried out."""
        if isinstance(action, StartMove):
            assert action.order.token not in self.begun, f"move {action.order.token} was begun twice"
            self.begun.add(action.order.token)

    def check(self, state: SimulatedState) -> None:
        """At every change of the host."""
        for node, pages in state.free_pages.items():
            assert pages >= 0, f"node {node} has {pages} free pages"
        self._check_domains(state)
        if not self.tainted:
            self._check_promises(state)
        for move in state.moves:
            if move.end is not None and move.order.token not in self.ends:
                self.ends[move.order.token] = move
                here = next((each for each in state.residents if _is_own(each, move.order)), None)
                self.after[move.order.token] = dict(here.domain.pages_by_node or {}) if here else {}

    def _check_domains(self, state: SimulatedState) -> None:
        own = [each for each in state.residents if not is_second_copy(state, each)]
        there = Counter(each.domain.uuid for each in own)
        doubled = [uuid for uuid, count in there.items() if count > 1]
        assert not doubled, f"{doubled} are there twice"
        saved = {move.order.uuid for move in state.moves if move.end is None and is_saved(state, move)}
        lost = {uuid for uuid in self.living - self.gone if uuid not in there and uuid not in saved}
        assert not lost, f"{lost} are lost"
        ballooned = {move.order.uuid for move in state.moves if move.end is None and move.order.way is MoveWay.BALLOON}
        for each in own:
            uuid = each.domain.uuid
            if each.domain.id == 0 or uuid in self.changed_memory:
                continue
            pages = sum((each.domain.pages_by_node or {}).values())
            whole = self.whole.setdefault(uuid, pages)
            short = pages != whole and uuid not in ballooned
            # a guest that does not answer keeps what it has; its target says what is still its own
            target = (each.domain.target_mib or 0) * PAGES_PER_MIB
            assert not short or (pages < whole and target == whole), f"{each.domain.name}: {pages} pages of {whole}"

    def _check_promises(self, state: SimulatedState) -> None:
        """Each node has what was promised there."""
        moving = {move.order.domain + INCOMING for move in state.moves}
        self.handed_over |= {each.reservation.token for each in state.promises if each.reservation.domain in moving}
        owed: Counter[int] = Counter()
        said = []
        for promise in state.promises:
            reservation = promise.reservation
            if reservation.token in self.handed_over:
                continue
            building = self._building(state, reservation.domain)
            part = _less(reservation.memory_mib, building)
            owed.update({node: math.floor(mib) for node, mib in part.items()})
            said.append(f"{reservation.domain}: {part}")
        for move in state.moves:
            if move.end is None:
                part = _owed(move, state)
                owed.update({node: math.floor(mib) for node, mib in part.items()})
                said.append(f"move of {move.order.domain} ({move.order.way}, {move.stage}): {part}")
        for node, pages in state.free_pages.items():
            free = pages // PAGES_PER_MIB
            assert free + ROUNDED_MIB >= owed[node], f"node {node}: {free} MiB free, {owed[node]} promised: {said}"

    def _building(self, state: SimulatedState, name: str) -> Resident | None:
        uuid = self.renamed.get(name)
        return state.resident(name) or next((each for each in state.residents if each.domain.uuid == uuid), None)

    def check_settled(self, state: SimulatedState, journal: Journal) -> None:
        """When a new manager has looked after everything: nothing is left over, and the journal says what is so."""
        assert not state.promises
        assert not state.holds
        assert state.office is None
        assert not state.moves, f"moves left: {state.moves}"
        assert not [each.domain.name for each in state.residents if each.domain.name.endswith(INCOMING)]
        assert not [each.domain.name for each in state.residents if each.owner is not None]
        for each in state.residents:
            assert not each.domain.paused or each.domain.uuid in self.paused, f"{each.domain.name} is paused"
        self._check_intents(state, journal)
        self._check_moves(journal)
        self._check_acts(state, journal)

    def _check_intents(self, state: SimulatedState, journal: Journal) -> None:
        assert not journal.pending()
        there = {each.domain.uuid: each for each in state.residents}
        active = {intent.wanted.uuid for intent in journal.intents() if intent.status is IntentStatus.ACTIVE}
        assert active - self.gone <= there.keys(), "what is active and was not destroyed is there"
        unknown = there.keys() - active - self.outsiders - {*self.renamed.values()} - {state.residents[0].domain.uuid}
        assert not unknown, f"{[there[uuid].domain.name for uuid in unknown]} run, and the journal does not know"
        lost = self.living - self.gone - there.keys()
        assert not lost, f"{lost} are lost"

    def _check_moves(self, journal: Journal) -> None:
        moves = journal.moves()
        undone: Counter[str] = Counter()
        for move in moves:
            assert not move.pending, f"{move.order.domain}: its move is {move.status}"
            end = self.ends.get(move.order.token)
            if self.rebooted:
                continue
            if move.order.token not in self.begun:
                never = {MoveStatus.FAILED, MoveStatus.LOST if move.order.uuid in self.gone else MoveStatus.FAILED}
                assert move.status in never, f"never begun, and {move.status}"
            elif end is not None:
                self._check_end(move, end)
            if move.status in {MoveStatus.MOVED, MoveStatus.PARTLY} and move.reason.startswith("plan "):
                undone[move.reason] += 1
        assert all(count == 1 for count in undone.values()), f"undone more than once: {undone}"
        assert self.begun <= {move.order.token for move in moves}, "begun, and not in the journal"

    def _check_end(self, move: MoveIntent, end: MoveState) -> None:
        """What the journal says of a move, against what the host did."""
        said = f"{move.order.domain}: the host says {end.end} ({end.why}), the journal {move.status} ({move.why})"
        if move.order.uuid in self.gone:
            assert move.status in set(MoveStatus) - {MoveStatus.PLANNED, MoveStatus.BEGUN}, said
        elif end.end is MoveEnd.MOVED:
            assert move.status in {MoveStatus.MOVED, MoveStatus.PARTLY, MoveStatus.UNDONE}, said
            if (
                not self.tainted
                and move.order.way is not MoveWay.BALLOON
                and move.order.uuid not in self.changed_memory
            ):
                elsewhere = {node for node, pages in self.after[move.order.token].items() if pages} - {
                    *move.order.nodes
                }
                assert not elsewhere, f"{move.order.domain}: moved to nodes {elsewhere}, where nobody promised it room"
        else:
            assert move.status is MoveStatus.FAILED, said

    def _check_acts(self, state: SimulatedState, journal: Journal) -> None:
        soft = {
            (each.domain.uuid, vcpu.id): vcpu.soft_affinity for each in state.residents for vcpu in each.domain.vcpus
        }
        # a live or saved domain gets its soft affinity with its new place, and no act says so
        moved = {
            move.order.uuid
            for move in journal.moves()
            if move.order.way is not MoveWay.BALLOON and move.order.token in self.begun
        }
        acts = journal.acts()
        last = {(act.uuid, act.vcpu): act for act in acts}
        for act in acts:
            assert act.status in {ActStatus.DONE, ActStatus.FAILED, ActStatus.UNDONE, ActStatus.LEFT}, f"{act}"
        for key, act in last.items():
            now = soft.get(key)
            if now is None or key in self.changed_soft or act.uuid in moved:
                continue
            if act.status is ActStatus.DONE:
                assert now == act.wanted, f"{act.domain}: {act} is done, and it has {now}"
            elif act.status is ActStatus.UNDONE:
                assert now == act.before, f"{act.domain}: {act} is undone, and it has {now}"
            else:
                assert now != act.wanted or act.wanted == act.before, f"{act.domain}: {act} and it has {now}"


def _owed(move: MoveState, state: SimulatedState) -> Mapping[int, float]:
    """By node, what a move has yet to take there, beyond what its domain gives back there."""
    order = move.order
    here = next((each for each in state.residents if _is_own(each, order)), None)
    if order.way is MoveWay.BALLOON:
        return _beyond(order, here)
    if order.way is MoveWay.SAVE and here is not None:
        return {node: mib - (here.pages_on(node) // PAGES_PER_MIB) for node, mib in _at_least(order, here).items()}
    # by UUID, as somebody may have renamed it: the one that came last
    copies = sorted((each for each in state.residents if each.domain.uuid == order.uuid), key=lambda one: one.domain.id)
    there = len(copies) > 1 or order.way is MoveWay.SAVE
    left = _less(order.after_mib, copies[-1] if copies and there else None)
    # what somebody took from the copy was not promised to it a second time
    most = max(sum(order.after_mib.values()) - move.taken_mib, 0)
    whole = sum(left.values())
    return {node: mib * most / whole for node, mib in left.items()} if whole > most else left


def _less(promised_mib: Mapping[int, int], taker: Resident | None) -> Mapping[int, float]:
    """By node, what is left of a promise beside what the one it was made for has there already."""
    return {
        node: max(mib - taker.pages_on(node) / PAGES_PER_MIB, 0.0) if taker else mib
        for node, mib in promised_mib.items()
    }


def _is_own(resident: Resident, order: MoveOrder) -> bool:
    """Whether it is the domain that is moved, and not its second copy."""
    return resident.domain.uuid == order.uuid and resident.domain.name != order.domain + INCOMING


def _at_least(order: MoveOrder, here: Resident) -> Mapping[int, int]:
    return {node: max(mib, here.pages_on(node) // PAGES_PER_MIB) for node, mib in order.after_mib.items()}


def _beyond(order: MoveOrder, here: Resident | None) -> Mapping[int, float]:
    """What a guest that is ballooned takes on its new nodes beyond what it has there now."""
    pages = (here.domain.pages_by_node or {}) if here else {}
    has = {node: count // PAGES_PER_MIB for node, count in pages.items()}
    return {node: max(order.after_mib.get(node, 0) - has.get(node, 0), 0) for node in order.nodes} if here else {}
