"""Virtual topologies that domains had before: a guest that is started again keeps the one that it knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from domicile.manager.guests import Guest
from domicile.manager.intents import DomainIntent, IntentStatus
from domicile.manager.journal import Journal
from domicile.state.model import Snapshot, Vnode

__all__ = ["recorded_vnodes", "with_journal", "with_recorded"]

STARTED = {IntentStatus.ACTIVE, IntentStatus.SUPERSEDED, IntentStatus.ACKNOWLEDGED}


def with_recorded(guests: Iterable[Guest], snapshot: Snapshot) -> list[Guest]:
    """The guests with what this host's journal knows of them; one that is not there yet is not made."""
    if not Journal.path_of(snapshot.host_id).exists():
        return list(guests)
    with Journal.for_host(snapshot.host_id) as journal:
        return with_journal(guests, journal)


def with_journal(guests: Iterable[Guest], journal: Journal) -> list[Guest]:
    """The guests with what the journal knows of them."""
    intents = journal.intents()
    return [
        replace(guest, request=replace(guest.request, recorded=recorded_vnodes(guest, intents))) for guest in guests
    ]


def recorded_vnodes(guest: Guest, intents: Iterable[DomainIntent]) -> tuple[Vnode, ...]:
    """The virtual topology that domicile gave a guest when it last started it; none if it gave it none then.

    A guest is known by its UUID where its configuration sets one, else by its name. What a configuration itself set is
    not remembered: it is in the configuration, or was taken out of it.
    """
    last: DomainIntent | None = None
    for intent in intents:
        known = intent.wanted.domain == guest.name if guest.uuid_is_ours else intent.wanted.uuid == guest.request.uuid
        if known and intent.status in STARTED:
            last = intent
    return last.wanted.vnodes if last is not None and last.wanted.vnodes_are_ours else ()
