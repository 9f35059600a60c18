"""Processes, told apart from later ones of the same id."""

import re
from typing import NamedTuple, Optional

from domicile.hosts.xen.dom0.files import read_text


class Owner(NamedTuple):
    """A process, told apart from a later one of the same id by the time it started (field 22 of /proc/PID/stat)."""

    pid: int
    start: str

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.start != "" and start_time(self.pid) == self.start


def start_time(pid: int) -> Optional[str]:
    """When a process started, in ticks since boot; None if it is gone (or a zombie, which holds nothing)."""
    fields = read_text("/proc/%d/stat" % pid).rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else None


def owner_from(line: str) -> Owner:
    """The owner named in a record's line; one that cannot be alive for a line of another form."""
    match = re.match(r"(\d+) (\d+)\Z", line.strip())
    return Owner(int(match.group(1)), match.group(2)) if match else Owner(0, "")
