"""Xen's credit2, in quanta.

Source: xen/common/sched/credit2.c, Xen 4.17. What is kept, by its function there:
- `burn_credits`, `reset_credit`: running costs credit, the less the more weight; when nobody who could run has credit
  left, all of the run queue get `CSCHED2_CREDIT_INIT` more, no more than a bit above that. A quantum can cost a light
  vCPU beside a heavy one more than Xen's slices of a millisecond would, so debt may grow to a quantum's cost (Xen cuts
  it at -10 ms); who is further below than a reset gives gets as many times more (Xen's `m`).
- `runq_tickle`, `runq_candidate`: who has the most credit runs first; on an idle pCPU within soft affinity, whole idle
  cores first, its last pCPU first among them; then within hard affinity; where none is idle, in the place of who runs
  there with the least credit; then wherever a pCPU gets free, its own if that is no more than
  `sched_credit2_migrate_resist` later. Who runs keeps its pCPU unless one with 0.5 ms more credit wants to run, or a
  pCPU of its soft affinity is idle and its own is not in that. Of the same credit, which many come to by a reset, each
  is first in turn.
- caps: a budget for the domain every 10 ms.
Which run queue a vCPU belongs to is in `load`. Left out: rate limiting, the cost of a context switch, core scheduling.
"""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import inlined, part
from domicile.simulator.scheduler.common import account, entitled, in_circle, lowest, run
from domicile.simulator.scheduler.demand import arrive
from domicile.simulator.scheduler.load import averaged
from domicile.simulator.scheduler.state import QUANTUM_NS, Floats, Ints, Table

__all__ = ["CREDIT_INIT", "run_queue", "settle"]

CREDIT_INIT = 10e6
CARRYOVER_MAX = 0.5e6
MIGRATE_RESIST = 0.5e6

RANKED_AT_ONCE = 16
"""Keys are filled up to a multiple of this, so that a CPU can compare them several at once without a rest."""
NO_KEY = -(1 << 63)


@inlined
def run_queue(
    vcpus: Table,
    doms: Table,
    queues: Table,
    cpus: Table,
    lines: Table,
    keys: Ints,
    demands: Table,
    steps: Table,
    ran_ns: Floats,
    queue: int,
    now: int,
) -> None:
    """One quantum of one run queue: who wants what, who runs where; then `settle`. `due` if credit was reset."""
    first, count = queues[queue].first_cpu, queues[queue].end_cpu - queues[queue].first_cpu
    own_cpus = cpus[first : first + count]
    for bit in range(count):
        own_cpus[bit].free_at = 0.0
        own_cpus[bit].core_busy = 0.0
    runnable = _line_up(vcpus, doms, queues, lines, keys, demands, steps, queue, now)
    ahead = min(runnable, count)
    idle = whole = free = (1 << count) - 1  # masks of its pCPUs: idle, on cores that are, with time to spare
    # who has the most credit first; who runs has a claim to its pCPU until it is its turn
    claimed = _claims(vcpus, lines, ahead, first)
    left_over = 0
    for index in range(ahead):
        vcpu = lines[index].order
        own, may, likes = vcpus[vcpu].processor - first, vcpus[vcpu].may, vcpus[vcpu].likes
        open_to_all = idle & ~claimed
        if vcpus[vcpu].running and _stays(own, may, likes, idle, open_to_all):
            bit = own
        else:
            bit = _idle(own, may, likes, open_to_all, whole & ~claimed)
            if bit < 0 and (idle & may) != 0:
                bit = _taken_over(vcpus, lines, ahead, first, idle & may)
        claimed &= ~(1 << own) if vcpus[vcpu].running else -1
        if bit >= 0:
            masks = _go(vcpus, doms, queues, cpus, lines, ran_ns, queue, vcpu, first + bit, idle, whole, free)
            idle, whole, free = masks
        else:
            lines[left_over].vcpu = vcpu
            left_over += 1
    # who follows when another is done
    for index in range(left_over + runnable - ahead):
        if free == 0:
            break
        vcpu = lines[index].vcpu if index < left_over else lines[ahead + index - left_over].order
        bit = _soonest(own_cpus, free & vcpus[vcpu].may, vcpus[vcpu].processor - first)
        if bit >= 0:
            masks = _go(vcpus, doms, queues, cpus, lines, ran_ns, queue, vcpu, first + bit, idle, whole, free)
            idle, whole, free = masks


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
    idle: int,
    whole: int,
    free: int,
) -> tuple[int, int, int]:
    """Run a vCPU, unless others of its domain have spent the budget; where nobody with credit is left to run, all get
    new credit first. Returns what the masks are then."""
    may_ns = entitled(vcpus, doms, vcpu)
    if vcpus[vcpu].credit > 0.0:
        queues[queue].with_credit -= 1
    elif may_ns > 0.0 and queues[queue].with_credit == 0 and not queues[queue].due:
        _reset(vcpus, lines, queues[queue].first, queues[queue].end, vcpus[vcpu].credit)
        queues[queue].due = True
    if may_ns > 0.0:
        run(vcpus, cpus, doms, ran_ns, vcpu, cpu, may_ns)
        bit = cpu - queues[queue].first_cpu
        idle &= ~(1 << bit)
        whole &= ~cpus[cpu].siblings
        if cpus[cpu].free_at >= QUANTUM_NS:
            free &= ~(1 << bit)
    return idle, whole, free


