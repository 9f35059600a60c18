"""Memory on its way from nodes to others: what was ordered of a host, and how far that is.

A move belongs to the host, not to the connection that asked for it: it goes on when that breaks, and is listed in
snapshots until somebody has taken note of how it ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["INCOMING", "MoveEnd", "MoveOrder", "MoveState", "MoveWay"]

INCOMING = "--incoming"
"""What Xen's tools put behind the name of a domain that is being received (tools/xl/xl_vmcontrol.c, 4.17)."""


class MoveWay(StrEnum):
    """How memory gets to other nodes of its own host. All of it stays with the domain, which keeps name and UUID."""

    LIVE = "live"
    """A copy is made while the domain runs, which needs the memory twice. PVH and HVM."""
    SAVE = "save"
    """The domain stands still while it is written to a file and read back."""
    BALLOON = "balloon"
    """What the guest can free, it gives back and takes anew."""


class MoveEnd(StrEnum):
    """How a move ended."""

    MOVED = "moved"
    FAILED = "failed"
    """The domain runs, most often where it was."""
    LOST = "lost"
    """The domain does not run any more."""


@dataclass(frozen=True, slots=True)
class MoveOrder:
    """What is to be done. `token` names it, unique for ever: letters, digits, "-", "_".

    Its memory is to be on `nodes`, which become its node-affinity; `after_mib` is what it takes of each of them then,
    Xen's own for it included. `hard` and `soft` are the affinity that its vCPUs are to have there, by vCPU (None: Xen's
    choice; a balloon changes none). `memory_mib` is what it has; a balloon goes down to `least_mib` and gives up on a
    guest that does nothing for `limit_s`. No more than `rate_mib_s` are copied at first (0: as fast as it goes); rounds
    that copy again what was written meanwhile, and the last one, are not held up. `weight`, `cap_percent` and `cpupool`
    are what it has now.
    """

    token: str
    domain: str
    uuid: str
    way: MoveWay
    nodes: tuple[int, ...]
    memory_mib: int
    after_mib: Mapping[int, int]
    hard: tuple[frozenset[int], ...] | None = None
    soft: tuple[frozenset[int], ...] | None = None
    least_mib: int = 0
    rate_mib_s: float = 0.0
    limit_s: float = 60.0
    weight: int = 256
    cap_percent: int = 0
    cpupool: str = ""


@dataclass(frozen=True, slots=True)
class MoveState:
    """A move on a host. `stage` is for a person, `done_mib` of `order.memory_mib` are behind it; `taken_mib` is what
    the domain's second copy has got so far. `end` is None while it goes on, `why` says why it failed.
    """

    order: MoveOrder
    stage: str = ""
    done_mib: int = 0
    taken_mib: int = 0
    end: MoveEnd | None = None
    why: str = ""
