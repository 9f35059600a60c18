"""Xen's credit2, in quanta.

Source: xen/common/sched/credit2.c, Xen 4.17. What is kept, by its function there:
- `burn_credits`, `reset_credit`: running costs credit, the less the more weight; when nobody who could run has credit
  left, all of the run queue get `CSCHED2_CREDIT_INIT` more, no more than a bit above that. A quantum can cost a light
  vCPU beside a heavy one more than Xen's slices of a millisecond would, so debt may grow to a quantum's cost (Xen cuts
  it at -10 ms), and a reset gives as many times the amount as bring the first above 0.
- `csched2_res_pick`: a new vCPU goes to the run queue with the least average load of those with soft affinity, else
  of those with hard affinity.
- `runq_tickle`, `runq_candidate`: who has the most credit runs first; on an idle pCPU within soft affinity, whole idle
  cores first, its last pCPU first among them; then within hard affinity; then wherever a pCPU gets free, its own if
  that is no more than `sched_credit2_migrate_resist` later. Who runs keeps its pCPU unless one with 0.5 ms more credit
  wants to run, or a pCPU of its soft affinity is idle and its own is not in that.
- `update_runq_load`, `balance_load`, `consider`, `migrate`: after a reset, the run queue compares its average load
  (over about a second) with all others and, with the one that differs most, makes the one push, pull or swap that
  brings them closest. **It looks at hard affinity only.** The test whether the difference is worth it takes the load
  and size of the *last* run queue of the list, not of the one that differs most, as the code does.
- caps: a budget for the domain every 10 ms.
Left out: rate limiting, the cost of a context switch, try-locks that fail, core scheduling.
"""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import inlined, part
from domicile.simulator.scheduler.common import account, before, entitled, run, sort_down
from domicile.simulator.scheduler.state import MASK_BITS, QUANTUM_NS, Floats, Ints, Table

__all__ = ["CREDIT_INIT", "STARTING_LOAD", "balance", "pick_queue", "put", "run_queue", "settle"]

CREDIT_INIT = 10e6
CARRYOVER_MAX = 0.5e6
MIGRATE_RESIST = 0.5e6
LOAD_WINDOW_NS = float(1 << 30)
STARTING_LOAD = 0.5
"""What a vCPU is taken to be worth before it has run (`csched2_alloc_udata`): newcomers spread over run queues."""
BALANCE_UNDER = 1.0
"""Difference of load that is worth a move while there are more pCPUs than load (`credit2_balance_under` 0)."""
BALANCE_OVER = 0.125
"""The same where there are not (`credit2_balance_over` -3)."""


@inlined
def in_circle(mask: int, start: int) -> int:
    """The first bit of a mask from this one on, in a circle over all; -1 for an empty mask."""
    if mask == 0:
        return -1
    bit = start
    while not (mask >> bit) & 1:
        bit = bit + 1 if bit < MASK_BITS - 1 and mask >> (bit + 1) else 0
    return bit


@part
def put(vcpus: Table, queues: Table, hard: Ints, soft: Ints, vcpu: int, queue: int, allowed: int) -> None:
    """Assign a vCPU to a run queue, to the next of these pCPUs there, its load with it (`_runq_assign`, `migrate`)."""
    before = vcpus[vcpu].queue
    if before >= 0:
        queues[before].load = max(queues[before].load - vcpus[vcpu].load, 0.0)
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
def run_queue(vcpus: Table, doms: Table, queues: Table, cpus: Table, lines: Table, ran_ns: Floats, queue: int) -> None:
    """One quantum of one run queue: who runs where; then `settle`. `due` if credit was reset."""
    first, count = queues[queue].first_cpu, queues[queue].end_cpu - queues[queue].first_cpu
    runnable = _line_up(vcpus, doms, queues, lines, queue)
    ahead, here = min(runnable, count), queues[queue].first
    queues[queue].idle = queues[queue].whole = queues[queue].free = (1 << count) - 1
    # who runs on, then who gets an idle pCPU; the others stay at the head of `lines`
    waiting = 0
    for index in range(ahead):
        vcpu = lines[here + index].order
        own = vcpus[vcpu].processor - first
        if vcpus[vcpu].running and _stays(own, vcpus[vcpu].may, vcpus[vcpu].likes, queues[queue].idle):
            _go(vcpus, doms, queues, cpus, lines, ran_ns, queue, vcpu, first + own)
        else:
            lines[waiting].vcpu = vcpu
            waiting += 1
    left_over = 0
    for index in range(waiting):
        vcpu = lines[index].vcpu
        own = vcpus[vcpu].processor - first
        bit = _idle(own, vcpus[vcpu].may, vcpus[vcpu].likes, queues[queue].idle, queues[queue].whole)
        if bit >= 0:
            _go(vcpus, doms, queues, cpus, lines, ran_ns, queue, vcpu, first + bit)
        else:
            lines[left_over].vcpu = vcpu
            left_over += 1
    # who follows when another is done
    left = _list_free(cpus, first, count, queues[queue].free)
    for index in range(left_over + runnable - ahead):
        if left == 0:
            break
        vcpu = lines[index].vcpu if index < left_over else lines[here + ahead + index - left_over].order
        bit = _soonest(cpus, first, left, vcpus[vcpu].processor - first, vcpus[vcpu].may)
        if bit >= 0:
            _go(vcpus, doms, queues, cpus, lines, ran_ns, queue, vcpu, first + bit)
            left = _list_later(cpus, first, left, bit)


