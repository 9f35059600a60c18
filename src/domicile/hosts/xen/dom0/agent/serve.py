"""The agent itself: it greets, carries out one request after another, and clears away when the client is gone."""

import json
import sys
import time
from typing import Any, Callable, Dict

from domicile.hosts.xen.dom0.agent.boot_log import boot_log
from domicile.hosts.xen.dom0.agent.console import Console
from domicile.hosts.xen.dom0.agent.domains import Domains
from domicile.hosts.xen.dom0.agent.holds import Holds
from domicile.hosts.xen.dom0.agent.link import LEASE_S, Link
from domicile.hosts.xen.dom0.agent.memory_map import MemoryMap
from domicile.hosts.xen.dom0.agent.moves import Moves
from domicile.hosts.xen.dom0.agent.office import Office
from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.agent.reservations import Reservations
from domicile.hosts.xen.dom0.agent.settings import Settings
from domicile.hosts.xen.dom0.agent.shelf import Shelf
from domicile.hosts.xen.dom0.agent.snapshots import Snapshots
from domicile.hosts.xen.dom0.agent.xen import Xen
from domicile.hosts.xen.dom0.agent.xl import Xl


class Agent:
    """Carries requests out: each is the affair of one of its parts. `program` is what movers run."""

    def __init__(self, link: Link, program: str) -> None:
        xl = Xl(link)
        self.shelf = Shelf(link.wait)
        self.xen = Xen(xl)
        self.reservations = Reservations(self.shelf)
        self.office = Office(self.shelf)
        self.domains = Domains(self.xen, self.shelf)
        self.settings = Settings(self.xen, self.domains, self.office)
        self.holds = Holds(self.xen, self.shelf, self.domains, self.office)
        self.moves = Moves(self.xen, self.shelf, self.domains, self.office, program)
        self.console = Console(self.xen)
        self.snapshots = Snapshots(
            self.xen,
            self.shelf,
            self.reservations,
            self.office,
            self.holds,
            self.moves,
            MemoryMap(self.console, self.shelf),
        )
        self.operations: Dict[str, Callable[..., Dict[str, Any]]] = {
            "snapshot": self.snapshot,
            "reserve": self.reservations.reserve,
            "release": self.reservations.release,
            "create": self.create,
            "unpause": self.domains.unpause,
            "destroy": self.domains.destroy,
            "set_affinity": self.settings.set_affinity,
            "set_memory": self.settings.set_memory,
            "hold": self.holds.hold,
            "let_go": self.holds.let_go,
            "manage": self.office.manage,
            "move": self.move,
            "end_move": self.moves.end_move,
            "halt": self.holds.halt,
            "boot_log": self.boot_log,
        }

    def hello(self) -> Dict[str, Any]:
        """Who and what is here; clears away first what an agent that was killed has left."""
        self.sweep()
        return {
            "python": "%d.%d" % sys.version_info[:2],
            "xl": self.xen.xl.path,
            "xc": self.xen.xc is not None,
            "direct": self.xen.direct is not None,
            "problem": self.xen.problem,
            "pid": self.shelf.me.pid,
            "lease_s": LEASE_S,
        }

    def snapshot(self, memory_map: str) -> Dict[str, Any]:
        """The host now."""
        begun = time.monotonic()
        programs = self.xen.xl.programs_run
        self.sweep()
        return self.snapshots.take(memory_map, begun, programs)

    def create(self, name: str, uuid: str, config: str, limit_s: float) -> Dict[str, Any]:
        """Start a domain, paused. The configuration sets this name and this UUID."""
        self.sweep()
        return self.domains.create(name, uuid, config, limit_s)

    def move(self, order: Dict[str, Any]) -> Dict[str, Any]:
        """Begin to move a domain's memory."""
        self.moves.check(order)
        self.sweep()
        return self.moves.begin(order)

    def boot_log(self) -> Dict[str, Any]:
        """What is left of the boot."""
        return boot_log(self.console, self.shelf)

    def sweep(self) -> None:
        """Clear away what dead agents have left, and go on with what they began to move."""
        self.domains.sweep()
        self.moves.sweep()
        self.holds.sweep()

    def leave(self) -> None:
        """The client is gone: nothing that it began and did not end may stay."""
        self.domains.leave()
        self.shelf.drop_own("reservations", "office")
        self.holds.leave()

    def answer(self, line: bytes) -> Dict[str, Any]:
        """Carry out one request."""
        try:
            request = json.loads(line.decode("utf-8"))
            return {"ok": self.operations[request["op"]](**request["args"])}
        except Problem as problem:
            return {"error": {"kind": problem.kind, "message": problem.message, "output": problem.output[-8192:]}}
        except Exception as error:  # the client has to hear of it, whatever it is
            return {"error": {"kind": "failed", "message": "%s: %s" % (type(error).__name__, error), "output": ""}}


def main(program: str) -> None:
    """Serve until the client is gone."""
    link = Link()
    try:
        agent = Agent(link, program)
        greeting: Dict[str, Any] = {"ok": agent.hello()}
    except (Problem, OSError) as problem:
        output = problem.output if isinstance(problem, Problem) else ""
        link.say({"error": {"kind": "failed", "message": str(problem), "output": output}})
        return
    try:
        link.say(greeting)
        line = link.next_line()
        while line is not None:
            link.say(agent.answer(line))
            line = link.next_line()
    finally:
        link.gone = True
        agent.leave()
