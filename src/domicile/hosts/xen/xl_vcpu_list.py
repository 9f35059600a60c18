"""`xl vcpu-list`: every vCPU, where it ran last, and its affinity.

Source: print_vcpuinfo in tools/xl/xl_vcpu.c (Xen 4.5 to 4.22). Names may hold spaces, so rows are read from the right.
"""

from __future__ import annotations

import re
from itertools import product
from typing import NamedTuple

from domicile.hosts.xen.cpu_list import LIST, is_list
from domicile.hosts.xen.tables import is_plain, lines, matched

__all__ = ["VcpuRow", "parse_vcpu_table"]

COMMAND = "xl vcpu-list"

ROW = re.compile(
    r"(?P<name>.*\S) +(?P<domain>\d{1,5}) +(?P<vcpu>\d{1,5}) +(?P<cpu>\d{1,5}|-) +"
    rf"(?P<state>[-r][-b][-p]) +(?P<time>\d+\.\d) +(?P<hard>{LIST}) / (?P<soft>{LIST})",
    re.ASCII,
)


STATES = frozenset(map("".join, product("-r", "-b", "-p")))


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
    return [_usual_row(line) or _row(matched(line, number, ROW, COMMAND)) for number, line in lines(text, COMMAND)]


def _usual_row(line: str) -> VcpuRow | None:
    """A row whose affinities hold no space, split: three times as fast as the expression, which judges all others."""
    words = line.rsplit(None, 8)
    if len(words) != 9 or not is_plain(line):
        return None
    _, domain, vcpu, cpu, state, time_s, hard, _, soft = words
    numbers = domain.isdigit() and vcpu.isdigit() and (cpu.isdigit() or cpu == "-")
    if not (numbers and len(domain) < 6 and len(vcpu) < 6 and len(cpu) < 6 and state in STATES):
        return None
    if not (time_s[-2:-1] == "." and time_s[-1].isdigit() and time_s[:-2].isdigit()):
        return None
    if not (is_list(hard) and is_list(soft) and line.endswith(f" {hard} / {soft}")):
        return None
    at = None if cpu == "-" else int(cpu)
    return VcpuRow(int(domain), int(vcpu), at, state[0] == "r", state[1] == "b", float(time_s), hard, soft)


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
