"""Cold pages on a simulated host: what guests put into the pool, what they want back, and what that costs them.

`memory.coldpool` is the pool. Here a guest has `ColdUse`: it puts pages that it does not use, at a rate, until so much
of its memory is in the pool, and has their own memory taken back by Xen (as Linux' self-ballooning did with tmem); at
another rate it touches pages that it has put. Of what it puts, ephemeral pages are clean page cache, and a get that
misses reads from the disk; persistent ones are its swap.

Times that a get or put takes of its vCPUs' time, all assumed: a page is copied by one core with as many lines on the
way as streaming cores keep (`performance.assumptions`, lines_per_core), at the latency of the pool's node; the call
into Xen takes `CALL_S`; a miss waits `DISK_S` for an NVMe drive.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from domicile.errors import Refused
from domicile.performance.assumptions import DEFAULT
from domicile.performance.machine import Machine
from domicile.simulator.guests import ColdUse, GuestSpec
from domicile.simulator.ledger import Ledger
from domicile.simulator.memory.coldpool import POOL, ColdPool, Kind, PoolPolicy
from domicile.simulator.memory.flow import Flow
from domicile.simulator.memory.heap import Heap, Request
from domicile.state.model import PAGES_PER_MIB
from domicile.state.request import TieringMode
from domicile.topology.model import Topology

__all__ = ["POLICY_OF", "ColdPages", "PoolOptions", "PoolRecord", "PooledBy"]

CALL_S = 1e-6
DISK_S = 100e-6
LINES_PER_PAGE = 64

POLICY_OF = {TieringMode.OTHER_NODES: PoolPolicy.NOT_OWN, TieringMode.FAR_MEMORY: PoolPolicy.FAR}
"""What an administrator's word means for the pool."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """The policy of domains that have none of their own (None: they put nothing); nodes (rows) that are far memory;
    what it leaves free of every node."""

    policy: PoolPolicy | None
    far_nodes: tuple[int, ...] = ()
    spare_mib: int = 64


@dataclass(frozen=True, slots=True)
class PooledBy:
    """What a domain has in the pool now."""

    domain: str
    ephemeral_mib: int
    persistent_mib: int


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """The pool now (`mib_by_node`: by node id), and since the start what was put, refused (there was no room), got,
    missed (an ephemeral page that had been dropped) and dropped."""

    policy: str
    mib_by_node: dict[int, int]
    put_mib: int
    refused_mib: int
    got_mib: int
    missed_mib: int
    dropped_mib: int
    domains: tuple[PooledBy, ...]


@dataclass(slots=True)
class PoolStep:
    """What a step did: whose pages are elsewhere, by how many each domain's own have changed, the copying's traffic,
    and vCPU seconds that it took of each domain."""

    own: dict[str, int] = field(default_factory=dict)
    flows: tuple[Flow, ...] = ()
    lost_s: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class ColdPages:
    """The pool and its users. Build it with `on`.

    `_memory`: pages that a user was created with; `_out`: those that it has put and not touched again, which are in the
    pool unless they have been dropped.
    """

    options: PoolOptions
    pool: ColdPool
    _latency_ns: npt.NDArray[np.float64]
    _users: dict[str, ColdUse] = field(default_factory=dict)
    _policies: dict[str, PoolPolicy] = field(default_factory=dict)
    _memory: dict[str, int] = field(default_factory=dict)
    _out: dict[str, int] = field(default_factory=dict)
    _carry: dict[tuple[str, str], float] = field(default_factory=dict)

    @classmethod
    def on(cls, heap: Heap, topology: Topology, options: PoolOptions) -> ColdPages:
        """An empty pool. Raises `Refused` for far memory where none is named."""
        usual = options.policy or PoolPolicy.NOT_OWN  # without one, whoever uses it has a policy of its own
        pool = ColdPool.on(heap, usual, options.far_nodes, options.spare_mib * PAGES_PER_MIB)
        return cls(options, pool, Machine.of(topology).latency_ns)

    @property
    def busy(self) -> bool:
        """Whether anybody uses it."""
        return bool(self._users)

    def come(self, spec: GuestSpec) -> None:
        """A domain has its memory. Raises `Refused` if its pages are to go to far memory, and none is named."""
        policy = self.options.policy if spec.tiering is None else POLICY_OF.get(spec.tiering)
        if policy is PoolPolicy.FAR and not self.options.far_nodes:
            raise Refused(f"{spec.name}: cold pages can go to far memory only where nodes with far memory are named")
        if spec.cold is not None and policy is not None:
            self._users[spec.name] = spec.cold
            self._policies[spec.name] = policy
            self._memory[spec.name] = spec.memory_mib * PAGES_PER_MIB
            self._out[spec.name] = 0

    def go(self, heap: Heap, name: str) -> None:
        """A domain is destroyed: its pages in the pool are free."""
        self._policies.pop(name, None)
        if self._users.pop(name, None) is not None:
            self.pool.flush(heap, name)

    def make_room(self, heap: Heap, pages: int) -> bool:
        """Drop ephemeral pages because Xen is short of so many, as a last resort; whether there were any."""
        dropped = 0
        for node in range(heap.nodes):
            dropped += self.pool.make_room(heap, node, pages - dropped)
        return dropped > 0

    def pages_of(self, name: str) -> int:
        """What a domain has in the pool."""
        return self.pool.pages_of(name)

    def step(self, now_s: float, dt_s: float, ledger: Ledger, frozen: frozenset[str]) -> PoolStep:
        """Gets, then puts, of all domains but those that are `frozen` (being migrated)."""
        done = PoolStep()
        for name, cold in self._users.items():
            if name in frozen:
                continue
            before = int(ledger.heap.pages_of(name).sum())
            lost_s = self._get(ledger, name, cold, dt_s) + self._put(ledger, name, cold, dt_s)
            if lost_s:
                done.lost_s[name] = lost_s
            if change := int(ledger.heap.pages_of(name).sum()) - before:
                done.own[name] = change
        done.flows = self.pool.step(now_s, dt_s)
        return done

    def record(self, ledger: Ledger, ids: tuple[int, ...]) -> PoolRecord:
        """What it comes to."""
        stats = self.pool.stats
        by_node = ledger.heap.pages_of(POOL)
        return PoolRecord(
            str(self.options.policy or TieringMode.OFF),
            {ids[node]: int(by_node[node]) // PAGES_PER_MIB for node in np.flatnonzero(by_node)},
            stats.put // PAGES_PER_MIB,
            stats.refused // PAGES_PER_MIB,
            stats.got // PAGES_PER_MIB,
            stats.missed // PAGES_PER_MIB,
            stats.dropped // PAGES_PER_MIB,
            tuple(
                PooledBy(name, *(self.pool.pages_of(name, kind) // PAGES_PER_MIB for kind in Kind))
                for name in self._users
            ),
        )

    def _due(self, name: str, what: str, mib: float) -> int:
        """Whole pages that a rate comes to, what is left being kept for the next time."""
        owed = self._carry.get((name, what), 0.0) + mib * PAGES_PER_MIB
        self._carry[name, what] = owed - int(owed)
        return int(owed)

    def _copy_s(self, home: int, by_node: npt.NDArray[np.int64]) -> float:
        """Seconds that a core takes for a page between its node and the pool's nodes, mixed as they are."""
        total = int(by_node.sum())
        if not total:
            return 0.0
        latency = float((by_node * self._latency_ns[home]).sum()) / total
        return CALL_S + LINES_PER_PAGE * latency * 1e-9 / DEFAULT.lines_per_core

    def _get(self, ledger: Ledger, name: str, cold: ColdUse, dt_s: float) -> float:
        """Let the guest touch pages that it has put; vCPU seconds that it takes."""
        heap = ledger.heap
        home = int(np.argmax(heap.pages_of(name)))
        page_s = self._copy_s(home, self.pool.nodes_of(name, heap.nodes))
        lost_s = 0.0
        dropped = self._out[name] - self.pool.pages_of(name)
        for kind, share in _shares(cold):
            held = self.pool.pages_of(name, kind)
            gone = dropped if kind is Kind.EPHEMERAL else 0
            wanted = min(self._due(name, f"get {kind}", cold.get_mib_s * share * dt_s), held + gone)
            missed = wanted * gone // max(held + gone, 1)
            got = self.pool.get(name, home, wanted - missed, kind, heap)
            self.pool.stats.missed += missed
            if kind is Kind.PERSISTENT:
                self.pool.flush(heap, name, got, kind)
            self._take(ledger, name, got + missed)
            self._out[name] -= got + missed
            lost_s += got * page_s + missed * DISK_S
        return lost_s

    @staticmethod
    def _take(ledger: Ledger, name: str, pages: int) -> None:
        """New pages for a guest, by its node-affinity, as many as there are: without, it has less of a page cache."""
        by_node = np.zeros(ledger.heap.nodes, dtype=np.int64)
        for taken in ledger.heap.alloc_many(name, pages, Request()):
            by_node[taken.node] += taken.pages
        ledger.pages.put(ledger.pages.parts_of(ledger.rows[name])[0], by_node)

    def _put(self, ledger: Ledger, name: str, cold: ColdUse, dt_s: float) -> float:
        """Let the guest put what it does not use; vCPU seconds that it takes."""
        lost_s = 0.0
        left = self._due(name, "put", cold.put_mib_s * dt_s)
        for kind, share in ((Kind.EPHEMERAL, cold.ephemeral), (Kind.PERSISTENT, cold.persistent)):
            short = int(self._memory[name] * share) - self.pool.pages_of(name, kind)
            for part in ledger.pages.parts_of(ledger.rows[name]):
                wanted = max(min(short, left, int(ledger.pages.cold[part].sum())), 0)
                put, took_s = self._put_part(ledger, name, part, wanted, kind)
                short, left = short - put, left - put
                lost_s += took_s
                self._out[name] += put
        return lost_s

    def _put_part(self, ledger: Ledger, name: str, part: int, wanted: int, kind: Kind) -> tuple[int, float]:
        heap, pages = ledger.heap, ledger.pages
        before = pages.cold[part].copy()
        own = ledger.own(name)
        total, lost_s = 0, 0.0
        for node in np.flatnonzero(before).tolist():
            # cold pages of all nodes alike; what it only shares is not its own to give
            share = min(-(-wanted * int(before[node]) // int(before.sum())), wanted - total, int(own[node]))
            if share <= 0:
                continue
            put = self.pool.put(heap, name, node, heap.affinity_of(name), share, kind, self._policies[name])
            heap.give_back(name, node, put)
            pages.take_from(part, node, put)
            total += put
            lost_s += put * self._copy_s(node, self.pool.nodes_of(name, heap.nodes))
        return total, lost_s


def _shares(cold: ColdUse) -> tuple[tuple[Kind, float], ...]:
    """Each kind's part of what a guest puts; it touches them alike."""
    whole = max(cold.ephemeral + cold.persistent, 1e-9)
    return (Kind.EPHEMERAL, cold.ephemeral / whole), (Kind.PERSISTENT, cold.persistent / whole)