@inlined
def _go(
    vcpus: Table,
    doms: Table,
    queues: Table,
    cpus: Table,
    lines: Table,
    ran_ns: Floats,
    queue: int,
    vcpu: int,
    cpu: int,
) -> None:
    """Run a vCPU, unless others of its domain have spent the budget; where nobody with credit is left to run, all get
    new credit first."""
    may = entitled(vcpus, doms, vcpu) > 0.0
    if vcpus[vcpu].credit > 0.0:
        queues[queue].with_credit -= 1
    elif may and queues[queue].with_credit == 0 and not queues[queue].due:
        _reset(vcpus, lines, queues[queue].first, queues[queue].end, vcpus[vcpu].credit)
        queues[queue].due = True
    if may:
        run(vcpus, cpus, doms, ran_ns, vcpu, cpu)
        bit = cpu - queues[queue].first_cpu
        queues[queue].idle &= ~(1 << bit)
        queues[queue].whole &= ~cpus[cpu].siblings
        if cpus[cpu].free_at >= QUANTUM_NS:
            queues[queue].free &= ~(1 << bit)


@inlined
def _stays(own: int, may: int, likes: int, idle: int) -> bool:
    """Whether a running vCPU goes on where it is: nobody took it, and it need not go home (`soft_aff_preempt`)."""
    here = 1 << own
    return (idle & may & here) != 0 and ((likes & here) != 0 or (likes & idle) == 0)


@inlined
def _idle(own: int, may: int, likes: int, idle: int, whole: int) -> int:
    """An idle pCPU: of soft affinity, else of hard; a whole idle core's, else any; its own, else the next; else -1."""
    some = whole & likes or idle & likes or whole & may or idle & may
    return in_circle(some, own)


@inlined
def _list_free(cpus: Table, first: int, count: int, free: int) -> int:
    """List the pCPUs of a mask, those that are free first before others, then by number; how many they are."""
    left = 0
    for bit in range(count):
        if (free >> bit) & 1:
            at, free_at = left, cpus[first + bit].free_at
            while at > 0 and cpus[first + cpus[first + at - 1].listed].free_at > free_at:
                cpus[first + at].listed = cpus[first + at - 1].listed
                at -= 1
            cpus[first + at].listed = bit
            left += 1
    return left


@inlined
def _list_later(cpus: Table, first: int, left: int, bit: int) -> int:
    """A listed pCPU has been given more to do: to its new place with it, or off the list; how many are left."""
    free_at = cpus[first + bit].free_at
    full = free_at >= QUANTUM_NS
    at = 0
    while cpus[first + at].listed != bit:
        at += 1
    while at < left - 1:
        after = cpus[first + at + 1].listed
        sooner = cpus[first + after].free_at < free_at or (cpus[first + after].free_at == free_at and after < bit)
        if not full and not sooner:
            break
        cpus[first + at].listed = after
        at += 1
    cpus[first + at].listed = bit
    return left - 1 if full else left


@inlined
def _soonest(cpus: Table, first: int, left: int, own: int, may: int) -> int:
    """The first listed pCPU that a vCPU may run on, its own one if that is free and hardly later; -1 for none."""
    best = -1
    for place in range(left):
        bit = cpus[first + place].listed
        if (may >> bit) & 1:
            best = bit
            break
    if best >= 0 and best != own and (may >> own) & 1 and cpus[first + own].free_at < QUANTUM_NS:
        at, own_at = cpus[first + best].free_at, cpus[first + own].free_at - MIGRATE_RESIST
        if own_at < at or (own_at == at and own < best):
            best = own
    return best


@part
def _reset(vcpus: Table, lines: Table, first: int, end: int, top: float) -> None:
    """Give everybody of a run queue what brings the first above 0 again, clipped (`reset_credit`)."""
    more = CREDIT_INIT * (np.floor(-top / CREDIT_INIT) + 1.0)
    for index in range(first, end):
        vcpu = lines[index].member
        vcpus[vcpu].credit = min(vcpus[vcpu].credit + more, CREDIT_INIT + CARRYOVER_MAX)


