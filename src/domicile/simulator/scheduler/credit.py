"""Xen's credit scheduler (`sched=credit`), in quanta of its tick.

Source: xen/common/sched/credit.c, Xen 4.17. What is kept, by its function there:
- `csched_acct`: every 30 ms all credit of the host is given out by weight to the vCPUs that were running at a tick; who
  earns more than it spends stops earning and is left with half; a domain with a cap earns no more than that, and its
  vCPUs are parked while they owe as much.
- priorities: BOOST for who wakes up with credit left, until the next tick; UNDER with credit, OVER without.
- `csched_runq_sort`, `csched_schedule`: each pCPU has a queue of its own, by priority, then in turn; a slice is 30 ms.
- `csched_load_balance`: a pCPU that is idle, or has nothing but OVER, takes over who waits elsewhere with a higher
  priority: first those with soft affinity for it, then any that may; its own node's pCPUs first, the other nodes then
  in the order of their ids, whatever their distance.
- `__runq_tickle`, `_csched_cpu_pick`: who wakes up goes to an idle pCPU of its soft affinity, else of its hard
  affinity, if its own is busy; who is running goes to an idle pCPU of its soft affinity if its own is not in that, and
  to a whole idle core of its socket if a sibling is busy. That is why soft affinity holds here, and not under credit2.
Left out: rate limiting, yields, the cost of a context switch.
"""

from __future__ import annotations

import numpy as np

from domicile.local.compiled import inlined, part
from domicile.simulator.scheduler.common import account, entitled, run, sort_down
from domicile.simulator.scheduler.demand import arrive
from domicile.simulator.scheduler.state import QUANTUM_NS, Floats, Ints, Table

__all__ = ["BOOST", "OVER", "UNDER", "allow", "home", "quantum"]

BOOST, UNDER, OVER = 0, -1, -2
TICKS_PER_SLICE = 3
CREDITS_PER_SLICE = 300.0
CREDITS_PER_NS = 1e-5
HARD, SOFT = 0, 1
FAR = 1 << 40


@inlined
def allow(masks: Ints, cpus: Table, queues: Table, vcpu: int, cpu: int) -> bool:
    """Whether a pCPU is in a vCPU's affinity."""
    queue = cpus[cpu].queue
    return bool((masks[vcpu, queue] >> (cpu - queues[queue].first_cpu)) & 1)


@part
def home(vcpus: Table, cpus: Table, queues: Table, hard: Ints, soft: Ints, vcpu: int) -> None:
    """Give a vCPU that comes, or whose affinity has changed, a pCPU: the one of its affinity with the fewest vCPUs."""
    masks = soft if vcpus[vcpu].has_soft else hard
    best, fewest = -1, 0
    for cpu in range(len(cpus)):
        if not allow(masks, cpus, queues, vcpu, cpu):
            continue
        there = 0
        for other in range(len(vcpus)):
            there += vcpus[other].active and vcpus[other].processor == cpu
        if best < 0 or there < fewest:
            best, fewest = cpu, there
    vcpus[vcpu].processor = best
    vcpus[vcpu].queue = cpus[best].queue
    vcpus[vcpu].running = False


