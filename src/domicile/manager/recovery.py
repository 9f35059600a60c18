"""What became of what a process left undecided when it died: found out from the host, and brought to an end.

A domain carries the UUID that its intent names, so it is never taken for another of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from domicile.errors import DomicileError
from domicile.hosts.actions import Destroy
from domicile.hosts.protocol import Host
from domicile.local.process import is_alive
from domicile.manager.intents import DomainIntent, IntentStatus, Seen
from domicile.manager.journal import Journal
from domicile.state.model import Domain, Snapshot

__all__ = ["Fate", "Settled", "domain_with_uuid", "fate", "orphans", "seen_of", "settle"]


class Fate(StrEnum):
    """What the host shows of a pending intent."""

    NOT_STARTED = "not started"
    HALF_MADE = "half-made"
    """It is there, paused, and was never let run."""
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Settled:
    """A pending intent that was brought to an end. `error` tells why not: then it is tried again next time."""

    intent: DomainIntent
    fate: Fate
    error: DomicileError | None = None


def domain_with_uuid(snapshot: Snapshot, uuid: str, name: str = "") -> Domain | None:
    """The domain with this UUID. During a local migration two have it: then the one with the name."""
    found = [domain for domain in snapshot.domains if domain.uuid == uuid]
    return next((domain for domain in found if domain.name == name), found[0] if found else None)


def fate(intent: DomainIntent, snapshot: Snapshot) -> Fate:
    """What the host shows of it. A paused domain is half-made only if it has never run: else somebody paused it since.

    Before the intent was observed nobody has let it run; afterwards its CPU time tells.
    """
    domain = domain_with_uuid(snapshot, intent.wanted.uuid, intent.wanted.domain)
    if domain is None:
        return Fate.NOT_STARTED
    return Fate.HALF_MADE if domain.paused and (intent.seen is None or domain.time_ns == 0) else Fate.RUNNING


def seen_of(domain: Domain) -> Seen:
    """A domain as the journal keeps it."""
    return Seen(
        pages_by_node=domain.pages_by_node,
        hard_affinity={vcpu.id: vcpu.hard_affinity for vcpu in domain.vcpus},
        soft_affinity={vcpu.id: vcpu.soft_affinity for vcpu in domain.vcpus},
    )


def orphans(journal: Journal) -> tuple[DomainIntent, ...]:
    """Pending intents whose process is dead."""
    return tuple(intent for intent in journal.pending() if not is_alive(intent.owner))


def settle(host: Host, journal: Journal) -> list[Settled]:
    """Bring every orphan to an end. A half-made domain is destroyed: it was never let run, so nothing is lost.

    Costs one snapshot, and none where nothing is left. Raises `HostFailed` where the host does not show itself or the
    journal cannot be used.
    """
    left = orphans(journal)
    if not left:
        return []
    snapshot = host.snapshot()
    settled = []
    for orphan in left:
        claimed = journal.claim(orphan)
        if claimed is None:
            continue
        try:
            settled.append(_settle(host, journal, snapshot, claimed, f"{orphan.owner} ended"))
        finally:
            journal.abandon(claimed)
    return settled


def _settle(host: Host, journal: Journal, snapshot: Snapshot, intent: DomainIntent, died: str) -> Settled:
    """`died` says whose death left it."""
    found = fate(intent, snapshot)
    domain = domain_with_uuid(snapshot, intent.wanted.uuid, intent.wanted.domain)
    if domain is None or intent.status is IntentStatus.PLANNED:
        return Settled(journal.advance(intent.id, IntentStatus.FAILED, f"{died} before it was started"), found)
    if found is Fate.RUNNING:
        seen = intent.seen or seen_of(domain)
        return Settled(journal.advance(intent.id, IntentStatus.ACTIVE, f"{died} after it was started", seen), found)
    try:
        host.perform(Destroy(domain.name, domain.uuid))
    except DomicileError as error:
        return Settled(intent, found, error)
    reason = f"{died} while it was being made; what was there of it was destroyed"
    return Settled(journal.advance(intent.id, IntentStatus.FAILED, reason), found)
