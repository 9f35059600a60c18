"""The move as it stands: its folder, its domain, and the `xl` that works for it."""

import json
import os
import subprocess
import time
from typing import Callable, Dict, List

from domicile.hosts.xen.dom0.files import read_text, write
from domicile.hosts.xen.dom0.mover.stop import Stop
from domicile.hosts.xen.dom0.mover.xen import Xen
from domicile.hosts.xen.dom0.order import Order, saved_file
from domicile.hosts.xen.dom0.owner import owner_from, start_time
from domicile.hosts.xen.dom0.row import Row

POLL_S = 0.2


class Task:
    """One order and how far it is, kept in its folder for whoever goes on with it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        with open(self.path("order"), encoding="utf-8") as file:
            self.order = Order(**json.load(file))
        self.xen = Xen()
        self.saved = saved_file(self.order.uuid)

    def path(self, name: str) -> str:
        """A file of the order's folder."""
        return os.path.join(self.folder, name)

    def tell(self, stage: str, done_mib: float) -> None:
        """How far it is."""
        whole = self.order.memory_mib
        write(self.path("progress"), "%s %d %d\n" % (stage, min(done_mib, whole), whole))

    def stage(self) -> str:
        """Where the one before us was."""
        return read_text(self.path("progress")).partition(" ")[0]

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants it to end."""
        return os.path.exists(self.path("cancel"))

    def last_words(self) -> str:
        """What xl gave as the reason: of its many lines the first error is the cause."""
        lines = [line for line in read_text(self.path("log")).split("\n") if line.strip()]
        errors = [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
        return (errors or lines or ["it said nothing"])[0][:400]

    # -- the domain ----------------------------------------------------------------------------------------------

    def rows(self) -> Dict[str, Row]:
        """The domain's copies by name: its own, with "--incoming" and with "--migratedaway"."""
        return {row.name: row for row in self.xen.rows(self.order.uuid)}

    def the(self) -> Row:
        """The domain itself."""
        row = self.rows().get(self.order.domain)
        if row is None:
            raise Stop("failed", "there is no domain %s of UUID %s" % (self.order.domain, self.order.uuid))
        return row

    # -- xl ------------------------------------------------------------------------------------------------------

    def xl(self, *arguments: str) -> None:
        """Run xl to its end."""
        self.work(list(arguments), lambda: None)

    def work(self, arguments: List[str], meanwhile: Callable[[], None]) -> int:
        """Run xl, on file as our worker; its exit status. `meanwhile` is called once, when it has begun."""
        with open(self.path("log"), "ab") as log:
            child = subprocess.Popen(
                [self.order.xl, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(os.environ, LC_ALL="C"),
            )
        write(self.path("worker"), "%d %s\n" % (child.pid, start_time(child.pid)))
        meanwhile()
        return child.wait()

    def working(self) -> bool:
        """Whether our xl, or that of one of us that was killed, is still at work."""
        return owner_from(read_text(self.path("worker"))).alive()

    def wait_for_worker(self) -> None:
        """Of one of us that was killed, xl may still be at work. Without us nothing flows: it gives up by itself."""
        while self.working():
            time.sleep(POLL_S)