@part
def quantum(
    vcpus: Table,
    doms: Table,
    cpus: Table,
    queues: Table,
    lines: Table,
    demands: Table,
    steps: Table,
    hard: Ints,
    soft: Ints,
    ran_ns: Floats,
    now: int,
    loss: float,
) -> None:
    """One quantum of all pCPUs, up to its tick."""
    _arrive(vcpus, demands, steps, now)
    for domain in range(len(doms)):
        # caps are credit that is not earned, not a budget
        doms[domain].budget_ns = np.inf
    for cpu in range(len(cpus)):
        cpus[cpu].free_at = 0.0
        cpus[cpu].core_busy = 0.0
    if now % TICKS_PER_SLICE == 0:
        _give_credit(vcpus, doms, len(cpus))
    waiting = _line_up(vcpus, lines, now)
    places = 0
    for cpu in range(len(cpus)):
        cpus[cpu].best = -1
        cpus[cpu].planned_ns = 0.0
        places = max(places, cpus[cpu].place + 1)
    _go_home(vcpus, cpus, queues, lines, soft, waiting)
    _settled(vcpus, cpus, lines, waiting)
    _wake(vcpus, cpus, queues, lines, hard, soft, waiting)
    for cpu in range(len(cpus)):
        cpus[cpu].best = -1
    _claim(vcpus, cpus, lines, waiting)
    _to_steal(vcpus, cpus, queues, lines, soft, waiting, places)
    for cpu in range(len(cpus)):
        vcpu = cpus[cpu].best
        above = vcpus[vcpu].priority if vcpu >= 0 else OVER - 1
        if above <= OVER:
            stolen = _steal(vcpus, cpus, queues, lines, hard, soft, places, cpu, above)
            vcpu = stolen if stolen >= 0 else vcpu
            cpus[cpu].best = vcpu
        if vcpu >= 0 and vcpus[vcpu].slice_ns <= 0.0:
            _run(vcpus, cpus, doms, ran_ns, vcpu, cpu, now)
    _follow(vcpus, doms, cpus, queues, lines, hard, soft, ran_ns, waiting, now)
    _tick(vcpus, cpus, loss)


@part
def _arrive(vcpus: Table, demands: Table, steps: Table, now: int) -> None:
    """What vCPUs want in a quantum, and who wakes up by it."""
    for vcpu in range(len(vcpus)):
        if not vcpus[vcpu].active:
            continue
        slept = vcpus[vcpu].pending_ns <= 0.0 and not vcpus[vcpu].running
        arrive(vcpus, demands, steps, vcpu, now)
        vcpus[vcpu].woken = slept and vcpus[vcpu].pending_ns > 0.0
        if vcpus[vcpu].woken:
            vcpus[vcpu].since = now


@part
def _count_active(vcpus: Table, doms: Table) -> tuple[float, float]:
    """Count each domain's vCPUs that earn credit; their weight, and the credit left last time."""
    weights, balance = 0.0, 0.0
    for domain in range(len(doms)):
        balance += doms[domain].balance
        doms[domain].active = 0
        doms[domain].balance = 0.0
    for vcpu in range(len(vcpus)):
        if vcpus[vcpu].active and vcpus[vcpu].accounted:
            doms[vcpus[vcpu].domain].active += 1
            weights += doms[vcpus[vcpu].domain].weight
    return weights, balance


@part
def _give_credit(vcpus: Table, doms: Table, cpus: int) -> None:
    """`csched_acct`."""
    weights, balance = _count_active(vcpus, doms)
    total, left = cpus * CREDITS_PER_SLICE - min(balance, 0.0), weights
    for domain in range(len(doms)):
        active = doms[domain].active
        if active == 0:
            continue
        mine = doms[domain].weight * active
        left -= mine
        peak = active * CREDITS_PER_SLICE - min(balance, 0.0) * mine / weights
        if doms[domain].cap > 0.0:
            peak = min(peak, doms[domain].cap * CREDITS_PER_SLICE)
        fair = total * mine / weights
        if fair > peak:
            if left > 0.0:
                total += (fair - peak) * weights / left
            fair = peak
        doms[domain].share = fair / active
    for vcpu in range(len(vcpus)):
        if vcpus[vcpu].active and (vcpus[vcpu].accounted or vcpus[vcpu].parked):
            _earn(vcpus, doms, vcpu)


@inlined
def _earn(vcpus: Table, doms: Table, vcpu: int) -> None:
    """A vCPU's share of the credit, and what it makes of its priority."""
    domain = vcpus[vcpu].domain
    credit = vcpus[vcpu].credit + doms[domain].share
    if credit < 0.0:
        vcpus[vcpu].priority = OVER
        if doms[domain].cap > 0.0 and credit < -doms[domain].cap * CREDITS_PER_SLICE / max(doms[domain].active, 1):
            vcpus[vcpu].parked = True
        credit = max(credit, -CREDITS_PER_SLICE)
    else:
        vcpus[vcpu].priority = UNDER
        vcpus[vcpu].parked = False
        if credit > CREDITS_PER_SLICE:
            vcpus[vcpu].accounted = False
            credit /= 2.0
    vcpus[vcpu].credit = credit
    doms[domain].balance += credit


