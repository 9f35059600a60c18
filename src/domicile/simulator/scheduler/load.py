"""Credit2's averages of load, and what they decide: the run queue that a vCPU belongs to.

Source: xen/common/sched/credit2.c, Xen 4.17. What is kept, by its function there:
- `csched2_res_pick`: a new vCPU goes to the run queue with the least average load of those with soft affinity, else
  of those with hard affinity.
- `update_runq_load`, `update_svc_load`: averages over about a second, in whole numbers, rounded as they are there.
- `balance_load`, `consider`, `migrate`: after a reset of credit, the run queue compares its average load with all
  others and, with the one that differs most, makes the one push, pull or swap that brings them closest. **It looks at
  hard affinity only.** The test whether the difference is worth it takes the load and size of the *last* run queue of
  the list, not of the one that differs most, as the code does.
Left out: try-locks that fail, and wake-ups that come between the balancer's looking and its locks.
"""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import inlined, part
from domicile.simulator.scheduler.common import in_circle, sort_down
from domicile.simulator.scheduler.state import QUANTUM_NS, Ints, Table

__all__ = ["LOAD_UNIT", "STARTING_LOAD", "averaged", "balance", "pick_queue", "put"]

LOAD_UNIT = 2.0**-18
"""Xen keeps averages of load as whole numbers of this (`LOADAVG_PRECISION_SHIFT_DEFAULT`)."""
WINDOW_BITS = 20
"""They are over 2^20 units of 1024 ns (`load_window_shift` 30, `LOADAVG_GRANULARITY_SHIFT` 10)."""
QUANTUM_UNITS = QUANTUM_NS >> 10
MIGRATION_UNITS = 50
"""How long a running vCPU counts as none when it changes its run queue, in units of 1024 ns (53 us in a trace of an
emulated machine; on hardware it takes less)."""
STARTING_LOAD = 0.5
"""What a vCPU is taken to be worth before it has run (`csched2_alloc_udata`): newcomers spread over run queues."""
BALANCE_UNDER = 1.0
"""Difference of load that is worth a move while there are more pCPUs than load (`credit2_balance_under` 0)."""
BALANCE_OVER = 0.125
"""The same where there are not (`credit2_balance_over` -3)."""


@inlined
def averaged(average: float, load: float, of: int, quantum: int) -> float:
    """An average of load a quantum later (`update_runq_load`, `update_svc_load`), in Xen's whole numbers.

    What comes in is rounded down, and what goes out: two vCPUs that always run are a load of exactly 2 some seconds
    later, and with that a run queue of two pCPUs is overloaded; and the load of a run queue differs from the sum of its
    vCPUs' by a few units. Both decide who moves. Xen brings an average up to date at uneven times; here that is twice
    in a quantum, the first time at a moment drawn for each average (`of`: its number).
    """
    if average == load:
        return average
    first = _scattered(quantum, of) % QUANTUM_UNITS
    units, target = int(average / LOAD_UNIT), int(load / LOAD_UNIT)
    for passed in (first, QUANTUM_UNITS - first):
        units += ((passed * target) >> WINDOW_BITS) - ((passed * units) >> WINDOW_BITS)
    return units * LOAD_UNIT


@inlined
def _scattered(number: int, of: int) -> int:
    """24 bits that look random: two numbers hashed (multiply and shift, as the last steps of MurmurHash3)."""
    mixed = (number * 0x9E3779B1 + of * 0x85EBCA6B) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    return (mixed ^ (mixed >> 12)) >> 8


@part
def put(vcpus: Table, queues: Table, hard: Ints, soft: Ints, vcpu: int, queue: int, allowed: int) -> None:
    """Assign a vCPU to a run queue, to the next of these pCPUs there, its load with it (`_runq_assign`, `migrate`)."""
    before = vcpus[vcpu].queue
    if before >= 0:
        queues[before].load = max(queues[before].load - vcpus[vcpu].load, 0.0)
        if vcpus[vcpu].running:
            vcpus[vcpu].load -= LOAD_UNIT * ((MIGRATION_UNITS * int(vcpus[vcpu].load / LOAD_UNIT)) >> WINDOW_BITS)
        queues[before].listed = False
    bit = in_circle(allowed, queues[queue].bias + 1)
    queues[queue].bias = bit
    vcpus[vcpu].processor = queues[queue].first_cpu + bit
    vcpus[vcpu].running = False
    vcpus[vcpu].queue = queue
    vcpus[vcpu].may = hard[vcpu, queue]
    vcpus[vcpu].likes = soft[vcpu, queue] if vcpus[vcpu].has_soft else hard[vcpu, queue]
    queues[queue].load += vcpus[vcpu].load
    queues[queue].listed = False
    queues[queue].joins += 1
    vcpus[vcpu].joined = queues[queue].joins


