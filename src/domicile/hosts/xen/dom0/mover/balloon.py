"""Balloon: the guest gives free memory back, and takes it again from other nodes."""

import time
from typing import Callable

from domicile.hosts.xen.dom0.mover.stop import Stop
from domicile.hosts.xen.dom0.mover.task import POLL_S, Task


def balloon(task: Task) -> None:
    """Let the guest give free memory back, and take it again from the new nodes."""
    order = task.order
    row = task.the()
    whole = order.memory_mib
    if task.stage() == "":
        task.xen.set_nodes(row.id, order.nodes)
        task.tell("giving back", 0)
        task.xl("mem-set", str(row.id), "%dm" % order.least_mib)
        follow(task, lambda kb: kb <= order.least_mib << 10)
    # also after a kill: whatever happened, it gets back what it had
    low = task.the().memory_kb
    task.tell("taking", whole / 2)
    task.xl("mem-set", str(row.id), "%dm" % whole)
    follow(task, lambda kb: kb >= (whole << 10) - 1024, patient=True)
    back = task.the().memory_kb
    if back < (whole << 10) - 1024:
        short = "it has taken only %d of %d MiB back so far; its target is all of it" % (back >> 10, whole)
        raise Stop("failed", short)
    if low > (whole << 10) - 1024:
        raise Stop("failed", "the guest gave nothing back within %d s" % order.limit_s)


def follow(task: Task, reached: Callable[[int], bool], patient: bool = False) -> None:
    """Wait until the guest's memory is as wanted, or until nothing has changed for the limit, or called off."""
    order = task.order
    last, since = -1, time.monotonic()
    while True:
        memory_kb = task.the().memory_kb
        if reached(memory_kb):
            return
        if memory_kb != last:
            last, since = memory_kb, time.monotonic()
            done = (order.memory_mib << 10) - memory_kb
            share = done if not patient else (order.memory_mib - order.least_mib << 10) * 2 - done
            span = max((order.memory_mib - order.least_mib << 10) * 2, 1)
            task.tell("taking" if patient else "giving back", order.memory_mib * share / span)
        if time.monotonic() - since > order.limit_s or (task.cancelled and not patient):
            return
        time.sleep(POLL_S)
