"""What keeping equal pages once frees, and where their readers find them: expected values, in closed form.

A unit of content that k domains have is there k times. Which of a domain's pages it is, nobody knows: with p_i(n) the
share of domain i's memory that is on node n, its copy is there with that chance, independently of the others'.

- Among those who share on one node alone, a node keeps one copy if any of them has it there: 1 - prod(1 - p_i(n)).
- Among those who share anywhere, the copy of the first of them stays, where it is; with its chance on each node there
  is one already for those who share on one node alone.

The scanner goes through the content of one group after the other, from its first page on: what the largest domain alone
has is last. Writes end the sharing of a page, and give the writer one of its own. Which domain is first, and that all
copies are found, is as in Xen's mem_sharing (see `simulator.memory.sharing`, which follows every unit).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domicile.performance.curves import Floats
from domicile.state.request import SharingMode

__all__ = ["ONE_SCAN", "Scanner", "Shared", "shared"]


@dataclass(frozen=True, slots=True)
class Scanner:
    """How much content a second it looks at (20 MiB/s: Linux's ksmd as shipped), how much of what it shares a domain
    writes to (assumed), and for how long by then (None: until it has seen everything once)."""

    scan_mib_s: float = 20.0
    written_mib_s: float = 0.1
    after_s: float | None = None


ONE_SCAN = Scanner()


@dataclass(frozen=True, eq=False)
class Shared:
    """`freed` (N): MiB; `reads` (D x N): MiB that a domain reads elsewhere than before, rows add up to 0; `shares` (D):
    MiB of it that are not its own alone; `seconds`: the time that it takes, or was given."""

    freed: Floats
    reads: Floats
    shares: Floats
    seconds: float


def shared(
    pages: Floats, equal_mib: Floats, content: Sequence[str], modes: Sequence[SharingMode], scanner: Scanner
) -> Shared:
    """What sharing comes to. `pages`: D x N shares; `equal_mib` (D): how much each has of its `content` (D)."""
    units = np.floor(equal_mib)
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(content):
        if modes[row] is not SharingMode.OFF and units[row] > 0:
            groups.setdefault(name, []).append(row)
    whole_mib = sum(float(units[rows].max()) for rows in groups.values())
    seconds = scanner.after_s
    if seconds is None:
        seconds = whole_mib / scanner.scan_mib_s if scanner.scan_mib_s > 0 else 0.0
    freed, reads, shares = np.zeros(pages.shape[1]), np.zeros_like(pages), np.zeros(len(pages))
    left = scanner.scan_mib_s * seconds
    for rows in groups.values():
        seen = min(left, float(units[rows].max()))
        left -= seen
        _share(rows, np.minimum(units, seen), pages, modes, (freed, reads, shares))
    # a scan can take for ever
    kept = _kept(freed, shares, scanner.written_mib_s * seconds if scanner.written_mib_s else 0.0)
    return Shared(freed * kept, reads * kept, shares * kept, seconds)


def _share(
    rows: Sequence[int],
    units: Floats,
    pages: Floats,
    modes: Sequence[SharingMode],
    into: tuple[Floats, Floats, Floats],
) -> None:
    """Share the content of one group: piece by piece, between one domain's end of it and the next's."""
    freed, reads, shares = into
    before = 0.0
    for end in np.unique(units[rows]).tolist():
        length, before = end - before, end
        there = [row for row in rows if units[row] >= end]
        if len(there) < 2 or length <= 0:
            continue
        anywhere = [row for row in there if modes[row] is SharingMode.ANY_NODE]
        near = [row for row in there if modes[row] is SharingMode.SAME_NODE]
        keeps = 1.0 - np.prod(1.0 - pages[near], axis=0)
        if anywhere:
            first = pages[anywhere[0]]
            keeps = first + (1.0 - first) * keeps
            reads[anywhere] += length * (first - pages[anywhere])
        freed += length * (pages[there].sum(axis=0) - keeps)
        shares[there] += length


def _kept(freed: Floats, shares: Floats, written_mib: float) -> float:
    """The part of what was shared that still is, once every sharer has written to so much of its own."""
    saved = float(freed.sum())
    return 1.0 - min(float(np.minimum(shares, written_mib).sum()) / saved, 1.0) if saved > 0 else 0.0