@inlined
def _claims(vcpus: Table, lines: Table, ahead: int, first: int) -> int:
    """The pCPUs, as a mask, on which those of the first in line run."""
    claimed = 0
    for index in range(ahead):
        vcpu = lines[index].order
        claimed |= vcpus[vcpu].running << (vcpus[vcpu].processor - first)
    return claimed


@part
def _taken_over(vcpus: Table, lines: Table, ahead: int, first: int, able: int) -> int:
    """The pCPU of a mask whose running vCPU has the least credit of all (`runq_tickle`): it has to make room."""
    for index in range(ahead - 1, -1, -1):
        vcpu = lines[index].order
        own = vcpus[vcpu].processor - first
        if vcpus[vcpu].running and (able >> own) & 1:
            return int(own)
    return -1


@inlined
def _stays(own: int, may: int, likes: int, idle: int, open_to_all: int) -> bool:
    """Whether a running vCPU goes on where it is: nobody took it, and it need not go home (`soft_aff_preempt`)."""
    here = 1 << own
    return (idle & may & here) != 0 and ((likes & here) != 0 or (likes & open_to_all) == 0)


@inlined
def _idle(own: int, may: int, likes: int, idle: int, whole: int) -> int:
    """An idle pCPU: of soft affinity, else of hard; a whole idle core's, else any; its own, else the next; else -1."""
    some = whole & likes or idle & likes or whole & may or idle & may
    return in_circle(some, own)


@inlined
def _soonest(own_cpus: Table, able: int, own: int) -> int:
    """The pCPU of a mask that is free first of a run queue's, its own one if that is hardly later; -1 for none."""
    best, best_at, left = -1, np.inf, able
    while left != 0:
        bit = lowest(left)
        left &= left - 1
        at = own_cpus[bit].free_at
        sooner = at < best_at
        best, best_at = (bit if sooner else best), (at if sooner else best_at)
    if best != own and (able >> own) & 1:
        own_at = own_cpus[own].free_at - MIGRATE_RESIST
        if own_at < best_at or (own_at == best_at and own < best):
            best = own
    return best