@inlined
def _line_up(vcpus: Table, doms: Table, queues: Table, lines: Table, queue: int) -> int:
    """Put those who want to run first in `order`, most credit first; how many they are.

    Running costs all about the same, so those who run and those who wait are each in order already, nearly: each are
    sorted by insertion, from last quantum's order on, and then merged.
    """
    first, half = queues[queue].first, len(vcpus)
    runnable, running, with_credit, heaviest = 0, 0, 0, 1.0
    for index in range(first, queues[queue].end):
        vcpu = lines[index].order
        heaviest = max(heaviest, vcpus[vcpu].weight)
        if entitled(vcpus, doms, vcpu) > 0.0:
            credit = vcpus[vcpu].credit
            with_credit += credit > 0.0
            lines[index].order = lines[first + runnable].order
            lines[first + runnable].order = vcpu
            runs = vcpus[vcpu].running
            _insert(lines, half if runs else 0, running if runs else runnable - running, vcpu, credit, runs)
            running += runs
            runnable += 1
    _merge(lines, 0, runnable - running, half, running, first)
    queues[queue].heaviest = heaviest
    queues[queue].with_credit = with_credit
    queues[queue].due = False
    return runnable


@inlined
def _insert(lines: Table, base: int, count: int, vcpu: int, credit: float, running: bool) -> None:
    """Insert a vCPU into the sorted list of so many from `base` on."""
    key = credit + (MIGRATE_RESIST if running else 0.0)
    at = base + count
    while at > base and before(key, vcpu, lines[at - 1].key, lines[at - 1].vcpu):
        lines[at].vcpu, lines[at].key = lines[at - 1].vcpu, lines[at - 1].key
        at -= 1
    lines[at].vcpu, lines[at].key = vcpu, key


@inlined
def _merge(lines: Table, one: int, ones: int, other: int, others: int, target: int) -> None:
    """Merge two sorted lists, which begin at `one` and `other`, into `order` from `target` on."""
    end, other_end = one + ones, other + others
    while one < end and other < other_end:
        first = before(lines[one].key, lines[one].vcpu, lines[other].key, lines[other].vcpu)
        lines[target].order = lines[one].vcpu if first else lines[other].vcpu
        one += first
        other += not first
        target += 1
    for index in range(one, end):
        lines[target].order = lines[index].vcpu
        target += 1
    for index in range(other, other_end):
        lines[target].order = lines[index].vcpu
        target += 1


@part
def settle(vcpus: Table, doms: Table, queues: Table, cpus: Table, lines: Table, queue: int, smt_loss: float) -> None:
    """After a quantum: work done, what running has cost, who waits, who is still running, and the average loads
    (`burn_credits`, `update_load`). The heaviest of the run queue pays a credit for a nanosecond, others more."""
    share = QUANTUM_NS / LOAD_WINDOW_NS
    heaviest = queues[queue].heaviest
    load = 0.0
    for index in range(queues[queue].first, queues[queue].end):
        vcpu = lines[index].member
        ns = vcpus[vcpu].slice_ns
        runnable = ns / QUANTUM_NS
        if vcpus[vcpu].pending_ns > 0.0:
            vcpus[vcpu].waited_ns += min(vcpus[vcpu].pending_ns, QUANTUM_NS - ns)
            if entitled(vcpus, doms, vcpu) > 0.0:
                runnable = 1.0
        if ns > 0.0:
            account(vcpus, cpus, vcpu, smt_loss)
            rate = heaviest / vcpus[vcpu].weight
            vcpus[vcpu].credit = max(vcpus[vcpu].credit - ns * rate, -CREDIT_INIT * rate)
        else:
            vcpus[vcpu].running = False
        vcpus[vcpu].load += share * (runnable - vcpus[vcpu].load)
        load += runnable
    queues[queue].load += share * (load - queues[queue].load)


@part
def _best_exchange(
    vcpus: Table, queues: Table, lines: Table, hard: Ints, local: int, other: int, delta: float
) -> tuple[int, int]:
    """Whom to push and whom to pull (-1: nobody) so that the two loads differ least; nobody if that is no less.

    Xen tries all pairs; here those to pull are sorted by load, and for each push the two next to the best are tried.
    """
    difference = queues[local].load - queues[other].load
    pulls = _to_pull(vcpus, queues, lines, hard, local, other)
    best_push, best_pull, least = -1, -1, delta
    for index in range(pulls):
        left = abs(difference + 2.0 * lines[index].key)
        if left < least:
            best_pull, least = lines[index].vcpu, left
    for place in range(queues[local].first, queues[local].end):
        push = lines[place].member
        if vcpus[push].queue != local or hard[push, other] == 0:
            continue
        pushed = difference - 2.0 * vcpus[push].load
        if abs(pushed) < least:
            best_push, best_pull, least = push, -1, abs(pushed)
        at = _first_below(lines, pulls, -pushed / 2.0)
        for index in range(max(at - 1, 0), min(at + 1, pulls)):
            left = abs(pushed + 2.0 * lines[index].key)
            if left < least:
                best_push, best_pull, least = push, lines[index].vcpu, left
    return best_push, best_pull


@inlined
def _to_pull(vcpus: Table, queues: Table, lines: Table, hard: Ints, local: int, other: int) -> int:
    """List who may come from another run queue, by falling load; how many they are."""
    count = 0
    for place in range(queues[other].first, queues[other].end):
        pull = lines[place].member
        if vcpus[pull].queue == other and hard[pull, local] != 0:
            lines[count].vcpu, lines[count].key = pull, vcpus[pull].load
            count += 1
    sort_down(lines, count)
    return count


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
