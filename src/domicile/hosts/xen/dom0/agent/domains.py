"""Domains by name, and their creation: what is created here and never let run does not outlive us."""

import json
import os
import signal
import time
from contextlib import suppress
from typing import Any, Dict, List

from domicile.hosts.xen.dom0.agent.child import Done, how_it_failed
from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.agent.shelf import Shelf
from domicile.hosts.xen.dom0.agent.xen import Xen
from domicile.hosts.xen.dom0.agent.xl_list import only_one
from domicile.hosts.xen.dom0.files import remove, write
from domicile.hosts.xen.dom0.owner import owner_from, start_time
from domicile.hosts.xen.dom0.row import Row


class Domains:
    """Domains by name, and those among them that are being built, here or by others."""

    def __init__(self, xen: Xen, shelf: Shelf) -> None:
        self.xen = xen
        self.shelf = shelf
        self.mine: Dict[str, str] = {}
        """UUID to name of the domains created here and not unpaused."""

    def named(self, name: str) -> List[Row]:
        """The living domains of this name; of several, the one that was created here if there is one."""
        found = [row for row in self.xen.rows() if row.name == name and not row.dying]
        return [row for row in found if row.uuid in self.mine] or found

    def the(self, name: str) -> Row:
        """The one domain of this name."""
        return only_one(self.named(name), name)

    def the_very(self, name: str, uuid: str) -> Row:
        """The one domain of this name, if it has this UUID."""
        row = self.the(name)
        if row.uuid != uuid:
            raise Problem("refused", "domain %d, %s, is another now, of UUID %s" % (row.id, name, row.uuid))
        return row

    def create(self, name: str, uuid: str, config: str, limit_s: float) -> Dict[str, Any]:
        """Start a domain, paused. The configuration sets this name and this UUID."""
        record, file = self.shelf.path("building", uuid), self.shelf.path("building", uuid + ".cfg")
        mark = "%d %s\n%%s\n%s\n" % (*self.shelf.me, json.dumps(name).replace("%", "%%"))
        with self.shelf.locked():
            # two agents must not both find the name free
            for row in self.xen.rows():
                if (row.name == name and not row.dying) or row.uuid == uuid:
                    raise Problem("refused", "domain %d is called %s and has UUID %s" % (row.id, row.name, row.uuid))
            for _, owner, lines in self.shelf.records("building"):
                if owner.alive() and lines[1:2] == [json.dumps(name)]:
                    raise Problem("refused", "process %d is creating a domain called %s" % (owner.pid, name))
            if os.path.exists(record):
                raise Problem("refused", "a domain of UUID %s is being created" % uuid)
            write(record, mark % "")
        self.mine[uuid] = name

        def before() -> None:
            # in the child: whoever finds our record orphaned has to know that xl may still be at work
            write(record, mark % ("%d %s" % (os.getpid(), start_time(os.getpid()))))

        try:
            write(file, config)
            done = self.xen.xl.run([["create", "-q", "-p", file]], limit_s, before)[0]
            return {"id": self.build(uuid, done, limit_s)}
        except Exception as error:
            try:
                self.abandon(uuid)
            except Problem as again:
                message = "%s; and it could not be cleared away (%s)" % (error, again)
                raise Problem("failed", message, getattr(error, "output", "")) from error
            raise
        finally:
            remove(file)

    def build(self, uuid: str, done: Done, limit_s: float) -> int:
        """The id of the domain that `xl create` made; raises if it made none."""
        output = done.err or done.out
        if done.status is None:
            raise Problem("failed", "xl create did not end within %d s" % limit_s, output)
        if done.status != 0:
            raise Problem("failed", "xl create " + how_it_failed(done), output)
        for row in self.xen.rows():
            if row.uuid == uuid:
                return row.id
        raise Problem("failed", "xl create ended well, but there is no domain of UUID %s" % uuid, output)

    def unpause(self, name: str) -> Dict[str, Any]:
        """Let a domain run; from now on it is nobody's."""
        row = self.the(name)
        # 4.17's xl unpause ends with 0 whatever happens
        self.xen.xl.ask(["unpause", str(row.id)], strict=True)
        self.mine.pop(row.uuid, None)
        remove(self.shelf.path("building", row.uuid))
        return {}

    def destroy(self, name: str, uuid: str) -> Dict[str, Any]:
        """Destroy a domain if it is there; with a UUID, only the one that has it."""
        found = [row for row in self.named(name) if uuid in ("", row.uuid)]
        if not found:
            return {}
        row = only_one(found, name)
        self.xen.destroy_row(row)
        self.mine.pop(row.uuid, None)
        remove(self.shelf.path("building", row.uuid))
        return {}

    def abandon(self, uuid: str) -> None:
        """Destroy a domain that was created and never unpaused. One that somebody unpaused is left alone."""
        for row in self.xen.rows():
            if row.uuid == uuid and row.paused and not row.dying:
                self.xen.destroy_row(row)
        self.mine.pop(uuid, None)
        remove(self.shelf.path("building", uuid + ".cfg"))
        remove(self.shelf.path("building", uuid))

    def sweep(self) -> None:
        """Abandon what dead agents were building, after ending an `xl create` of theirs that is still at work."""
        for path, owner, lines in self.shelf.records("building"):
            if owner.alive():
                continue
            builder = owner_from(lines[0] if lines else "")
            if builder.alive():
                for kill in (os.killpg, os.kill):
                    with suppress(ProcessLookupError):
                        kill(builder.pid, signal.SIGKILL)
            while builder.alive():
                self.shelf.wait(0.05)
            self.abandon(os.path.basename(path))

    def leave(self) -> None:
        """Abandon what we created and nobody unpaused."""
        for uuid in list(self.mine):
            for pause_s in (0.2, 1.0, 5.0, 0.0):
                try:
                    self.abandon(uuid)
                    break
                except (Problem, OSError):
                    # what cannot be destroyed now keeps its record, and the next agent tries again
                    time.sleep(pause_s)
