"""Moves of memory: begun here, carried out by a mover each, and begun again if that is killed."""

import json
import os
import sys
import time
from typing import Any, Dict, List

from domicile.hosts.xen.dom0.agent.domains import Domains
from domicile.hosts.xen.dom0.agent.office import Office
from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.agent.shelf import LOCK_S, TOKEN, Shelf
from domicile.hosts.xen.dom0.agent.xen import Xen
from domicile.hosts.xen.dom0.files import read_text, remove, write
from domicile.hosts.xen.dom0.order import SAVE_DIR
from domicile.hosts.xen.dom0.owner import owner_from, start_time
from domicile.hosts.xen.dom0.programs import in_path, search_path


class Moves:
    """The moves on the shelf, whoever began them. `program` is what a mover runs."""

    def __init__(self, xen: Xen, shelf: Shelf, domains: Domains, office: Office, program: str) -> None:
        self.xen = xen
        self.shelf = shelf
        self.domains = domains
        self.office = office
        self.program = program
        self.movers: List[Any] = []

    def check(self, order: Dict[str, Any]) -> None:
        """Raise if such a move can be refused without a look at what there is."""
        if not TOKEN.match(order["token"]):
            raise Problem("failed", "%r cannot be a move's token" % order["token"])
        if self.xen.xc is None:
            raise Problem("refused", "moving memory takes Xen's Python bindings in Dom0 (%s)" % self.xen.problem)
        self.office.refuse_if_ours_and_halted()

    def begin(self, order: Dict[str, Any]) -> Dict[str, Any]:
        """Begin to move a domain's memory."""
        token, name, uuid = order["token"], order["domain"], order["uuid"]
        with self.shelf.locked():
            for folder in self.folders():
                if os.path.basename(folder) == token:
                    raise Problem("refused", "there is a move %s already" % token)
                if self.unended(folder) and json.loads(read_text(folder + "/order"))["uuid"] == uuid:
                    raise Problem("refused", "%s is being moved already" % name)
            row = self.domains.the_very(name, uuid)
            if row.id == 0:
                raise Problem("refused", "Dom0 is not moved")
            folder = self.shelf.path("moves", token)
            os.mkdir(folder, 0o700)
            # each move has its own, which goes with its folder: other versions that come by let it go on as it began
            write(folder + "/program", self.program)
            write(folder + "/order", json.dumps(dict(order, xl=self.xen.xl.path)))
            self.start_mover(folder)
        return {}

    def end_move(self, token: str) -> Dict[str, Any]:
        """Forget a move that ended; call off one that goes on."""
        folder = self.shelf.path("moves", token)
        if TOKEN.match(token) and os.path.isdir(folder):
            with self.shelf.locked():
                if self.unended(folder):
                    write(folder + "/cancel", "")
                else:
                    for name in os.listdir(folder):
                        remove(os.path.join(folder, name))
                    os.rmdir(folder)
        return {}

    def folders(self) -> List[str]:
        """The folders of moves; one without an order never began."""
        found = [self.shelf.path("moves", name) for name in sorted(os.listdir(self.shelf.path("moves")))]
        return [folder for folder in found if os.path.exists(folder + "/order")]

    def unended(self, folder: str) -> bool:
        """Whether a move goes on, or should."""
        return not os.path.exists(folder + "/result")

    def start_mover(self, folder: str) -> None:
        """Start what moves, or goes on with what one that was killed had begun."""
        import subprocess  # noqa: PLC0415

        program = folder + "/program"
        if not os.path.exists(program):
            # an older version of domicile began it, and kept one program for all
            write(program, self.program)
        argv = [sys.executable, "-ISu", program, folder]
        outside = os.environ.get("INVOCATION_ID") and in_path("systemd-run")
        if outside:
            # we are in a service: it would end with us, and the service may do less than xl needs
            settings = ["--setenv=PATH=" + search_path(), "--setenv=DOMICILE_SAVE_DIR=" + SAVE_DIR]
            argv = [outside, "--quiet", "--collect", "--description=domicile moves memory", *settings, *argv]
        with open(folder + "/log", "ab") as log:
            mover = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=dict(os.environ, PATH=search_path()),
            )
        self.movers.append(mover)
        if not outside:
            write(folder + "/mover", "%d %s\n" % (mover.pid, start_time(mover.pid)))
            return
        if mover.wait() != 0:
            raise Problem("failed", "systemd-run does not start what moves memory", read_text(folder + "/log"))
        deadline = time.monotonic() + LOCK_S / 2
        # it writes down itself who it is: until then others would take it for dead
        while not os.path.exists(folder + "/mover") and time.monotonic() < deadline:
            self.shelf.wait(0.05)

    def moving(self) -> List[Dict[str, Any]]:
        """All moves, as they stand."""
        # a child that ended is known to have ended once somebody asks
        self.movers = [mover for mover in self.movers if mover.poll() is None]
        found = []
        for folder in self.folders():
            # what is seen to go on may end meanwhile: the result is read first, for it never goes away before the order
            result, order = read_text(folder + "/result"), read_text(folder + "/order")
            if order:
                # "STAGE DONE TOTAL", and a stage can be two words
                stage, _, done = read_text(folder + "/progress").rpartition(" ")[0].rpartition(" ")
                found.append(
                    {
                        "order": json.loads(order),
                        "stage": stage,
                        "done_mib": int(done or 0),
                        "result": json.loads(result) if result else None,
                    }
                )
        return found

    def sweep(self) -> None:
        """Begin again what nobody carries out any more."""
        for folder in self.folders():
            if self.unended(folder) and not owner_from(read_text(folder + "/mover")).alive():
                with self.shelf.locked():
                    # somebody else may have started it again, or it may have come to its end
                    if self.unended(folder) and not owner_from(read_text(folder + "/mover")).alive():
                        self.start_mover(folder)
