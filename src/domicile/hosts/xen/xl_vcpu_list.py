"""`xl vcpu-list`: every vCPU, where it ran last, and its affinity.

Source: print_vcpuinfo in tools/xl/xl_vcpu.c (Xen 4.5 to 4.22). Names may hold spaces, so rows are read from the right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from domicile.hosts.xen.cpu_list import LIST
from domicile.hosts.xen.tables import matches

__all__ = ["VcpuRow", "parse_vcpu_table"]

COMMAND = "xl vcpu-list"

ROW = re.compile(
    r"(?P<name>.*\S) +(?P<domain>\d{1,5}) +(?P<vcpu>\d{1,5}) +(?P<cpu>\d{1,5}|-) +"
    rf"(?P<state>[-r][-b][-p]) +(?P<time>\d+\.\d) +(?P<hard>{LIST}) / (?P<soft>{LIST})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class VcpuRow:
    """A vCPU; `cpu` is None while it is offline; `hard` and `soft` are lists as printed."""

    domain: int
    vcpu: int
    cpu: int | None
    running: bool
    time_s: float
    hard: str
    soft: str


def parse_vcpu_table(text: str) -> list[VcpuRow]:
    """The rows. Raises `HostFailed` for a garbled table."""
    return [
        VcpuRow(
            domain=int(match["domain"]),
            vcpu=int(match["vcpu"]),
            cpu=None if match["cpu"] == "-" else int(match["cpu"]),
            running=match["state"][0] == "r",
            time_s=float(match["time"]),
            hard=match["hard"],
            soft=match["soft"],
        )
        for _, match in matches(text, ROW, COMMAND)
    ]