@part
def _line_up(vcpus: Table, lines: Table, now: int) -> int:
    """List those who want to run, by priority, then who waits longest; how many they are. Who wakes up is boosted."""
    count = 0
    for vcpu in range(len(vcpus)):
        if not vcpus[vcpu].active or vcpus[vcpu].parked or vcpus[vcpu].pending_ns <= 0.0:
            continue
        if vcpus[vcpu].woken and vcpus[vcpu].priority == UNDER:
            vcpus[vcpu].priority = BOOST
        if vcpus[vcpu].running and now - vcpus[vcpu].since >= TICKS_PER_SLICE:
            vcpus[vcpu].since = now
            vcpus[vcpu].running = False
        first = float(FAR) if vcpus[vcpu].running else float(-vcpus[vcpu].since)
        lines[count].vcpu, lines[count].key = vcpu, vcpus[vcpu].priority * 4.0 * FAR + first
        count += 1
    sort_down(lines, count)
    return count


@part
def _go_home(vcpus: Table, cpus: Table, queues: Table, lines: Table, soft: Ints, waiting: int) -> None:
    """Move running vCPUs to idle pCPUs of their soft affinity, or off shared cores (`csched_unit_acct`)."""
    for index in range(waiting):
        vcpu = lines[index].vcpu
        if not vcpus[vcpu].woken:  # the tick came before it woke up
            cpus[vcpus[vcpu].processor].best = vcpu
            cpus[cpus[vcpus[vcpu].processor].core].core_busy += 1.0
    _count_idle(cpus)
    for index in range(waiting):
        vcpu = lines[index].vcpu
        if vcpus[vcpu].running:
            own = vcpus[vcpu].processor
            away = vcpus[vcpu].has_soft and not allow(soft, cpus, queues, vcpu, own)
            crowded = cpus[cpus[own].core].core_busy > 1.0 and cpus[own].threads > 1
            if away or (crowded and cpus[cpus[own].socket].idle_cores > 0):
                cpu = _better(cpus, queues, soft, vcpu, own, away)
                if cpu >= 0:
                    _hand_over(vcpus, cpus, vcpu, own, cpu)
    for cpu in range(len(cpus)):
        cpus[cpu].best = -1
        cpus[cpu].core_busy = 0.0


@part
def _count_idle(cpus: Table) -> None:
    """Count each socket's idle cores, all of their threads' places at once."""
    for cpu in range(len(cpus)):
        cpus[cpu].idle_cores = 0
    for cpu in range(len(cpus)):
        if cpus[cpus[cpu].core].core_busy <= 0.0:
            cpus[cpus[cpu].socket].idle_cores += 1


@inlined
def _better(cpus: Table, queues: Table, soft: Ints, vcpu: int, own: int, away: bool) -> int:
    """The first idle pCPU of its soft affinity, if it is not on one; of its own socket's idle cores, if it is."""
    for queue in range(len(queues)):
        bits = soft[vcpu, queue]
        if bits == 0:
            continue
        for cpu in range(queues[queue].first_cpu, queues[queue].end_cpu):
            if cpus[cpu].best >= 0 or not (bits >> (cpu - queues[queue].first_cpu)) & 1:
                continue
            if away or (cpus[cpu].socket == cpus[own].socket and cpus[cpus[cpu].core].core_busy <= 0.0):
                return cpu
    return -1


@inlined
def _hand_over(vcpus: Table, cpus: Table, vcpu: int, own: int, cpu: int) -> None:
    """A running vCPU goes to an idle pCPU."""
    cpus[own].best = -1
    cpus[cpus[own].core].core_busy -= 1.0
    if cpus[cpus[own].core].core_busy <= 0.0:
        cpus[cpus[own].socket].idle_cores += cpus[own].threads
    if cpus[cpus[cpu].core].core_busy <= 0.0:
        cpus[cpus[cpu].socket].idle_cores -= cpus[cpu].threads
    cpus[cpu].best = vcpu
    cpus[cpus[cpu].core].core_busy += 1.0
    vcpus[vcpu].processor = cpu


@part
def _claim(vcpus: Table, cpus: Table, lines: Table, waiting: int) -> None:
    """The first of each pCPU's queue: the list is in the order of all queues."""
    for index in range(waiting):
        vcpu = lines[index].vcpu
        own = vcpus[vcpu].processor
        if cpus[own].best < 0:
            cpus[own].best = vcpu


