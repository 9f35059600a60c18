"""What a guest on a simulated host does, from its kernel's command line: `xl.cfg` has no word for it.

    extra = "workload=key-value busy=2"

`workload=` is a name of `domicile.simulator.workloads`, `busy=` how many of the vCPUs do it, the others idle. `busy=`
is also what the tiny guests of the lab take (`domicile.lab.guests`), so that one configuration serves both. A guest
without either is busy on all vCPUs; other words are the kernel's own.
"""

from __future__ import annotations

import re

from domicile.errors import BadInput
from domicile.hosts.simulated.state import BUSY
from domicile.state.request import GuestRequest

__all__ = ["asked_workload"]


def asked_workload(request: GuestRequest) -> tuple[str, int | None]:
    """The workload's name, and how many vCPUs it keeps busy (None for all). Raises `BadInput` for a name or a number
    that is none. As with a kernel, the last of equal words counts."""
    words = dict(word.split("=", 1) for word in request.kernel_arguments.split() if "=" in word)
    workload, busy = words.get("workload", BUSY), words.get("busy")
    if "workload" in words:
        # imported here: who says nothing of workloads needs none
        from domicile.simulator.workloads import WORKLOADS  # noqa: PLC0415

        if workload not in WORKLOADS:
            raise _error(request, f"workload={workload} is none of {', '.join(sorted(WORKLOADS))}")
    if busy is None:
        return workload, None
    if not re.fullmatch(r"[0-9]{1,6}", busy, re.ASCII):
        raise _error(request, f"busy={busy} is no number of vCPUs")
    return workload, min(int(busy), request.max_vcpus)


def _error(request: GuestRequest, problem: str) -> BadInput:
    return BadInput(request.source or request.name, f"on the kernel's command line, {problem}")
