"""Who may change this host of their own accord: one manager at a time, or nobody once somebody has stopped them."""

import json
from typing import Any, Dict

from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.agent.shelf import Shelf
from domicile.hosts.xen.dom0.files import read_text, remove, write


class Office:
    """The manager's office, and the mark that nobody may have it."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.record = shelf.path("office", "manager")
        self.mark = shelf.path("halted")

    def manage(self, who: Any) -> Dict[str, Any]:
        """Take the office of this host's manager, which one at a time can have; None lays it down."""
        with self.shelf.locked():
            owner, line = self.shelf.held(self.record)
            if owner == self.shelf.me or not owner.alive():
                remove(self.record)
            elif who is not None:
                raise Problem("refused", "this host is managed by %s (process %d here)" % (json.loads(line), owner.pid))
            if who is not None:
                self.refuse_if_halted()
                write(self.record, "%d %s\n%s\n" % (*self.shelf.me, json.dumps(who)))
        return {}

    def manager(self) -> str:
        """Who has the office; "" if nobody does."""
        owner, manager = self.shelf.held(self.record)
        return json.loads(manager) if owner.alive() else ""

    def ours(self) -> bool:
        """Whether it is our own client who has it."""
        return bool(self.shelf.held(self.record)[0] == self.shelf.me)

    def close(self, why: Any) -> None:
        """Let nobody manage this host any more. Call it with the lock held."""
        write(self.mark, json.dumps(why) + "\n")

    def reopen(self) -> None:
        """Let managers start again. Call it with the lock held."""
        remove(self.mark)

    def halted(self) -> str:
        """Why nobody may change this host of their own accord; "" if they may."""
        mark = read_text(self.mark)
        return str(json.loads(mark)) if mark else ""

    def refuse_if_halted(self) -> None:
        """Raise if somebody has stopped the managers of this host."""
        why = self.halted()
        if why:
            raise Problem("halted", "managers of this host are stopped: %s" % why)

    def refuse_if_ours_and_halted(self) -> None:
        """Raise if we are the manager that somebody has stopped: what a person does is their own affair."""
        if self.ours():
            self.refuse_if_halted()
