"""`xl cpupool-list -c`, which gives the pools' CPUs, and `xl cpupool-list`, which gives their schedulers.

Source: main_cpupoollist in tools/xl/xl_cpupool.c (Xen 4.2 to 4.22). A name is printed as "%-19s" with nothing after it:
one of 19 characters or more is glued to what follows.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from domicile.hosts.xen.tables import matches, nonsense

__all__ = ["parse_cpupool_cpus", "parse_cpupool_schedulers"]

CPUS_COMMAND = "xl cpupool-list -c"
SCHEDULERS_COMMAND = "xl cpupool-list"
NAME_WIDTH = 19

CPUS_ROW = re.compile(r"(?P<name>.*?)(?P<cpus>[0-9]{1,5}(?:,[0-9]{1,5})*)?", re.ASCII)
SCHEDULERS_ROW = re.compile(
    r"(?P<name>.*?) *(?P<count>[0-9]{1,5}) +(?P<scheduler>[a-z0-9]+) +[yn] +(?P<domains>[0-9]+) *", re.ASCII
)


def parse_cpupool_cpus(text: str, names: Collection[str] = ()) -> dict[str, frozenset[int]]:
    """Name to CPUs of each pool; `names` (where known) tell where a long name ends. Raises `HostFailed`."""
    pools: dict[str, frozenset[int]] = {}
    for number, match in matches(text, CPUS_ROW, CPUS_COMMAND):
        line = match.string
        name = max((known for known in names if line.startswith(known)), key=len, default="")
        if not name:
            # a short name is padded; of a long one the digits at its end cannot be told from the first CPU
            name = line[:NAME_WIDTH].rstrip() if line[:NAME_WIDTH].endswith(" ") else match["name"]
        rest = line[len(name) :].strip()
        if not name or not re.fullmatch(r"(?:[0-9]{1,5}(?:,[0-9]{1,5})*)?", rest, re.ASCII):
            raise nonsense(CPUS_COMMAND, number, line)
        pools[name] = frozenset(int(cpu) for cpu in rest.split(",") if cpu)
    return pools


def parse_cpupool_schedulers(text: str) -> dict[str, str]:
    """Name to scheduler ("credit2") of each pool. Raises `HostFailed` for a garbled table."""
    return {match["name"]: match["scheduler"] for _, match in matches(text, SCHEDULERS_ROW, SCHEDULERS_COMMAND)}
