"""The schedulers' state: tables of records, one for each pCPU, vCPU, run queue or domain, and vCPU x pCPU matrices.

P pCPUs, V vCPUs, N nodes, Q run queues, D domains; pCPUs are numbered from 0, run queue by run queue, nodes by their
row in the topology. Time is in ns, as float64. A table is one array of records and not an array for each field
since each array that a compiled function is handed is seven arguments to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from domicile.topology.run_queues import Arrangement

__all__ = [
    "CPU",
    "DOMAIN",
    "LINE",
    "MASK_BITS",
    "QUANTUM_NS",
    "QUEUE",
    "VCPU",
    "Bools",
    "Floats",
    "Ints",
    "Table",
    "affinities",
    "empty_table",
    "new_vcpus",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Table: TypeAlias = npt.NDArray[np.void]

CACHE_LINE = 64
QUANTUM_NS = 10_000_000
"""Length of a scheduling quantum; see the package."""


def _whole_lines(dtype: np.dtype[np.void]) -> np.dtype[np.void]:
    """The same record, so long that where one begins with a line of the cache all do."""
    names = list(dtype.names or ())
    return np.dtype(
        {
            "names": names,
            "formats": [dtype[name] for name in names],
            "offsets": [dtype.fields[name][1] for name in names] if dtype.fields else [],
            "itemsize": -(-dtype.itemsize // CACHE_LINE) * CACHE_LINE,
        },
        align=True,
    )


MASK_BITS = 62
"""Affinity within a run queue is a mask of bits in an int64, one for each of its pCPUs; Xen puts no more than 16 into
one, but for siblings."""

CPU = _whole_lines(
    np.dtype(
        [
            # what running a vCPU looks at is the first of two lines of the cache; indices without a sign, as Numba then
            # does not look whether they count from the end
            ("node", np.uint32),
            ("core", np.uint32),
            ("threads", np.int64),
            ("siblings", np.int64),
            ("busy_ns", np.float64),
            # of this quantum: up to where the pCPU's time is taken; how long all threads of the core are, at the first
            ("free_at", np.float64),
            ("core_busy", np.float64),
            ("place", np.int64),
            ("socket", np.int64),
            ("queue", np.int64),
            ("best", np.int64),
            ("planned_ns", np.float64),
            # room for counts and lists
            ("idle_cores", np.int64),
            ("first_able", np.int64),
            ("end_able", np.int64),
            ("listed", np.int64),
        ]
    )
)
"""A pCPU. `busy_ns` since last asked; `core`: the first of the pCPUs on its core, of which there are `threads`; sockets
are numbered from 0; `siblings`: those of its core and run queue, it among them, as a mask; `best`: who is to run there;
`planned_ns` of those who woke up there. `place`: its node's number among those with pCPUs. Not of this pCPU: the
`idle_cores` of the socket of this number (each of their threads counts); `lines[first_able:end_able]`, who can be
stolen from the place of this number; and room for a list of pCPUs, `listed`."""

VCPU = _whole_lines(
    np.dtype(
        [
            # a line of the cache: what it wants, and what it has; figures are no wider than they need be, but for times
            ("active", np.bool_),
            ("running", np.bool_),
            ("capped", np.bool_),
            ("closed", np.bool_),
            ("has_soft", np.bool_),
            ("until", np.uint32),
            ("weight", np.float32),
            ("pending_ns", np.float64),
            ("want_ns", np.float64),
            ("stretch", np.float64),
            ("credit", np.float64),
            ("load", np.float64),
            ("slice_ns", np.float64),
            # another: what is counted, and where it may run
            ("wanted_ns", np.float64),
            ("waited_ns", np.float64),
            ("core_ns", np.float64),
            ("here_ns", np.float64),
            ("may", np.int64),
            ("likes", np.int64),
            ("processor", np.int32),
            ("cpu", np.int32),
            ("moves", np.int32),
            ("domain", np.uint32),
            # a third: what wants a part of each quantum, what credit2 needs when it balances, and credit
            ("owed_ns", np.float32),
            ("due_ns", np.float32),
            ("since", np.int64),
            ("queue", np.int32),
            ("joined", np.int32),
            ("node_moves", np.int32),
            ("woken", np.bool_),
            ("parked", np.bool_),
            ("accounted", np.bool_),
            ("priority", np.int8),
        ],
        align=True,
    )
)
"""A vCPU.