@part
def _reset(vcpus: Table, lines: Table, first: int, end: int, top: float) -> None:
    """Give everybody of a run queue new credit, clipped; more where the first, who has `top`, has none even then
    (`reset_credit`)."""
    more = CREDIT_INIT * (1.0 + (np.floor(-top / CREDIT_INIT) if top < -CREDIT_INIT else 0.0))
    for index in range(first, end):
        vcpu = lines[index].member
        vcpus[vcpu].credit = min(vcpus[vcpu].credit + more, CREDIT_INIT + CARRYOVER_MAX)


@inlined
def _line_up(
    vcpus: Table,
    doms: Table,
    queues: Table,
    lines: Table,
    keys: Ints,
    demands: Table,
    steps: Table,
    queue: int,
    now: int,
) -> int:
    """Begin the quantum of all of a run queue, and put those who want to run first in `order`; how many they are.

    Not as they stand in line, which changes: always the same way through memory is what a CPU can foresee.
    """
    heaviest, runnable, with_credit = 1.0, 0, 0
    room = queues[queue].end - queues[queue].first
    turn = now % max(room, 1)
    for index in range(queues[queue].first, queues[queue].end):
        vcpu = lines[index].member
        turn = turn - 1 if turn > 0 else room - 1
        arrive(vcpus, demands, steps, vcpu, now)
        heaviest = max(heaviest, vcpus[vcpu].weight)
        if entitled(vcpus, doms, vcpu) > 0.0:
            credit = vcpus[vcpu].credit
            with_credit += credit > 0.0
            # in whole ns, as Xen's; of the same credit each is first in turn
            keys[runnable] = int(credit + (MIGRATE_RESIST if vcpus[vcpu].running else 0.0)) * room - turn
            lines[runnable].vcpu = vcpu
            runnable += 1
    _rank(lines, keys, runnable)
    queues[queue].heaviest = heaviest
    queues[queue].with_credit = with_credit
    queues[queue].due = False
    return runnable


@inlined
def _rank(lines: Table, keys: Ints, count: int) -> None:
    """Put those listed, whose keys all differ, in `order`, the highest first.

    Each counts how many come before it. For as few as a run queue has, comparing all with all, several at once, takes
    less time than a sort, whose every step is a branch that no CPU can foresee.
    """
    whole = (count + RANKED_AT_ONCE - 1) // RANKED_AT_ONCE * RANKED_AT_ONCE
    for index in range(count, whole):
        keys[index] = NO_KEY
    for index in range(count):
        key, place = keys[index], 0
        for other in range(whole):
            place += keys[other] > key
        lines[place].order = lines[index].vcpu


@part
def settle(
    vcpus: Table, doms: Table, queues: Table, cpus: Table, lines: Table, queue: int, smt_loss: float, now: int
) -> None:
    """After a quantum: work done, what running has cost, who waits, who is still running, and the average loads
    (`burn_credits`, `update_load`). The heaviest of the run queue pays a credit for a nanosecond, others more."""
    heaviest = queues[queue].heaviest
    load = 0.0
    for index in range(queues[queue].first, queues[queue].end):
        vcpu = lines[index].member
        ns = vcpus[vcpu].slice_ns
        # what comes out differently from vCPU to vCPU is worked out for all: cheaper than a branch foreseen wrongly
        vcpus[vcpu].waited_ns += min(vcpus[vcpu].pending_ns, QUANTUM_NS - ns)
        share = ns * (1.0 / QUANTUM_NS)
        runnable = share if entitled(vcpus, doms, vcpu) <= 0.0 else 1.0
        if ns > 0.0:
            account(vcpus, cpus, vcpu, smt_loss)
            rate = heaviest / vcpus[vcpu].weight if vcpus[vcpu].weight < heaviest else 1.0
            vcpus[vcpu].credit = max(vcpus[vcpu].credit - ns * rate, -CREDIT_INIT * rate)
        else:
            vcpus[vcpu].running = False
        vcpus[vcpu].load = averaged(vcpus[vcpu].load, runnable, vcpu, now)
        load += runnable
    queues[queue].load = averaged(queues[queue].load, load, len(vcpus) + queue, now)
