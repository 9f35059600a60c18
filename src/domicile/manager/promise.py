"""Deciding and promising: a plan whose memory is reserved on the host before anything is started.

The host takes a reservation only from who has seen all the others, so two processes never promise the same memory: who
comes second looks again and decides again. Memory that is short only because others are being started may come free, so
it is waited for, within bounds.
"""

from __future__ import annotations

import os
import random
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from domicile.errors import DomicileError, NotEnoughMemory, Refused, ReservationConflict
from domicile.hosts.actions import Release, Reserve
from domicile.hosts.protocol import Host
from domicile.manager.guests import Guest, require_possible
from domicile.policies.plan import Placement, PlacementPlan
from domicile.state.model import Reservation, Snapshot
from domicile.state.request import GuestRequest, Intent

__all__ = ["Patience", "Policy", "Promise", "Promiser", "require_room"]

Policy = Callable[[Snapshot, Sequence[GuestRequest], Intent], PlacementPlan]
"""A placement policy. Raises `Refused` where it finds no place."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on. `tries`: how often others may be faster; `wait_s`: for memory promised to others.

    Between two tries a random time passes, up to `pause_s` at first and doubling to `longest_pause_s`.
    """

    tries: int = 60
    wait_s: float = 60.0
    pause_s: float = 0.1
    longest_pause_s: float = 2.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    chance: random.Random = field(default_factory=random.Random)

    def pause(self, attempt: int) -> None:
        """Let the others get on."""
        longest = min(self.pause_s * 2.0 ** min(attempt, 16), self.longest_pause_s)
        self.sleep(self.chance.uniform(longest / 2, longest))


@dataclass(frozen=True, slots=True)
class Promise:
    """Placements in the order of the guests, each with the token of its reservation, by the policy of this name."""

    snapshot: Snapshot
    placements: tuple[Placement, ...]
    tokens: tuple[str, ...]
    policy: str


def require_room(snapshot: Snapshot, placements: Iterable[Placement]) -> None:
    """Refuse placements that together need more of a node than is free there and promised to nobody."""
    placed = list(placements)
    need: Counter[int] = Counter()
    for placement in placed:
        need.update(placement.reserve_mib)
    for node, mib in sorted(need.items()):
        if node not in snapshot.topology.node_index:
            raise Refused(f"{placed[0].domain}: was placed on node {node}, which is not there")
        free = snapshot.available_mib(node)
        if mib > free:
            names = ", ".join(placement.domain for placement in placed if placement.reserve_mib.get(node))
            raise NotEnoughMemory(names, mib, free, node)


class Promiser:
    """Makes promises on one host and knows the tokens of those that it holds."""

    def __init__(
        self, host: Host, policy: Policy, intent: Intent, patience: Patience, waiting: Callable[[str, str], None]
    ) -> None:
        self._host = host
        self._policy = policy
        self._intent = intent
        self._patience = patience
        self._waiting = waiting
        self.held: list[str] = []

    def promise(self, guests: Sequence[Guest], first: Snapshot | None = None) -> Promise:
        """Decide where the guests go and reserve it. `first` spares a look at the host where one was just taken.

        Raises `Refused` where they do not fit, `ReservationConflict` where others were faster too often. Nothing is
        held for them afterwards then.
        """
        # who holds memory must not wait for others that may wait for it
        until = self._patience.clock() + (0.0 if self.held else self._patience.wait_s)
        conflict: ReservationConflict | None = None
        attempts = 0
        while attempts < self._patience.tries:
            snapshot = first or self._host.snapshot()
            first = None
            require_possible(snapshot, guests, self.held)
            try:
                plan = self._decide(snapshot, guests)
            except Refused as short:
                self._await_others(snapshot, guests, short, until)
                continue
            try:
                tokens = self._reserve(snapshot, guests, plan.placements)
            except ReservationConflict as error:
                conflict = error
                self._waiting(guests[0].name, "others were faster; looking again")
                self._patience.pause(attempts)
                attempts += 1
                continue
            return Promise(snapshot, plan.placements, tokens, plan.policy)
        raise ReservationConflict(f"{conflict}; gave up after {attempts} tries")

    def release(self, tokens: Iterable[str]) -> list[DomicileError]:
        """End promises, and say what went wrong: what cannot be released ends with the connection, and stays held."""
        errors: list[DomicileError] = []
        for token in list(tokens):
            try:
                self._host.perform(Release(token))
            except DomicileError as error:
                errors.append(error)
            else:
                if token in self.held:
                    self.held.remove(token)
        return errors

    def _decide(self, snapshot: Snapshot, guests: Sequence[Guest]) -> PlacementPlan:
        plan = self._policy(snapshot, [guest.request for guest in guests], self._intent)
        require_room(snapshot, plan.placements)
        return plan

    def _await_others(self, snapshot: Snapshot, guests: Sequence[Guest], short: Refused, until: float) -> None:
        """Wait a little if it is only for others' reservations that there is no room; else refuse."""
        others = [each for each in snapshot.reservations if each.token not in self.held]
        alone = replace(snapshot, reservations=tuple(each for each in snapshot.reservations if each not in others))
        if not others:
            raise short
        try:
            self._decide(alone, guests)
        except Refused:
            raise short from None
        under_way = ", ".join(f"{each.domain} ({each.owner})" for each in others)
        left = until - self._patience.clock()
        if left <= 0:
            raise Refused(f"{short}; waited for those being started: {under_way}") from short
        self._waiting(guests[0].name, f"waiting for memory promised to {under_way}")
        self._patience.sleep(min(self._patience.chance.uniform(0.5, 1.0) * self._patience.longest_pause_s, left))

    def _reserve(self, snapshot: Snapshot, guests: Sequence[Guest], placements: Sequence[Placement]) -> tuple[str, ...]:
        """Reserve all or nothing."""
        tokens: list[str] = []
        try:
            for index, (guest, placement) in enumerate(zip(guests, placements, strict=True)):
                if index:
                    snapshot = self._host.snapshot()
                    _require_still_room(snapshot, placements[index:])
                reservation = self._reservation(guest, placement)
                # known before it is made: an interrupt in between leaves nothing unreleased
                tokens.append(reservation.token)
                self.held.append(reservation.token)
                self._host.perform(Reserve(reservation, snapshot.reservations_generation))
        except BaseException as error:
            for failed in self.release(tokens):
                error.add_note(f"a reservation could not be released and ends with the connection: {failed}")
            raise
        return tuple(tokens)

    def _reservation(self, guest: Guest, placement: Placement) -> Reservation:
        return Reservation(
            token=str(uuid.uuid4()),
            domain=guest.name,
            memory_mib={node: mib for node, mib in placement.reserve_mib.items() if mib},
            vcpus=guest.request.vcpus,
            owner=f"pid {os.getpid()} on {socket.gethostname()}",
            created_at=time.time(),
        )


def _require_still_room(snapshot: Snapshot, placements: Sequence[Placement]) -> None:
    """Between two reservations others may have been at work: what was decided must still fit."""
    try:
        require_room(snapshot, placements)
    except Refused as error:
        raise ReservationConflict(f"{placements[0].domain}: others took its memory meanwhile") from error
