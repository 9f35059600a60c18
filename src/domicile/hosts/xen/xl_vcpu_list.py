"""`xl vcpu-list`: every vCPU, where it ran last, and its affinity.

Source: print_vcpuinfo in tools/xl/xl_vcpu.c (Xen 4.5 to 4.22). Names may hold spaces, so rows are read from the right.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from domicile.hosts.xen.cpu_list import LIST, is_list
from domicile.hosts.xen.tables import LONGEST, lines, matched

__all__ = ["VcpuRow", "parse_vcpu_table"]

COMMAND = "xl vcpu-list"

ROW = re.compile(
    r"(?P<name>.*\S) +(?P<domain>\d{1,5}) +(?P<vcpu>\d{1,5}) +(?P<cpu>\d{1,5}|-) +"
    rf"(?P<state>[-r][-b][-p]) +(?P<time>\d+\.\d) +(?P<hard>{LIST}) / (?P<soft>{LIST})",
    re.ASCII,
)


USUAL = re.compile(
    r"^(?:\S+ +(\d{1,5}) +(\d{1,5}) +(\d{1,5}|-) +([-r][-b][-p]) +(\d+\.\d) +(\S+) / (\S+)|(.*))$",
    re.ASCII | re.MULTILINE,
)
"""Every line of a table: a row that holds no space in its name or its affinities, as nearly all are, or the whole line.
With no space there is only one way of reading it, and no way back to be tried, as from the end of a name."""


class VcpuRow(NamedTuple):
    """A vCPU; `cpu` is None while it is offline; `hard` and `soft` are lists as printed.

    A tuple, because a thousand are made in a moment and then let go.
    """

    domain: int
    vcpu: int
    cpu: int | None
    running: bool
    blocked: bool
    time_s: float
    hard: str
    soft: str


def parse_vcpu_table(text: str) -> list[VcpuRow]:
    """The rows. Raises `HostFailed` for a garbled table."""
    return _usual_rows(text) or [_row(matched(line, number, ROW, COMMAND)) for number, line in lines(text, COMMAND)]


def _usual_rows(text: str) -> list[VcpuRow]:
    """The rows of a table of which most are usual: far faster than with `ROW`, which judges all others. None where
    there is no heading, or a line is longer than any can be."""
    found: list[VcpuRow] = []
    every = text.split("\n")
    if not every[0].startswith("Name") or max(map(len, every)) > LONGEST:
        return found
    for number, (domain, vcpu, cpu, state, time_s, hard, soft, _) in enumerate(USUAL.findall(text)[1:], start=1):
        line = every[number]
        if domain and is_list(hard) and is_list(soft):
            place = None if cpu == "-" else int(cpu)
            running, blocked = state[0] == "r", state[1] == "b"
            found.append(VcpuRow(int(domain), int(vcpu), place, running, blocked, float(time_s), hard, soft))
        elif line and not line.isspace():
            found.append(_row(matched(line, number + 1, ROW, COMMAND)))
    return found


def _row(match: re.Match[str]) -> VcpuRow:
    return VcpuRow(
        domain=int(match["domain"]),
        vcpu=int(match["vcpu"]),
        cpu=None if match["cpu"] == "-" else int(match["cpu"]),
        running=match["state"][0] == "r",
        blocked=match["state"][1] == "b",
        time_s=float(match["time"]),
        hard=match["hard"],
        soft=match["soft"],
    )
