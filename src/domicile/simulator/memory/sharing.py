"""Pages of equal content kept once for several domains, anywhere or only within a node (roadmap item 6a).

Source: xen/arch/x86/mm/mem_sharing.c, Xen 4.17: a shared frame belongs to a pseudo-domain (`dom_cow`); the frame of the
first stays where it is, the others' are freed; a write gives the writer a page of its own, by its node-affinity; the
last one who still shares a frame gets it back as it is. Xen itself looks for no equal pages: a scanner in Dom0 does,
and no policy says on which node the one copy is. Here there are two: ANY_NODE is Xen's, SAME_NODE shares only among
those whose pages are on one node, and so makes nobody's accesses remote. A domain may have a policy of its own: one
with SAME_NODE shares only frames that are on the node of its own page, whoever else does; the others share one frame.

A `Group` is content that several domains have, in units of `unit_pages`; each unit of content is there once in each
member that has it. Units are followed one by one, in arrays members x units, so that what is shared, by whom and where
is exact. A member may `join` later; the scanner then begins anew.

In an engine: `step(now_s, dt_s, heap)` each epoch scans and breaks as many units as the rates come to, in a fixed
order. A step tells for each domain how the pages that are its own changed by node (`own`), and where those that it
reads are now instead (`reads`, to be passed to `DomainPages.shift`): what is shared counts for where its accesses go
and not for what it owns. A domain that is destroyed has to `leave` first; one that is moved is `unshare`d first, as Xen
does. `copy()` is a snapshot.
Left out: the scanner's CPU time and reads (charge `scan_pages_s`), and pages that become equal again later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from domicile.simulator.memory.heap import Heap, Pages, Request

__all__ = ["SHARED", "Group", "Sharing", "SharingPolicy", "SharingStep"]

SHARED = "Shared pages"
"""The heap's owner of shared frames (Xen's dom_cow)."""

PRIVATE = -1


class SharingPolicy(StrEnum):
    """Among whom content is shared."""

    ANY_NODE = "any-node"
    SAME_NODE = "same-node"


@dataclass(frozen=True, slots=True)
class SharingStep:
    """What a step did: pages freed by sharing, pages taken by writes, and by domain how its own pages changed (N) and
    how those that it reads, its own and shared, have moved (N, adds up to 0).

    `refused`: pages whose writer got none, as the host is full; it waits (Xen pauses it), and the unit stays shared.
    """

    freed_pages: int
    taken_pages: int
    refused_pages: int
    own: Mapping[str, Pages]
    reads: Mapping[str, Pages]


@dataclass(slots=True)
class _Changes:
    """By domain and node, while a step goes on."""

    nodes: int
    own: dict[str, Pages] = field(default_factory=dict)
    reads: dict[str, Pages] = field(default_factory=dict)

    def count(self, table: dict[str, Pages], domain: str, node: int, pages: int) -> None:
        """So many pages more of a domain on a node."""
        table.setdefault(domain, np.zeros(self.nodes, dtype=np.int64))[node] += pages


@dataclass(eq=False, slots=True)
class Group:
    """Content of U units that M domains have.

    `node` (M x U): where the frame is that a member reads; `frame` (M x U): PRIVATE, or a number of the frame. Who
    shares a unit has the same `frame` in it. `differs` (M x U): the member has other content there, as it has written
    to it or is too small to have it. `scanned` units have been seen by the scanner.
    """

    members: list[str]
    node: npt.NDArray[np.int16]
    frame: npt.NDArray[np.int16]
    differs: npt.NDArray[np.bool_]
    scanned: int = 0

    def copy(self) -> Group:
        """An independent copy."""
        return Group(self.members.copy(), self.node.copy(), self.frame.copy(), self.differs.copy(), self.scanned)

    def join(self, domain: str, nodes: npt.NDArray[np.int16]) -> None:
        """One more domain that has this content, its first len(nodes) units; the scanner begins anew."""
        units = max(self.node.shape[1], len(nodes))
        more = units - self.node.shape[1]
        own = units - len(nodes)
        self.members.append(domain)
        self.node = np.vstack([np.pad(self.node, ((0, 0), (0, more))), np.pad(nodes, (0, own))]).astype(np.int16)
        frame = np.pad(self.frame, ((0, 1), (0, more)), constant_values=PRIVATE)
        self.frame = frame.astype(np.int16)
        differs = np.pad(self.differs, ((0, 0), (0, more)), constant_values=True)
        self.differs = np.vstack([differs, np.arange(units) >= len(nodes)])
        self.scanned = 0

    def moved(self, domain: str, nodes: npt.NDArray[np.int16]) -> None:
        """What a member does not share is on these nodes now (U); the scanner begins anew."""
        row = self.members.index(domain)
        private = self.frame[row] == PRIVATE
        self.node[row, private] = nodes[private]
        self.scanned = 0


@dataclass(slots=True)
class Sharing:
    """All groups. `scan_pages_s`: pages of content looked at a second; a member writes to `broken_pages_s` of its
    shared pages a second, unless `writes` says else for it. `kept`: pages by node that a member has in the heap and
    that are no content (Xen's overhead for it). `policies`: of domains that have one of their own.
    """

    policy: SharingPolicy
    unit_pages: int
    scan_pages_s: float
    broken_pages_s: float
    writes: dict[str, float] = field(default_factory=dict)
    kept: dict[str, Pages] = field(default_factory=dict)
    policies: dict[str, SharingPolicy] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    _scan_carry: float = 0.0
    _write_carry: dict[str, float] = field(default_factory=dict)

    @classmethod
    def on(
        cls, heap: Heap, policy: SharingPolicy, scan_pages_s: float, broken_pages_s: float, unit_pages: int = 256
    ) -> Sharing:
        """Nothing shared yet, on a heap."""
        heap.add(SHARED)
        return cls(policy, unit_pages, scan_pages_s, broken_pages_s)

    def copy(self) -> Sharing:
        """An independent copy; the heap is copied apart."""
        groups = [group.copy() for group in self.groups]
        return replace(
            self,
            writes=self.writes.copy(),
            kept=self.kept.copy(),
            policies=self.policies.copy(),
            groups=groups,
            _write_carry=self._write_carry.copy(),
        )

    def add_group(self, nodes: Mapping[str, npt.NDArray[np.int16]]) -> Group:
        """Content that these domains have: for each, the nodes of its U units. Their pages are theirs in the heap."""
        rows = np.array(list(nodes.values()), dtype=np.int16).reshape(len(nodes), -1)
        group = Group(list(nodes), rows, np.full_like(rows, PRIVATE), np.zeros(rows.shape, dtype=np.bool_))
        self.groups.append(group)
        return group

    def shared_pages(self, domain: str, nodes: int) -> Pages:
        """The shared pages that a domain reads, by the node of the frame (N)."""
        counts = np.zeros(nodes, dtype=np.int64)
        for group, row in self._rows(domain):
            where = group.node[row][group.frame[row] != PRIVATE]
            counts += np.bincount(where, minlength=nodes) * self.unit_pages
        return counts

    def step(self, now_s: float, dt_s: float, heap: Heap) -> SharingStep:  # noqa: ARG002
        """Break what is written to, then share what the scanner finds."""
        changes = _Changes(heap.nodes)
        taken = refused = 0
        for domain in dict.fromkeys(name for group in self.groups for name in group.members):
            rate = self.writes.get(domain, self.broken_pages_s)
            owed = self._write_carry.get(domain, 0.0) + rate * dt_s / self.unit_pages
            got, not_got = self._break(domain, math.floor(owed), heap, changes, written=True)
            self._write_carry[domain] = owed - math.floor(owed)
            taken, refused = taken + got, refused + not_got
        owed = self._scan_carry + self.scan_pages_s * dt_s / self.unit_pages
        freed = self._scan(math.floor(owed), heap, changes)
        self._scan_carry = owed - math.floor(owed)
        return SharingStep(freed, taken, refused, changes.own, changes.reads)

    def unshare(self, domain: str, heap: Heap) -> SharingStep:
        """Give a domain pages of its own for all that it shares, as far as there are any."""
        changes = _Changes(heap.nodes)
        units = sum(group.node.shape[1] for group, _ in self._rows(domain))
        taken, refused = self._break(domain, units, heap, changes, written=False)
        return SharingStep(0, taken, refused, changes.own, changes.reads)

    def leave(self, domain: str, heap: Heap) -> None:
        """A domain is about to be destroyed: it reads no shared page any more, and what is its own is in the heap."""
        for group, row in list(self._rows(domain)):
            for unit in np.flatnonzero(group.frame[row] != PRIVATE):
                sharers = self._sharers(group, row, int(unit))
                group.frame[row, unit] = PRIVATE
                self._left_alone(group, int(unit), sharers[sharers != row], heap, _Changes(heap.nodes))
            group.members.pop(row)
            group.node = np.delete(group.node, row, axis=0)
            group.frame = np.delete(group.frame, row, axis=0)
            group.differs = np.delete(group.differs, row, axis=0)
            # frames are named by rows, and those behind have moved up by one; the name of who has gone is free again
            self._rename_frames(group)
        for table in (self._write_carry, self.writes, self.kept, self.policies):
            table.pop(domain, None)

    # -- within

    def _rows(self, domain: str) -> list[tuple[Group, int]]:
        return [(group, group.members.index(domain)) for group in self.groups if domain in group.members]

    @staticmethod
    def _sharers(group: Group, row: int, unit: int) -> npt.NDArray[np.intp]:
        return np.flatnonzero(group.frame[:, unit] == group.frame[row, unit])

    @staticmethod
    def _rename_frames(group: Group) -> None:
        """Let every frame be named by the first row that shares it."""
        for unit in np.flatnonzero((group.frame != PRIVATE).any(axis=0)):
            column = group.frame[:, unit]
            first: dict[int, int] = {}
            for row, name in enumerate(column.tolist()):
                if name != PRIVATE:
                    column[row] = first.setdefault(name, row)

    def _scan(self, units: int, heap: Heap, changes: _Changes) -> int:
        freed = 0
        for group in self.groups:
            part = min(units, group.node.shape[1] - group.scanned)
            for unit in range(group.scanned, group.scanned + part):
                freed += self._share(group, unit, heap, changes)
            group.scanned += part
            units -= part
        return freed

    def _share(self, group: Group, unit: int, heap: Heap, changes: _Changes) -> int:
        """Share one unit among those who share anywhere, then among the others of each node; but not with who has
        ballooned it away."""
        where, frame = group.node[:, unit], group.frame[:, unit]
        private = np.flatnonzero((frame == PRIVATE) & ~group.differs[:, unit])
        there = [row for row in private.tolist() if self._has(heap, group.members[row], int(where[row]))]
        rows = np.array(there, dtype=np.intp)
        shared = np.flatnonzero(frame != PRIVATE)
        free = self._anywhere(group, rows)
        freed = 0
        if free.any():
            # the frame of who shares anywhere, if there is one already; else any; else that of the first of them
            frames = np.concatenate([shared[self._anywhere(group, shared)], shared])
            node = int(where[frames[0]]) if len(frames) else int(where[rows[free][0]])
            mine = rows[free | (where[rows] == node)]
            if not len(frames):  # its page is the one that is kept
                mine = np.concatenate([rows[free][:1], mine[mine != rows[free][0]]])
            freed += self._merge(group, unit, mine, frames, heap, changes)
            rows, shared = np.setdiff1d(rows, mine), np.flatnonzero(frame != PRIVATE)
        for node in np.unique(where[rows]).tolist():
            freed += self._merge(group, unit, rows[where[rows] == node], shared[where[shared] == node], heap, changes)
        return freed

    def _anywhere(self, group: Group, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Which of these members share frames on any node."""
        policies = [self.policies.get(group.members[row], self.policy) for row in rows.tolist()]
        return np.array([policy is SharingPolicy.ANY_NODE for policy in policies], dtype=np.bool_)

    def _has(self, heap: Heap, domain: str, node: int) -> bool:
        """Whether a member still has a unit's worth of pages on a node."""
        kept = self.kept.get(domain)
        return int(heap.pages_of(domain)[node]) - (0 if kept is None else int(kept[node])) >= self.unit_pages

    def _merge(
        self,
        group: Group,
        unit: int,
        rows: npt.NDArray[np.intp],
        shared: npt.NDArray[np.intp],
        heap: Heap,
        changes: _Changes,
    ) -> int:
        """Let these members read the frame that others share already, or else that of the first of them."""
        if len(shared):
            node, name = int(group.node[shared[0], unit]), int(group.frame[shared[0], unit])
        elif len(rows) > 1:
            first, rows = int(rows[0]), rows[1:]
            node = int(group.node[first, unit])
            used = set(group.frame[:, unit].tolist())
            name = next(number for number in range(len(group.members)) if number not in used)
            heap.transfer(group.members[first], SHARED, node, self.unit_pages)
            changes.count(changes.own, group.members[first], node, -self.unit_pages)
            group.frame[first, unit] = name
        else:
            return 0
        for row in rows.tolist():
            home = int(group.node[row, unit])
            heap.give_back(group.members[row], home, self.unit_pages)
            changes.count(changes.own, group.members[row], home, -self.unit_pages)
            changes.count(changes.reads, group.members[row], home, -self.unit_pages)
            changes.count(changes.reads, group.members[row], node, self.unit_pages)
        group.node[rows, unit] = node
        group.frame[rows, unit] = name
        return len(rows) * self.unit_pages

    def _break(self, domain: str, units: int, heap: Heap, changes: _Changes, written: bool) -> tuple[int, int]:
        """End the sharing of so many units, the first ones first, as they are `written` to or the domain is to have
        them to itself. Returns pages taken and pages refused."""
        taken = refused = 0
        for group, row, unit in self._first_shared(domain, units):
            sharers = self._sharers(group, row, unit)
            got = heap.alloc_many(domain, self.unit_pages, Request())
            if sum(each.pages for each in got) < self.unit_pages:
                for each in got:
                    heap.free(domain, each.start, each.pages)
                refused += self.unit_pages
                continue
            nodes = {each.node: 0 for each in got}
            for each in got:
                nodes[each.node] += each.pages
                changes.count(changes.own, domain, each.node, each.pages)
                changes.count(changes.reads, domain, each.node, each.pages)
            changes.count(changes.reads, domain, int(group.node[row, unit]), -self.unit_pages)
            taken += self.unit_pages
            group.node[row, unit] = max(nodes, key=lambda node: nodes[node])
            group.frame[row, unit] = PRIVATE
            group.differs[row, unit] |= written
            self._left_alone(group, unit, sharers[sharers != row], heap, changes)
        return taken, refused

    def _first_shared(self, domain: str, units: int) -> list[tuple[Group, int, int]]:
        """Up to so many units that a domain shares."""
        found: list[tuple[Group, int, int]] = []
        for group, row in self._rows(domain) if units else ():
            shared = np.flatnonzero(group.frame[row] != PRIVATE)[: units - len(found)]
            found += [(group, row, int(unit)) for unit in shared]
        return found

    def _left_alone(
        self, group: Group, unit: int, sharers: npt.NDArray[np.intp], heap: Heap, changes: _Changes
    ) -> None:
        """Where only one still shares a frame it is his own again."""
        if len(sharers) == 1:
            row = int(sharers[0])
            node = int(group.node[row, unit])
            heap.transfer(SHARED, group.members[row], node, self.unit_pages)
            changes.count(changes.own, group.members[row], node, self.unit_pages)
            group.frame[row, unit] = PRIVATE