@part
def _wake(vcpus: Table, cpus: Table, queues: Table, lines: Table, hard: Ints, soft: Ints, waiting: int) -> None:
    """Who wakes up on a busy pCPU goes to an idle one, whatever its priority (`__runq_tickle`)."""
    for index in range(waiting):
        vcpu = lines[index].vcpu
        if not vcpus[vcpu].woken:
            continue
        own = vcpus[vcpu].processor
        cpu = own if cpus[own].best < 0 else -1
        if cpu < 0 and vcpus[vcpu].has_soft:
            cpu = _idle_after(cpus, queues, soft, vcpu, own)
        if cpu < 0:
            cpu = _idle_after(cpus, queues, hard, vcpu, own)
        if cpu >= 0:
            cpus[cpu].best = vcpu
        else:
            cpu = _behind(vcpus, cpus, queues, hard, vcpu)
        if cpu >= 0:
            cpus[cpu].planned_ns += vcpus[vcpu].pending_ns
            vcpus[vcpu].processor = cpu


@part
def _behind(vcpus: Table, cpus: Table, queues: Table, hard: Ints, vcpu: int) -> int:
    """A pCPU that another woke up on for so short that this one has room behind it; -1 for none.

    Both wake up at some time of the quantum, and hardly at the same: it would be idle.
    """
    for cpu in range(len(cpus)):
        room = QUANTUM_NS - cpus[cpu].planned_ns
        if cpus[cpu].planned_ns > 0.0 and vcpus[vcpu].pending_ns <= room and allow(hard, cpus, queues, vcpu, cpu):
            return cpu
    return -1


@part
def _settled(vcpus: Table, cpus: Table, lines: Table, waiting: int) -> None:
    """Mark the pCPUs that somebody runs on or has been waiting for."""
    for index in range(waiting):
        vcpu = lines[index].vcpu
        if not vcpus[vcpu].woken:
            cpus[vcpus[vcpu].processor].best = vcpu


@part
def _idle_after(cpus: Table, queues: Table, masks: Ints, vcpu: int, own: int) -> int:
    """The next pCPU of these masks, in a circle, that has nothing to run; -1 for none."""
    home = cpus[own].queue
    for step in range(len(queues) + 1):
        queue = (home + step) % len(queues)
        first, end = queues[queue].first_cpu, queues[queue].end_cpu
        bits = masks[vcpu, queue]
        if bits == 0:
            continue
        # its own run queue comes twice: what is behind it first, what is before it last
        for cpu in range(own + 1 if step == 0 else first, own if step == len(queues) else end):
            if cpus[cpu].best < 0 and (bits >> (cpu - first)) & 1:
                return cpu
    return -1


@part
def _to_steal(vcpus: Table, cpus: Table, queues: Table, lines: Table, soft: Ints, waiting: int, places: int) -> None:
    """List, by place and in their order, those who are not the first on their pCPU, or may be pushed aside there; and
    count those with credit by the run queues that they have soft affinity for."""
    for queue in range(len(queues)):
        queues[queue].wishes = 0
    for place in range(places):
        cpus[place].end_able = 0
    for index in range(waiting):
        vcpu = lines[index].vcpu
        first = cpus[vcpus[vcpu].processor].best == vcpu
        if vcpus[vcpu].priority <= OVER or not first:
            cpus[cpus[vcpus[vcpu].processor].place].end_able += 1
        if vcpus[vcpu].priority > OVER and not first:
            _wish(vcpus, queues, soft, vcpu, 1)
    before = 0
    for place in range(places):
        cpus[place].first_able = before
        before += cpus[place].end_able
        cpus[place].end_able = cpus[place].first_able
    for index in range(waiting):
        vcpu = lines[index].vcpu
        if vcpus[vcpu].priority <= OVER or cpus[vcpus[vcpu].processor].best != vcpu:
            place = cpus[vcpus[vcpu].processor].place
            lines[cpus[place].end_able].order = vcpu
            cpus[place].end_able += 1


