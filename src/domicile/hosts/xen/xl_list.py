"""`xl list -v -c -n`: the domains.

Source: list_domains in tools/xl/xl_info.c (Xen 4.2 to 4.22). Names may hold spaces, so rows are read from the right.
The memory includes what is claimed and not taken yet. The name of a domain without one is "(null)".
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from domicile.hosts.xen.cpu_list import LIST, is_list
from domicile.hosts.xen.tables import is_plain, lines, matched

__all__ = ["NO_NAME", "ListRow", "parse_list_table"]

COMMAND = "xl list -v -c -n"
NO_NAME = "(null)"

STATE = "[-r][-b][-p][-s][-rscwS?][-d]"
UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
ROW = re.compile(
    r"(?P<name>.*\S) +(?P<id>\d{1,5}) +(?P<memory>\d{1,12}) +(?P<vcpus>\d{1,5}) +"
    rf"(?P<state>{STATE}) +(?P<time>\d+\.\d) (?P<uuid>{UUID}) +(?P<reason>-|[0-9a-f]+) +"
    rf"(?P<label_and_pool>\S.*) (?P<nodes>{LIST})",
    re.ASCII,
)


class ListRow(NamedTuple):
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
    usual = frozenset() if any(" " in pool for pool in cpupools) else frozenset(cpupools)
    return [
        _usual_row(line, usual) or _row(matched(line, number, ROW, COMMAND), cpupools)
        for number, line in lines(text, COMMAND)
    ]


def _usual_row(line: str, cpupools: frozenset[str]) -> ListRow | None:
    """A row of a domain that lives, with no security label, in one of these pools: split, which takes a third of what
    the expression takes. That judges all others.
    """
    words = line.rsplit(None, 10)
    if len(words) != 11 or not is_plain(line):
        return None
    name, number, memory, vcpus, state, time_s, uuid, reason, label, pool, nodes = words
    if reason != "-" or label != "-" or pool not in cpupools or not (_is_state(state) and _is_uuid(uuid)):
        return None
    numbers = number.isdigit() and memory.isdigit() and vcpus.isdigit()
    if not numbers or len(number) > 5 or len(memory) > 12 or len(vcpus) > 5:
        return None
    time = time_s[-2:-1] == "." and time_s[-1].isdigit() and time_s[:-2].isdigit() and f" {time_s} {uuid} " in line
    if not (time and is_list(nodes) and line.endswith(f" {nodes}")):
        return None
    return ListRow(
        int(number),
        name,
        uuid,
        int(memory),
        int(vcpus),
        float(time_s),
        pool,
        nodes,
        paused=state[2] == "p",
        shut_down=state[3] == "s",
        dying=state[5] == "d",
    )


def _row(match: re.Match[str], cpupools: Collection[str]) -> ListRow:
    state = match["state"]
    return ListRow(
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


@lru_cache(maxsize=4096)
def _is_uuid(text: str) -> bool:
    return re.fullmatch(UUID, text) is not None


@lru_cache(maxsize=256)
def _is_state(text: str) -> bool:
    return re.fullmatch(STATE, text) is not None


def _pool(label_and_pool: str, cpupools: Collection[str]) -> str:
    """The pool, which a name of 16 characters glues to the security label ("%16s" twice, no space in between)."""
    known = [pool for pool in cpupools if label_and_pool.endswith(pool)]
    return max(known, key=len, default="") or label_and_pool.rsplit(maxsplit=1)[-1]
