"""`xl`: where it is, and running it without losing sight of the client."""

import os
import time
from typing import Any, Iterable, List, Sequence

from domicile.hosts.xen.dom0.agent.child import Child, Done, how_it_failed
from domicile.hosts.xen.dom0.agent.link import Link
from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.bindings import xen_version
from domicile.hosts.xen.dom0.programs import search_path

QUICK_S = 60.0
UNKILLABLE_S = 5.0


def find_xl() -> str:
    """Where `xl` is. Debian's is a script that starts the running version's own: start that one straight away."""
    candidates = ["/usr/lib/xen-%s/bin/xl" % xen_version()]
    candidates += [os.path.join(folder, "xl") for folder in search_path().split(":")]
    for path in candidates:
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    raise Problem("failed", "there is no xl")


class Xl:
    """Runs `xl`."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.path = find_xl()
        self.programs_run = 0

    def run(self, commands: Iterable[Sequence[str]], limit_s: float, before: Any = None) -> List[Done]:
        """Run `xl` with each of these arguments, all at the same time."""
        children = [Child([self.path, *arguments], before) for arguments in commands]
        self.programs_run += len(children)
        deadline = time.monotonic() + limit_s
        busy = children
        while busy and time.monotonic() < deadline + UNKILLABLE_S:
            if time.monotonic() > deadline:
                for child in busy:
                    child.kill()
            pipes = [pipe for child in busy for pipe in child.open]
            ready, _ = self.link.wait(0.2 if pipes else 0.002, reading=pipes)
            for child in busy:
                for pipe in [pipe for pipe in ready if pipe in child.open]:
                    child.take(pipe)
            busy = [child for child in busy if child.busy()]
        return [child.done() for child in children]

    def ask(self, *commands: Sequence[str], strict: bool = False) -> List[str]:
        """What `xl` prints for each of these; raises if one fails, or if `strict` and it complains."""
        outs = []
        for arguments, done in zip(commands, self.run(commands, QUICK_S)):  # noqa: B905
            if done.status is None:
                raise Problem("failed", "xl %s did not end within %d s" % (arguments[0], QUICK_S), done.err)
            if done.status != 0 or (strict and "libxl: error:" in done.err):
                raise Problem("failed", "xl %s %s" % (arguments[0], how_it_failed(done)), done.err or done.out)
            outs.append(done.out)
        return outs