@part
def _wish(vcpus: Table, queues: Table, soft: Ints, vcpu: int, change: int) -> None:
    """Count one more, or one less, who has soft affinity for run queues."""
    if vcpus[vcpu].has_soft:
        for queue in range(len(queues)):
            if soft[vcpu, queue] != 0:
                queues[queue].wishes += change


@part
def _steal(
    vcpus: Table,
    cpus: Table,
    queues: Table,
    lines: Table,
    hard: Ints,
    soft: Ints,
    places: int,
    thief: int,
    above: int,
) -> int:
    """Who waits elsewhere with a higher priority than this; -1 for nobody (`csched_load_balance`)."""
    for masks in (SOFT, HARD):
        if masks == SOFT and above >= OVER and queues[cpus[thief].queue].wishes == 0:
            continue
        for away in range(places):
            place = (cpus[thief].place + away) % places
            for index in range(cpus[place].first_able, cpus[place].end_able):
                vcpu = lines[index].order
                if vcpus[vcpu].priority <= above:
                    break
                own = vcpus[vcpu].processor
                if own == thief or vcpus[vcpu].slice_ns > 0.0 or cpus[own].best == vcpu:
                    continue
                if masks == SOFT and not (vcpus[vcpu].has_soft and allow(soft, cpus, queues, vcpu, thief)):
                    continue
                if allow(hard, cpus, queues, vcpu, thief):
                    if vcpus[vcpu].priority > OVER:
                        _wish(vcpus, queues, soft, vcpu, -1)
                    vcpus[vcpu].processor = thief
                    return int(vcpu)
    return -1


@inlined
def _run(vcpus: Table, cpus: Table, doms: Table, ran_ns: Floats, vcpu: int, cpu: int, now: int) -> None:
    """Run a vCPU; its slice begins unless it is running already."""
    if not vcpus[vcpu].running:
        vcpus[vcpu].since = now
    run(vcpus, cpus, doms, ran_ns, vcpu, cpu, entitled(vcpus, doms, vcpu))


@part
def _follow(
    vcpus: Table,
    doms: Table,
    cpus: Table,
    queues: Table,
    lines: Table,
    hard: Ints,
    soft: Ints,
    ran_ns: Floats,
    waiting: int,
    now: int,
) -> None:
    """Who has not run yet follows where a pCPU is done early: its own, else one of its node, else any."""
    free = 0
    for cpu in range(len(cpus)):
        if cpus[cpu].free_at < QUANTUM_NS:
            cpus[free].listed = cpu
            free += 1
    for index in range(waiting):
        vcpu = lines[index].vcpu
        if vcpus[vcpu].slice_ns > 0.0:
            continue
        own = vcpus[vcpu].processor
        best, soonest = -1, float(QUANTUM_NS)
        for place in range(free):
            cpu = cpus[place].listed
            if cpus[cpu].free_at >= QUANTUM_NS or not allow(hard, cpus, queues, vcpu, cpu):
                continue
            at = cpus[cpu].free_at
            if not allow(soft, cpus, queues, vcpu, cpu) or cpus[cpu].node != cpus[own].node:
                at += 1.0
            if best < 0 or at < soonest:
                best, soonest = cpu, at
        if best >= 0:
            _run(vcpus, cpus, doms, ran_ns, vcpu, best, now)


@part
def _tick(vcpus: Table, cpus: Table, loss: float) -> None:
    """The end of a quantum: credit spent, boosts over, who is running is accounted, who is not waits."""
    for vcpu in range(len(vcpus)):
        if not vcpus[vcpu].active:
            continue
        ns = vcpus[vcpu].slice_ns
        vcpus[vcpu].credit -= ns * CREDITS_PER_NS
        if vcpus[vcpu].pending_ns > 0.0:
            vcpus[vcpu].waited_ns += min(vcpus[vcpu].pending_ns, QUANTUM_NS - ns)
        if ns <= 0.0:
            vcpus[vcpu].running = False
            continue
        account(vcpus, cpus, vcpu, loss)
        if 2.0 * ns >= QUANTUM_NS:
            vcpus[vcpu].accounted = True
            if vcpus[vcpu].priority == BOOST:
                vcpus[vcpu].priority = UNDER
        vcpus[vcpu].queue = cpus[vcpus[vcpu].processor].queue