@part
def pick_queue(vcpus: Table, queues: Table, hard: Ints, soft: Ints, vcpu: int) -> tuple[int, int]:
    """The run queue for a vCPU, and the pCPUs there that it goes to (`csched2_res_pick`)."""
    best, best_soft = -1, -1
    least, least_soft = np.inf, np.inf
    for queue in range(len(queues)):
        if hard[vcpu, queue] == 0:
            continue
        load = queues[queue].load
        if queue == vcpus[vcpu].queue:
            load = max(load - vcpus[vcpu].load, 0.0)
        if vcpus[vcpu].has_soft and soft[vcpu, queue] != 0 and load < least_soft:
            best_soft, least_soft = queue, load
        if load < least:
            best, least = queue, load
    if best_soft >= 0:
        return best_soft, soft[vcpu, best_soft]
    return best, hard[vcpu, best]


@part
def _best_exchange(
    vcpus: Table, queues: Table, lines: Table, hard: Ints, local: int, other: int, delta: float
) -> tuple[int, int]:
    """Whom to push and whom to pull (-1: nobody) so that the two loads differ least; nobody if that is no less.

    Xen tries all pairs, in the order in which they joined, and keeps the first of those that are equally good. Here
    those to pull are sorted by load, and for each push the two loads next to the best are tried.
    """
    difference = queues[local].load - queues[other].load
    pulls = _to_pull(vcpus, queues, lines, hard, local, other)
    best_push, best_pull, least = -1, -1, delta
    for place in range(queues[local].first, queues[local].end):
        push = lines[place].member
        if vcpus[push].queue != local or hard[push, other] == 0:
            continue
        pushed = difference - 2.0 * vcpus[push].load
        pull, left = _best_pull(vcpus, lines, pulls, pushed)
        if pull >= 0 and left < least:
            best_push, best_pull, least = push, pull, left
        if abs(pushed) < least:
            best_push, best_pull, least = push, -1, abs(pushed)
    pull, left = _best_pull(vcpus, lines, pulls, difference)
    if pull >= 0 and left < least:
        best_push, best_pull = -1, pull
    return best_push, best_pull


@inlined
def _to_pull(vcpus: Table, queues: Table, lines: Table, hard: Ints, local: int, other: int) -> int:
    """List one vCPU for each load of those who may come from another run queue, the first to join, by falling load;
    how many they are."""
    count = 0
    for place in range(queues[other].first, queues[other].end):
        pull = lines[place].member
        if vcpus[pull].queue == other and hard[pull, local] != 0:
            lines[count].vcpu, lines[count].key = pull, vcpus[pull].load
            count += 1
    sort_down(lines, count)
    kinds = 0
    for index in range(count):
        vcpu = lines[index].vcpu
        if kinds > 0 and lines[kinds - 1].key == lines[index].key:
            if vcpus[vcpu].joined < vcpus[lines[kinds - 1].vcpu].joined:
                lines[kinds - 1].vcpu = vcpu
        else:
            lines[kinds].vcpu, lines[kinds].key = vcpu, lines[index].key
            kinds += 1
    return kinds


@inlined
def _best_pull(vcpus: Table, lines: Table, pulls: int, difference: float) -> tuple[int, float]:
    """Whom to pull so that least is left of a difference, the first to join of two (-1: nobody), and what is left."""
    at = _first_below(lines, pulls, -difference / 2.0)
    best, least = -1, np.inf
    for index in range(max(at - 1, 0), min(at + 1, pulls)):
        vcpu, left = lines[index].vcpu, abs(difference + 2.0 * lines[index].key)
        if left < least or (left == least and vcpus[vcpu].joined < vcpus[best].joined):
            best, least = vcpu, left
    return best, least


@inlined
def _first_below(lines: Table, count: int, load: float) -> int:
    """The first of the sorted list whose load is below this one."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if lines[middle].key >= load:
            low = middle + 1
        else:
            high = middle
    return low


@part
def balance(vcpus: Table, queues: Table, lines: Table, hard: Ints, soft: Ints, local: int) -> None:
    """Bring a run queue and the one whose load differs most from its own closer together (`balance_load`)."""
    count = len(queues)
    most, other, last = 0.0, -1, -1
    for queue in range(count):
        last = queue
        if queue != local and abs(queues[local].load - queues[queue].load) > most:
            most, other = abs(queues[local].load - queues[queue].load), queue
    if other < 0:
        return
    # Xen's loop leaves `orqd` at the list's last queue, and measures by that (4.17 to date)
    load = max(queues[local].load, queues[last].load)
    size = max(queues[local].end_cpu - queues[local].first_cpu, queues[last].end_cpu - queues[last].first_cpu)
    if most < (BALANCE_UNDER if load < size else BALANCE_OVER):
        return
    push, pull = _best_exchange(vcpus, queues, lines, hard, local, other, most)
    if push >= 0:
        put(vcpus, queues, hard, soft, push, other, hard[push, other])
    if pull >= 0:
        put(vcpus, queues, hard, soft, pull, local, hard[pull, local])
