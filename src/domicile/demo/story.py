"""What the demonstration does: the same guests on two copies of one host, by Xen's own placement and by domicile's.

Then an administrator's slip is provoked on domicile's host, and `verify` finds it. Everything runs through the same
code as on a real Xen; only the host is simulated, in a folder of its own that is gone afterwards.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from domicile.demo.load import INTENT, guests
from domicile.errors import HostFailed
from domicile.hosts.actions import SetAffinity
from domicile.hosts.open import open_host
from domicile.hosts.protocol import Host
from domicile.local.paths import STATE_VARIABLE
from domicile.manager.create import create_domains
from domicile.manager.guests import ConfigText, ReadConfig, WriteConfig
from domicile.manager.journal import Journal
from domicile.manager.verify import Deviation, verify
from domicile.performance.forecast import slowdowns
from domicile.policies.plan import Placement
from domicile.policies.registry import policy
from domicile.state.model import MemoryMapAge, Snapshot
from domicile.state.request import Intent

__all__ = ["Chapter", "Story", "tell"]

URI = "sim:///default"


@dataclass(frozen=True, slots=True)
class Chapter:
    """The host after all guests were started by one policy: what was planned, what is, and how slow each will run."""

    policy: str
    snapshot: Snapshot
    placements: Mapping[str, Placement]
    slowdown: Mapping[str, float]

    @property
    def mean(self) -> float:
        """Mean predicted slowdown of the guests."""
        return sum(self.slowdown[name] for name in self.placements) / len(self.placements)

    @property
    def worst(self) -> float:
        """The worst predicted slowdown of a guest."""
        return max(self.slowdown[name] for name in self.placements)


@dataclass(frozen=True, slots=True)
class Story:
    """Xen's own placement, domicile's, and what `verify` found after somebody had interfered."""

    xen: Chapter
    domicile: Chapter
    deviations: tuple[Deviation, ...]


def tell(read: ReadConfig, write: WriteConfig, report: Callable[[str], None]) -> Story:
    """Run it all; `report` is told what is being done. Raises `HostFailed` if a guest does not start."""
    with _apart():
        report("starting the guests where Xen would put them")
        # one after the other: that is how `xl create` sees them
        xen = _chapter("libxl", [[guest] for guest in guests()], Intent(), read, write)
    with _apart():
        report("starting the same guests where domicile puts them")
        ours = _chapter("domicile", [guests()], INTENT, read, write)
        report("interfering, and verifying")
        found = _interfere()
    return Story(xen, ours, found)


@contextmanager
def _apart() -> Iterator[None]:
    """A state folder of our own, so that no host or journal of the user's is touched."""
    before = os.environ.get(STATE_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="domicile-demo-") as folder:
        os.environ[STATE_VARIABLE] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[STATE_VARIABLE]
            else:
                os.environ[STATE_VARIABLE] = before


def _chapter(
    name: str, batches: list[list[ConfigText]], intent: Intent, read: ReadConfig, write: WriteConfig
) -> Chapter:
    placements: dict[str, Placement] = {}
    with open_host(URI) as host:
        for batch in batches:
            outcomes = create_domains(host, batch, policy=partial(policy(name)), read=read, write=write, intent=intent)
            for outcome in outcomes:
                if outcome.error or outcome.placement is None:
                    raise HostFailed(f"the demonstration's guest {outcome.domain} was not started: {outcome.error}")
                placements[outcome.domain] = outcome.placement
        snapshot = host.snapshot(MemoryMapAge.NOW)
    return Chapter(name, snapshot, placements, slowdowns(snapshot))


def _interfere() -> tuple[Deviation, ...]:
    """Pin a vCPU of the database to node 0, as a hurried administrator might, and verify."""
    with open_host(URI) as host:
        host.perform(SetAffinity("database", 0, hard=frozenset(_cpus(host)), soft=frozenset(_cpus(host))))
        with Journal.for_host(host.snapshot().host_id) as journal:
            return verify(host, journal).deviations


def _cpus(host: Host) -> tuple[int, ...]:
    topology = host.snapshot().topology
    return topology.cpus_by_node[topology.node_ids[0]]
