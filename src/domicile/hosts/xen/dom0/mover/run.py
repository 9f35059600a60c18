"""The mover itself: it carries one order out, from wherever it stands, and writes down how it ended."""

import json
import os
import signal

from domicile.hosts.xen.dom0.files import write
from domicile.hosts.xen.dom0.mover.balloon import balloon
from domicile.hosts.xen.dom0.mover.live import live
from domicile.hosts.xen.dom0.mover.save import save
from domicile.hosts.xen.dom0.mover.stop import Stop
from domicile.hosts.xen.dom0.mover.task import Task
from domicile.hosts.xen.dom0.owner import start_time

WAYS = {"live": live, "save": save, "balloon": balloon}


def run(task: Task) -> Stop:
    """Do it, from where it stands; how it ended."""
    try:
        if task.stage():
            task.wait_for_worker()
        WAYS[task.order.way](task)
    except Stop as stop:
        return stop
    except Exception as error:  # whoever asked has to hear of it, whatever it is
        return Stop("failed", "%s: %s" % (type(error).__name__, error))
    return Stop("moved", "")


def main(folder: str) -> None:
    """Carry out the order of a folder."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    # a receiver that ends is told by an error where we write, not by our end
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    write(os.path.join(folder, "mover"), "%d %s\n" % (os.getpid(), start_time(os.getpid())))
    try:
        stop = run(Task(folder))
    except Exception as error:  # an order that makes no sense, no way to Xen: it must not be tried for ever
        stop = Stop("failed", "%s: %s" % (type(error).__name__, error))
    write(os.path.join(folder, "result"), json.dumps({"ended": stop.ended, "why": stop.why}) + "\n")
