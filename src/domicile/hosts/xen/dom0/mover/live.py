"""Live: `xl migrate` to this same host.

Source: tools/xl/xl_migrate.c, of Xen 4.17.
"""

import os
import shlex
import time
from typing import List

from domicile.hosts.xen.dom0.mover.pipes import lead, make_fifo, open_fifo, send
from domicile.hosts.xen.dom0.mover.stop import Stop
from domicile.hosts.xen.dom0.mover.tailor import tailored_head
from domicile.hosts.xen.dom0.mover.task import POLL_S, Task

PACE_S = 0.05


def live(task: Task) -> None:
    """Migrate to this host."""
    if task.stage():
        settle(task)
        raise Stop("failed", "what moved it was stopped; it runs, see where its memory is")
    row = task.the()
    task.tell("copying", 0)
    came, goes = task.path("came"), task.path("goes")
    for path in (came, goes):
        make_fifo(path)
    receive = "exec 3<&0; cat <&3 >%s 3<&- & exec %s migrate-receive <%s 3<&-" % tuple(
        map(shlex.quote, (came, task.order.xl, goes))
    )
    problem: List[str] = []

    def lead_on() -> None:
        try:
            pass_on(task, came, goes)
        except Stop as stop:
            problem.append(stop.why)

    status = task.work(["migrate", "-s", "", str(row.id), receive], lead_on)
    settle(task)
    if status != 0:
        raise Stop("failed", problem[0] if problem else task.last_words())


def pass_on(task: Task, came: str, goes: str) -> None:
    """Pass on what xl sends, its head changed, at no more than the rate for the first time that memory goes by.

    Closing our end is how a move is given up: the receiver ends its half of the domain, the sender goes on.
    """
    # the sender says nothing before it has heard from the receiver, which waits for our end
    sink = open_fifo(task, goes, os.O_WRONLY)
    source = open_fifo(task, came, os.O_RDONLY)
    try:
        os.set_blocking(source, True)
        os.set_blocking(sink, True)
        begun = told = time.monotonic()
        send(sink, tailored_head(source, task.order))
        for sent in lead(source, sink):
            now = time.monotonic()
            if now - told > POLL_S:
                told = now
                task.tell("copying", sent / (1 << 20))
                if task.cancelled:
                    raise Stop("failed", "it was called off")
            ahead_s = sent / (1 << 20) / task.order.rate_mib_s - (now - begun) if task.order.rate_mib_s else 0.0
            if ahead_s > PACE_S and sent < task.order.memory_mib << 20:
                time.sleep(ahead_s)
    finally:
        os.close(source)
        os.close(sink)


def settle(task: Task) -> None:
    """After xl has ended, however it did: exactly one copy, under its own name, and running.

    The receiver takes the domain's name before it lets it run: a copy that is still called "--incoming" never ran.
    """
    rows = task.rows()
    name = task.order.domain
    here, away, incoming = rows.get(name), rows.get(name + "--migratedaway"), rows.get(name + "--incoming")
    if incoming is not None:
        task.xl("destroy", str(incoming.id))
    if away is not None and here is not None:
        task.xl("destroy", str(away.id))
    elif away is not None:
        task.xl("rename", str(away.id), name)
        here = away
    if here is None:
        raise Stop("lost", "no domain of UUID %s is there any more" % task.order.uuid)
    if here.suspended:
        task.xen.resume(here.id)
    elif here.paused and away is not None:
        task.xl("unpause", str(here.id))
