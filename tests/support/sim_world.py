"""A simulated host with its journal, for the manager's tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sim_faults import Fault, FaultyHost
from sim_machines import config, place_into, read_guest
from sim_policy import emptiest

from domicile.hosts.protocol import Host
from domicile.hosts.simulated import SimulatedHost, open_simulated
from domicile.manager.create import Outcome, Step, create_domains
from domicile.manager.guests import ConfigText
from domicile.manager.intents import IntentStatus
from domicile.manager.journal import Journal
from domicile.manager.promise import Patience, Policy
from domicile.state.model import Domain, Snapshot
from domicile.state.request import GuestRequest

__all__ = ["HASTY", "World", "connect", "create", "read", "texts", "write"]

HASTY = Patience(wait_s=0.3, pause_s=0.01, longest_pause_s=0.05)
"""Waits as long as a test may."""


def read(text: ConfigText, snapshot: Snapshot) -> GuestRequest:
    return read_guest(text.text, text.source, snapshot.topology)


def write(text: ConfigText, *more: Any) -> str:
    return place_into(text.text, *more)


def texts(*names: str, **more: Any) -> list[ConfigText]:
    """One configuration for each name."""
    return [ConfigText(f"{name}.cfg", config(name, **more)) for name in names]


def connect() -> SimulatedHost:
    """Another connection to the host of the test."""
    return open_simulated("sim:///box", presets={}, read_guest=read_guest)


def create(host: Host, configs: Sequence[ConfigText], policy: Policy = emptiest, **more: Any) -> list[Outcome]:
    more.setdefault("patience", HASTY)
    return create_domains(host, configs, policy=policy, read=read, write=write, **more)


@dataclass
class World:
    """The host, its journal and what was reported."""

    host: SimulatedHost
    journal: Journal
    steps: list[tuple[str, Step]] = field(default_factory=list)

    def create(self, *names: str, policy: Policy = emptiest, fault: Fault | None = None, **more: Any) -> list[Outcome]:
        """Create guests of these names, through a line with faults if given."""
        host: Host = FaultyHost(self.host, fault) if fault else self.host
        return create(host, texts(*names, **more), policy, journal=self.journal, progress=self.progress)

    def progress(self, domain: str, step: Step, detail: str) -> None:
        self.steps.append((domain, step))

    def domain(self, name: str) -> Domain:
        domain = self.host.snapshot().domain(name)
        assert domain is not None
        return domain

    def names(self) -> set[str]:
        """The guests that are there."""
        return {domain.name for domain in self.host.snapshot().domains if domain.id}

    def statuses(self) -> list[tuple[str, IntentStatus]]:
        return [(intent.wanted.domain, intent.status) for intent in self.journal.intents()]

    def free_mib(self) -> list[int | None]:
        return [node.free_mib for node in self.host.snapshot().topology.nodes]

    def assert_nothing_left(self) -> None:
        """No reservation, nothing paused, nothing undecided."""
        snapshot = self.host.snapshot()
        assert snapshot.reservations == ()
        assert not [domain.name for domain in snapshot.domains if domain.paused]
        assert self.journal.pending() == ()
