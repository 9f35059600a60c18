"""Holds: hard affinity that a vCPU is given for as long as whoever gave it is there."""

import os
from contextlib import suppress
from typing import Any, Dict, List

from domicile.hosts.xen.dom0.agent.domains import Domains
from domicile.hosts.xen.dom0.agent.office import Office
from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.agent.shelf import Shelf
from domicile.hosts.xen.dom0.agent.xen import Xen
from domicile.hosts.xen.dom0.files import remove, write


class Holds:
    """The holds on the shelf, whoever made them."""

    def __init__(self, xen: Xen, shelf: Shelf, domains: Domains, office: Office) -> None:
        self.xen = xen
        self.shelf = shelf
        self.domains = domains
        self.office = office

    def hold(self, name: str, uuid: str, vcpu: int, before: str, held: str) -> Dict[str, Any]:
        """Give a vCPU another hard affinity for as long as we are there; `before` is what it gets back."""
        row = self.domains.the_very(name, uuid)
        record = self.shelf.path("holds", "%s.%d" % (uuid, vcpu))
        with self.shelf.locked():
            self.office.refuse_if_halted()
            owner, line = self.shelf.held(record)
            if owner.alive() and owner != self.shelf.me:
                raise Problem("refused", "vCPU %d of %s is held by process %d" % (vcpu, name, owner.pid))
            had, given = line.split() if line else (before, held)
            if not line and self.xen.hard_affinity(row.id, vcpu) != before:
                raise Problem("conflict", "the hard affinity of vCPU %d of %s has changed" % (vcpu, name))
            if line and self.xen.hard_affinity(row.id, vcpu) != given:
                remove(record)
                raise Problem("conflict", "somebody else set the hard affinity of vCPU %d of %s" % (vcpu, name))
            # what it had is on file before it changes, so that whatever ends us, it gets it back
            write(record, "%d %s\n%s %s\n" % (*self.shelf.me, had, held))
            self.xen.pin(row.id, vcpu, held, "-")
        return {}

    def let_go(self, uuid: str, vcpu: int) -> Dict[str, Any]:
        """Give a vCPU the hard affinity back that it had before it was held here."""
        with self.shelf.locked():
            self.give_back(self.shelf.path("holds", "%s.%d" % (uuid, vcpu)))
        return {}

    def halt(self, why: Any) -> Dict[str, Any]:
        """Stop every manager of this host and end all holds, whoever made them; None lets managers start again."""
        kept: List[str] = []
        with self.shelf.locked():
            if why is None:
                self.office.reopen()
                return {}
            # the mark first: killed in between, nobody holds anew what was let go
            self.office.close(why)
            for path, _, _ in self.shelf.records("holds"):
                try:
                    self.give_back(path)
                except (Problem, OSError, ValueError) as error:
                    # the record stays: whoever made it tries again when it ends, and so does the next agent
                    kept.append(str(error))
        if kept:
            raise Problem("failed", "managers are stopped, but %d vCPUs could not be let go: %s" % (len(kept), kept[0]))
        return {}

    def lines(self) -> List[str]:
        """The holds that are in force: "UUID.VCPU BEFORE GIVEN". Call it with the lock held."""
        return [
            os.path.basename(path) + " " + lines[0]
            for path, owner, lines in self.shelf.records("holds")
            if owner.alive() and len(lines[0].split()) == 2
        ]

    def give_back(self, record: str) -> None:
        """Undo a hold, unless somebody else has set that affinity since. Call it with the lock held."""
        _, line = self.shelf.held(record)
        uuid, _, vcpu = os.path.basename(record).rpartition(".")
        if len(line.split()) == 2:
            before, given = line.split()
            for row in self.xen.rows():
                if row.uuid == uuid and not row.dying and self.xen.hard_affinity(row.id, int(vcpu)) == given:
                    self.xen.pin(row.id, int(vcpu), before, "-")
        remove(record)

    def sweep(self) -> None:
        """End the holds of dead agents."""
        if any(not owner.alive() for _, owner, _ in self.shelf.records("holds")):
            with self.shelf.locked():
                for path, owner, _ in self.shelf.records("holds"):
                    if not owner.alive():
                        self.give_back(path)

    def leave(self) -> None:
        """End our own."""
        for path, owner, _ in self.shelf.records("holds"):
            if owner == self.shelf.me:
                # what cannot be given back now keeps its record, and the next agent tries again
                with suppress(Problem, OSError, ValueError), self.shelf.locked():
                    self.give_back(path)
