"""The files in `/run/domicile`: what agents have to know of each other (the package says what they hold)."""

import errno
import fcntl
import os
import re
import stat
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, Tuple

from domicile.hosts.xen.dom0.agent.problem import Problem
from domicile.hosts.xen.dom0.files import read_text, remove
from domicile.hosts.xen.dom0.owner import Owner, owner_from, start_time

RUN_DIR = os.environ.get("DOMICILE_RUN_DIR", "/run/domicile")
LOCK_S = 30.0
TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
"""Names a reservation or a move: it becomes a file's name."""


class Shelf:
    """The files in RUN_DIR, and locks on them."""

    def __init__(self, wait: Callable[[float], Any]) -> None:
        self.wait = wait
        self.me = Owner(os.getpid(), start_time(os.getpid()) or "")
        for folder in (RUN_DIR, *map(self.path, ("reservations", "building", "holds", "office", "moves"))):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.lstat(RUN_DIR)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise Problem("failed", "%s is not a folder that only its owner can use; remove it" % RUN_DIR)

    def path(self, *names: str) -> str:
        """A file in RUN_DIR."""
        return os.path.join(RUN_DIR, *names)

    @contextmanager
    def locked(self, name: str = "lock") -> Iterator[None]:
        """Hold a lock. A holder that dies lets go of it; one that hangs is an error after LOCK_S."""
        descriptor = os.open(self.path(name), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                        raise
                if time.monotonic() > deadline:
                    raise Problem("failed", "another domicile has held %s for %d s" % (self.path(name), LOCK_S))
                self.wait(0.02)
            yield
        finally:
            os.close(descriptor)

    def records(self, folder: str) -> List[Tuple[str, Owner, List[str]]]:
        """Path, owner and further lines of each record; one that makes no sense has an owner that is dead."""
        found = []
        for name in sorted(os.listdir(self.path(folder))):
            path = self.path(folder, name)
            lines = read_text(path).split("\n")
            if not name.startswith(".") and not name.endswith(".cfg") and lines != [""]:
                found.append((path, owner_from(lines[0]), lines[1:]))
        return found

    def held(self, record: str) -> Tuple[Owner, str]:
        """Who a record belongs to and what it says; nobody and nothing if there is none."""
        lines = read_text(record).split("\n")
        return owner_from(lines[0]), lines[1] if lines[1:] else ""

    def drop_own(self, *folders: str) -> None:
        """Remove what we have in these folders."""
        for folder in folders:
            for path, owner, _ in self.records(folder):
                if owner == self.me:
                    remove(path)
