"""`xl list -v -c -n`: the domains.

Source: list_domains in tools/xl/xl_info.c (Xen 4.2 to 4.22). Names may hold spaces, so rows are read from the right.
The memory includes what is claimed and not taken yet. The name of a domain without one is "(null)".
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from domicile.hosts.xen.cpu_list import LIST
from domicile.hosts.xen.tables import matches

__all__ = ["NO_NAME", "ListRow", "parse_list_table"]

COMMAND = "xl list -v -c -n"
NO_NAME = "(null)"

ROW = re.compile(
    r"(?P<name>.*\S) +(?P<id>\d{1,5}) +(?P<memory>\d{1,12}) +(?P<vcpus>\d{1,5}) +"
    r"(?P<state>[-r][-b][-p][-s][-rscwS?][-d]) +(?P<time>\d+\.\d) "
    r"(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) +(?P<reason>-|[0-9a-f]+) +"
    rf"(?P<label_and_pool>\S.*) (?P<nodes>{LIST})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ListRow:
    """A domain. `nodes` is its node affinity as printed; `memory_mib` includes its claim."""

    id: int
    name: str
    uuid: str
    memory_mib: int
    online_vcpus: int
    time_s: float
    cpupool: str
    nodes: str
    paused: bool
    shut_down: bool
    dying: bool


def parse_list_table(text: str, cpupools: Collection[str]) -> list[ListRow]:
    """The rows; `cpupools` are the pools there are. Raises `HostFailed` for a garbled table."""
    rows = []
    for _, match in matches(text, ROW, COMMAND):
        state = match["state"]
        rows.append(
            ListRow(
                id=int(match["id"]),
                name=match["name"],
                uuid=match["uuid"],
                memory_mib=int(match["memory"]),
                online_vcpus=int(match["vcpus"]),
                time_s=float(match["time"]),
                cpupool=_pool(match["label_and_pool"], cpupools),
                nodes=match["nodes"],
                paused=state[2] == "p",
                shut_down=state[3] == "s",
                dying=state[5] == "d",
            )
        )
    return rows


def _pool(label_and_pool: str, cpupools: Collection[str]) -> str:
    """The pool, which a name of 16 characters glues to the security label ("%16s" twice, no space in between)."""
    known = [pool for pool in cpupools if label_and_pool.endswith(pool)]
    return max(known, key=len, default="") or label_and_pool.rsplit(maxsplit=1)[-1]
