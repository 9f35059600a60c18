"""Save: `xl save` to a file, then `xl restore` from it.

Source: tools/xl/xl_saverestore.c, of Xen 4.17.
"""

import os
import time
from contextlib import suppress

from domicile.hosts.xen.dom0.files import remove
from domicile.hosts.xen.dom0.mover.pipes import lead, make_fifo, open_fifo, send
from domicile.hosts.xen.dom0.mover.stop import Stop
from domicile.hosts.xen.dom0.mover.tailor import tailored_head
from domicile.hosts.xen.dom0.mover.task import POLL_S, Task
from domicile.hosts.xen.dom0.order import SAVE_DIR


def save(task: Task) -> None:
    """Save to a file and restore from it."""
    row = task.rows().get(task.order.domain)
    if row is not None and not (task.stage() == "restoring" and os.path.exists(task.saved)):
        if task.stage():
            # half a file is nothing that anybody could start
            remove(task.saved)
        if row.suspended:
            task.xen.resume(row.id)
            raise Stop("failed", "it was stopped while it was saved, and runs again where it was")
        if task.stage():
            raise Stop("failed", "it was stopped before it was saved, and runs where it was")
        os.makedirs(SAVE_DIR, mode=0o700, exist_ok=True)
        task.tell("saving", 0)
        if task.work(["save", str(row.id), task.saved], lambda: watch_file(task)) != 0:
            after = task.rows().get(task.order.domain)
            if after is not None and after.suspended:
                task.xen.resume(after.id)
            remove(task.saved)
            raise Stop("failed" if after is not None else "lost", task.last_words())
    restore(task)


def watch_file(task: Task) -> None:
    """How much is saved, until xl ends. The guest stands still meanwhile."""
    while task.working():
        with suppress(OSError):
            task.tell("saving", os.stat(task.saved).st_size / (1 << 20) / 2)
        time.sleep(POLL_S)


def restore(task: Task) -> None:
    """Start it again from the file, on its new nodes; if that fails, wherever Xen has room."""
    if not task.stage():
        task.the()
    if not os.path.exists(task.saved):
        raise Stop("lost", "the domain ended by itself: it was not saved, and it is not there")
    task.tell("restoring", task.order.memory_mib / 2)
    end_halves(task)
    if task.order.domain not in task.rows():
        goes = task.path("goes")
        make_fifo(goes)
        problem = ""
        try:
            status = task.work(["restore", goes], lambda: feed(task, goes))
        except Stop as stop:
            status, problem = 1, stop.why
            task.wait_for_worker()
        if status != 0:
            problem = problem or task.last_words()
            end_halves(task)
            if task.work(["restore", task.saved], lambda: None) != 0:
                raise Stop("lost", "%s; it is saved in %s, start it with `xl restore`" % (problem, task.saved))
            remove(task.saved)
            raise Stop("failed", problem + "; it runs again, wherever Xen had room")
    remove(task.saved)


def feed(task: Task, goes: str) -> None:
    """Give xl what was saved, its head changed."""
    source = os.open(task.saved, os.O_RDONLY)
    try:
        head = tailored_head(source, task.order)
        sink = open_fifo(task, goes, os.O_WRONLY)
        try:
            os.set_blocking(sink, True)
            send(sink, head)
            for sent in lead(source, sink):
                task.tell("restoring", (task.order.memory_mib + sent / (1 << 20)) / 2)
        finally:
            os.close(sink)
    finally:
        os.close(source)


def end_halves(task: Task) -> None:
    """End what a restore that was cut short has left: it is paused, and has never run."""
    for row in task.xen.rows(task.order.uuid):
        if row.paused:
            task.xl("destroy", str(row.id))
