"""Page sharing on a simulated host: who has pages of equal content, what sharing them saves and where they are read.

`memory.sharing` does the sharing. Here it is said what is equal: of a domain's memory `equal_pages` is the same in
every domain of the same workload, as the kernel, libraries and programs of guests installed from one image are; a
larger guest has more of it. Which of its pages these are nobody knows: they are taken to be scattered over its memory
at random, and as hot as its others.

`equal_pages` is the scenario's to know: the studies (Gupta et al., "Difference Engine", OSDI 2008; Milos et al.,
"Satori", USENIX ATC 2009; both on Xen) find anything from little to most of the memory, by what the guests are.
Assumed: how fast a scanner in Dom0 goes, 20 MiB/s, which is Linux's ksmd as it is shipped (`ksm_thread_pages_to_scan`
and `ksm_thread_sleep_millisecs` in mm/ksm.c: 100 pages every 20 ms); how often shared pages are written to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from domicile.simulator.guests import GuestSpec
from domicile.simulator.ledger import Ledger
from domicile.simulator.memory.flow import apportion
from domicile.simulator.memory.heap import Heap, Pages
from domicile.simulator.memory.sharing import SHARED, Group, Sharing, SharingPolicy, SharingStep
from domicile.state.model import PAGES_PER_MIB
from domicile.state.request import SharingMode

__all__ = ["PageSharing", "SharedBy", "SharingOptions", "SharingRecord"]

UNIT_PAGES = PAGES_PER_MIB


@dataclass(frozen=True, slots=True)
class SharingOptions:
    """The policy of domains that have none of their own (None: they share nothing), how much content a second the
    scanner looks at, and how much of what it shares a domain writes to."""

    policy: SharingPolicy | None
    scan_mib_s: float = 20.0
    written_mib_s: float = 0.1


@dataclass(frozen=True, slots=True)
class SharedBy:
    """What one domain reads of shared pages; `elsewhere_mib` of it is on none of its own nodes (node-affinity)."""

    domain: str
    shared_mib: int
    elsewhere_mib: int


@dataclass(frozen=True, slots=True)
class SharingRecord:
    """What sharing comes to now: `frames_mib` are kept, `saved_mib` are free because of it. Since the start,
    `freed_mib` by it, `taken_mib` again by writes and moves, `refused_mib` that no page was there for."""

    policy: str
    frames_mib: int
    saved_mib: int
    freed_mib: int
    taken_mib: int
    refused_mib: int
    domains: tuple[SharedBy, ...]


@dataclass(slots=True)
class PageSharing:
    """The sharing of a host. Build it with `on`."""

    options: SharingOptions
    sharing: Sharing
    _groups: dict[str, Group] = field(default_factory=dict)
    _freed: int = 0
    _taken: int = 0
    _refused: int = 0

    @classmethod
    def on(cls, heap: Heap, options: SharingOptions) -> PageSharing:
        """Nothing shared yet."""
        scan, written = options.scan_mib_s * PAGES_PER_MIB, options.written_mib_s * PAGES_PER_MIB
        usual = options.policy or SharingPolicy.SAME_NODE  # without one, whoever shares has a policy of its own
        return cls(options, Sharing.on(heap, usual, scan, written, UNIT_PAGES))

    @property
    def busy(self) -> bool:
        """Whether there is anything to scan, or to write to."""
        return any(len(group.members) > 1 for group in self._groups.values())

    def come(self, ledger: Ledger, spec: GuestSpec) -> None:
        """A domain has its memory."""
        policy = self._policy_of(spec)
        nodes = self._scattered(ledger.own(spec.name), spec)
        if len(nodes) == 0 or policy is None:
            return
        self.sharing.policies[spec.name] = policy
        self.sharing.kept[spec.name] = ledger.overhead[spec.name]
        group = self._groups.get(spec.workload.name)
        if group is None:
            self._groups[spec.workload.name] = self.sharing.add_group({spec.name: nodes})
        else:
            group.join(spec.name, nodes)

    def go(self, ledger: Ledger, name: str) -> None:
        """A domain is about to be destroyed."""
        self.sharing.leave(name, ledger.heap)

    def keep(self, ledger: Ledger, name: str) -> SharingStep:
        """Give a domain pages of its own for all that it shares, as Xen does before it is migrated."""
        return self._count(self.sharing.unshare(name, ledger.heap))

    def moved(self, ledger: Ledger, spec: GuestSpec) -> None:
        """A domain's pages are elsewhere."""
        group = self._groups.get(spec.workload.name)
        if group is not None and spec.name in group.members:
            nodes = self._scattered(ledger.own(spec.name), spec)
            group.moved(spec.name, np.resize(nodes, group.node.shape[1]))

    def step(self, now_s: float, dt_s: float, ledger: Ledger) -> SharingStep:
        """Scan, and let what is written to be copied."""
        return self._count(self.sharing.step(now_s, dt_s, ledger.heap))

    def shared_pages(self, name: str, nodes: int) -> Pages:
        """The shared pages that a domain reads, by node (N)."""
        return self.sharing.shared_pages(name, nodes)

    def record(self, ledger: Ledger) -> SharingRecord:
        """What it comes to."""
        heap = ledger.heap
        domains = []
        for group in self._groups.values():
            for name in group.members:
                pages = self.sharing.shared_pages(name, heap.nodes)
                own = list(heap.affinity_of(name))
                away = int(pages.sum() - pages[own].sum())
                domains.append(SharedBy(name, int(pages.sum()) // PAGES_PER_MIB, away // PAGES_PER_MIB))
        frames = int(heap.pages_of(SHARED).sum()) // PAGES_PER_MIB
        return SharingRecord(
            str(self.options.policy or SharingMode.OFF),
            frames,
            sum(each.shared_mib for each in domains) - frames,
            self._freed // PAGES_PER_MIB,
            self._taken // PAGES_PER_MIB,
            self._refused // PAGES_PER_MIB,
            tuple(domains),
        )

    def _policy_of(self, spec: GuestSpec) -> SharingPolicy | None:
        """A domain's own policy, else the host's; None for none."""
        if spec.sharing is None:
            return self.options.policy
        return None if spec.sharing is SharingMode.OFF else SharingPolicy(spec.sharing)

    def _count(self, step: SharingStep) -> SharingStep:
        self._freed += step.freed_pages
        self._taken += step.taken_pages
        self._refused += step.refused_pages
        return step

    def _scattered(self, held: Pages, spec: GuestSpec) -> npt.NDArray[np.int16]:
        """The nodes of a domain's equal units, as its memory is spread, in an order of its own."""
        units = int(int(held.sum()) * spec.equal_pages) // UNIT_PAGES
        by_node = apportion(units, held)
        nodes = np.repeat(np.arange(len(held)), by_node).astype(np.int16)
        return np.random.default_rng([len(nodes), *spec.name.encode()]).permutation(nodes)
