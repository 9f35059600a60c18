"""Starting one domain whose memory is promised: paused, looked at, let run; or nothing of it left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from domicile.errors import DomicileError, HostFailed, Refused
from domicile.hosts.actions import CreatePaused, Destroy, SetAffinity, Unpause
from domicile.hosts.protocol import Host
from domicile.manager.guests import Guest
from domicile.manager.intents import DomainIntent, IntentStatus
from domicile.manager.journal import Journal
from domicile.manager.recovery import domain_with_uuid, seen_of
from domicile.manager.text import mib_by_node, pages_by_node
from domicile.manager.verify import memory_problem, soft_affinity_problem
from domicile.policies.plan import Placement
from domicile.state.model import PAGES_PER_MIB, Domain, MemoryMapAge, Snapshot
from domicile.topology.ids import format_ids

__all__ = ["MemoryElsewhere", "Progress", "Started", "Starter", "Step", "Unreachable", "silent"]

WHOLE_MAP = 0.90
"""A memory map with fewer of a domain's pages than this share does not show where it is."""


class Step(StrEnum):
    """What is being done for a domain."""

    PLANNING = "planning"
    WAITING = "waiting"
    CREATING = "creating"
    CHECKING = "checking"
    STARTING = "starting"
    DONE = "done"
    FAILED = "failed"


Progress = Callable[[str, Step, str], None]
"""Told of every step: domain, step, detail."""


def silent(domain: str, step: Step, detail: str) -> None:
    """A `Progress` that tells nobody."""
    del domain, step, detail


class MemoryElsewhere(Refused):
    """Xen gave a domain memory on other nodes than it was promised on."""


class Unreachable(HostFailed):
    """The host failed, and could not be asked what it left: there is no point in asking more of it."""


@dataclass(frozen=True, slots=True)
class Started:
    """A domain that runs. `pages_by_node` is where its memory was found, None where the host could not tell."""

    pages_by_node: Mapping[int, int] | None
    notes: tuple[str, ...]


class Starter:
    """Starts domains on one host, each step written down in its journal."""

    def __init__(self, host: Host, journal: Journal, progress: Progress) -> None:
        self._host = host
        self._journal = journal
        self._progress = progress

    def start(self, guest: Guest, text: str, placement: Placement, intent: DomainIntent) -> Started:
        """Start it from this text, which puts it where it was placed. Whatever is raised, an interrupt included,
        nothing of it is left.

        Raises `MemoryElsewhere`, `Refused` or `HostFailed`; `Unreachable` where what is left is not known: the host
        ends it with the connection, and the journal's next user finds out.
        """
        notes: list[str] = []
        try:
            self._journal.advance(intent.id, IntentStatus.CREATING)
            self._progress(guest.name, Step.CREATING, mib_by_node(placement.memory_mib))
            self._host.perform(CreatePaused(guest.name, text))
            self._progress(guest.name, Step.CHECKING, "")
            domain = self._checked(guest, placement, intent, notes)
            self._journal.observe(intent.id, seen_of(domain))
            self._progress(guest.name, Step.STARTING, "")
            self._unpause(guest, notes)
        except BaseException as error:
            self._undo(guest, intent, error)
            raise
        try:
            self._journal.advance(intent.id, IntentStatus.ACTIVE)
        except HostFailed as error:
            notes.append(f"it runs, but the journal does not know it yet ({error}); the next create writes it down")
        return Started(domain.pages_by_node, tuple(notes))

    def close_unstarted(self, intents: Sequence[DomainIntent], reason: str) -> None:
        """Write down that these were not started after all; those that were are left as they are."""
        known = {intent.id for intent in intents}
        for intent in self._journal.pending():
            if intent.id in known and intent.status is IntentStatus.PLANNED:
                self._journal.advance(intent.id, IntentStatus.FAILED, reason)

    def _checked(self, guest: Guest, placement: Placement, intent: DomainIntent, notes: list[str]) -> Domain:
        """The domain as it was made, its memory where it was promised and its soft affinity as placed."""
        snapshot, domain = self._find(guest, MemoryMapAge.NOW)
        pages = domain.pages_by_node or {}
        planned = sum(placement.memory_mib.values()) * PAGES_PER_MIB
        if sum(pages.values()) < WHOLE_MAP * planned:
            notes.append(
                f"where its memory is was not checked: the host's memory map has {sum(pages.values())} of its "
                f"{planned} pages; run `domicile verify` later"
            )
        elif memory_problem(placement.memory_mib, pages):
            raise MemoryElsewhere(
                f"{guest.name}: Xen put its memory elsewhere: {pages_by_node(pages)}, "
                f"not {mib_by_node(placement.memory_mib)}"
            )
        wrong = _wrong_affinity(snapshot, domain, placement)
        if not wrong:
            return domain
        # unlike memory, affinity can be put right
        self._journal.note("affinity-corrected", {"vcpus": sorted(wrong)}, intent)
        for vcpu, cpus in wrong.items():
            self._host.perform(SetAffinity(domain.name, vcpu, soft=cpus))
        snapshot, corrected = self._find(guest)
        if wrong := _wrong_affinity(snapshot, corrected, placement):
            raise HostFailed(f"{guest.name}: the soft affinity of vCPU {format_ids(wrong)} could not be set")
        return replace(corrected, pages_by_node=domain.pages_by_node)

    def _find(self, guest: Guest, memory_map: MemoryMapAge = MemoryMapAge.NONE) -> tuple[Snapshot, Domain]:
        snapshot = self._host.snapshot(memory_map)
        domain = domain_with_uuid(snapshot, guest.request.uuid, guest.name)
        if domain is None:
            raise HostFailed(f"{guest.name}: was made, and is not there any more; see the logs in Dom0's /var/log/xen")
        return snapshot, domain

    def _unpause(self, guest: Guest, notes: list[str]) -> None:
        try:
            self._host.perform(Unpause(guest.name))
        except HostFailed as error:
            # it may have been done and only the answer been lost
            _, domain = self._find(guest)
            if domain.paused:
                raise
            notes.append(f"it runs, although starting it gave an error: {error}")

    def _undo(self, guest: Guest, intent: DomainIntent, error: BaseException) -> None:
        """Leave nothing of it, and write down why. Only the domain with our UUID is touched."""
        try:
            snapshot = self._host.snapshot()
            domain = domain_with_uuid(snapshot, guest.request.uuid, guest.name)
            if domain is not None:
                self._host.perform(Destroy(domain.name, domain.uuid))
            self._journal.advance(intent.id, IntentStatus.FAILED, _reason(error))
        except DomicileError as failed:
            # even if this fails too: the intent of a process that ended counts as abandoned
            with suppress(DomicileError):
                self._journal.abandon(intent)
            what = (
                f"and undoing it failed ({failed}): what is left ends with the connection, the next create settles it"
            )
            if isinstance(error, DomicileError):
                raise Unreachable(f"{error}; {what}") from error
            error.add_note(what)


def _wrong_affinity(snapshot: Snapshot, domain: Domain, placement: Placement) -> dict[int, frozenset[int]]:
    """vCPU to the soft affinity that it was placed with, for those that have another."""
    if placement.soft_affinity is None:
        return {}
    online = frozenset(cpu.id for cpu in snapshot.topology.cpus)
    return soft_affinity_problem(placement.soft_affinity, domain, online)


def _reason(error: BaseException) -> str:
    """Why, for the journal."""
    return str(error) if isinstance(error, DomicileError) else f"interrupted ({type(error).__name__})"