What it may and wants: `has_soft` (soft affinity is a part of hard and not all of it), `active` (its domain runs),
`capped` (as its domain), `weight`, `pending_ns` of CPU, `stretch` (how much longer than at best a unit of work takes
now), what it is `owed_ns` of parts of quanta, and `due_ns`, how much that has to be before it wants one.
Scheduling: `credit` (ns; credits in credit), `queue` and as which it `joined` that, `may` and `likes` (the pCPUs there
of its hard affinity, and of its soft affinity if it has one: credit2's), `processor` (the pCPU it belongs to), `cpu`
(where it ran last, -1 before), `running` (up to the end of the last quantum), `woken` (wants to run after it did not),
`since` (the quantum from which on it waits), `load` (average share of time runnable), `priority`, `parked` and
`accounted` (credit's).
Since last asked: `core_ns`, time run as what it is worth with a core of its own (over `stretch`: work done),
`waited_ns`, `wanted_ns`, `moves` from pCPU to pCPU and `node_moves`.
In this quantum: `slice_ns`, how long it ran (on `cpu`, if at all).
Only while quanta pass: what its demand comes to, `want_ns` in each quantum before `until`, and whether it is `closed`;
`here_ns`, what `ran_ns` is to have for the node of `cpu`.
"""

LINE = np.dtype([("key", np.float64), ("vcpu", np.uint32), ("order", np.uint32), ("member", np.uint32)], align=True)
"""Room for lists of vCPUs (2 V, as there can be two at a time). `vcpu` with its `key`, and `order`: for the while.
Credit2's run queues have `[first:end]` of `member` to themselves: who is on them, as they joined."""

QUEUE = np.dtype(
    [
        ("load", np.float64),
        ("joins", np.int64),
        ("known", np.int64),
        ("bias", np.int64),
        ("first_cpu", np.int64),
        ("end_cpu", np.int64),
        ("first", np.int64),
        ("end", np.int64),
        ("due", np.bool_),
        ("listed", np.bool_),
        ("cores", np.float64),
        ("heaviest", np.float64),
        ("with_credit", np.int64),
        ("wishes", np.int64),
    ],
    align=True,
)
"""A run queue: `load` (average of runnable vCPUs), `joins` so far, and those `known` when its vCPUs were listed, `bias`
(the place of the pCPU picked last), its pCPUs from `first_cpu` to before `end_cpu`, its vCPUs `lines[first:end]`, as
far as `listed` (nobody has come or gone); `due`: its credit was reset, so it balances; how many `cores` it has; the
weight of its `heaviest` vCPU; how many have yet to run `with_credit` in this quantum. Credit's `wishes`: how many
vCPUs with credit wait elsewhere that have soft affinity for it."""

DOMAIN = np.dtype(
    [
        ("weight", np.float64),
        ("cap", np.float64),
        ("budget_ns", np.float64),
        ("active", np.int64),
        ("share", np.float64),
        ("balance", np.float64),
    ]
)
"""A domain: `cap` in pCPUs' worth, 0 for none; `budget_ns` left; credit's `active` vCPUs the `share` that each of
them gets, and the `balance` of their credit when it was given out last."""


def empty_table(rows: int, dtype: np.dtype[np.void]) -> Table:
    """A table of zeros that begins where a line of the cache does."""
    room = np.zeros(rows * dtype.itemsize + CACHE_LINE, dtype=np.uint8)
    begin = -room.ctypes.data % CACHE_LINE
    return room[begin : begin + rows * dtype.itemsize].view(dtype)


def new_vcpus(domain: Sequence[int], weight: Sequence[float], has_soft: Bools) -> Table:
    """vCPUs that are there but run nothing yet (V)."""
    vcpus = empty_table(len(domain), VCPU)
    vcpus["domain"] = domain
    vcpus["weight"] = weight
    vcpus["has_soft"] = has_soft
    vcpus["stretch"] = 1.0
    vcpus["queue"] = vcpus["cpu"] = -1
    return vcpus


def affinities(hard: Bools, soft: Bools, arrangement: Arrangement) -> tuple[Ints, Ints, Bools]:
    """From affinity over the topology's CPUs (V x P) to masks of the pCPUs of every run queue (V x Q): hard affinity,
    soft within hard; and who has soft affinity at all (V).

    Soft affinity counts where it has pCPUs in common with hard affinity and does not hold all of it
    (`has_soft_affinity`, xen/common/sched/private.h, 4.17). Raises ValueError where a vCPU may run nowhere.
    """
    if not hard.any(axis=1).all():
        raise ValueError("a vCPU has no pCPU that it may run on")
    both = hard & soft
    has_soft: Bools = np.logical_and(both.any(axis=1), (hard & ~soft).any(axis=1))
    return _masks(hard, arrangement), _masks(both, arrangement), has_soft


def _masks(allowed: Bools, arrangement: Arrangement) -> Ints:
    masks: Ints = np.zeros((len(allowed), arrangement.count), dtype=np.int64)
    place = np.zeros(arrangement.count, dtype=np.int64)
    for cpu, queue in enumerate(arrangement.queue):
        masks[:, queue] |= allowed[:, cpu].astype(np.int64) << place[queue]
        place[queue] += 1
    return masks
