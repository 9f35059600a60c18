"""Memory that is promised to domains which are not there yet."""

import json
import os
from typing import Any, Dict, List

from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.agent.shelf import TOKEN, Shelf
from domicile.hosts.xen.dom0.files import read_text, remove, write


class Reservations:
    """The reservations on the shelf, whoever made them."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def generation(self) -> str:
        """Names the state of the reservations: changes with each one made, and with each boot."""
        boot = read_text("/proc/sys/kernel/random/boot_id")[:8]
        return "%s-%d" % (boot, int(read_text(self.shelf.path("generation")) or 0))

    def live(self) -> List[Any]:
        """The reservations whose owners live; the others are dropped. Call it with the lock held."""
        live = []
        for path, owner, lines in self.shelf.records("reservations"):
            if owner.alive() and lines:
                live.append(json.loads(lines[0]))
            else:
                remove(path)
        return live

    def reserve(self, token: str, expected_generation: str, reservation: Dict[str, Any]) -> Dict[str, Any]:
        """Record a reservation, unless another was made since."""
        if not TOKEN.match(token):
            raise Problem("failed", "%r cannot be a reservation's token" % token)
        with self.shelf.locked():
            self.live()
            found = self.generation()
            if found != expected_generation:
                raise Problem(
                    "conflict", "reservations changed since the snapshot (%s, now %s)" % (expected_generation, found)
                )
            path = self.shelf.path("reservations", token)
            if os.path.exists(path):
                raise Problem("failed", "reservation %s is there already" % token)
            write(path, "%d %s\n%s\n" % (*self.shelf.me, json.dumps(reservation)))
            write(self.shelf.path("generation"), "%d\n" % (int(found.rpartition("-")[2]) + 1))
            return {"generation": self.generation()}

    def release(self, token: str) -> Dict[str, Any]:
        """End a reservation."""
        if TOKEN.match(token):
            with self.shelf.locked():
                remove(self.shelf.path("reservations", token))
        return {}
