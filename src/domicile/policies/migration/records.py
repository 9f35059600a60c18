"""What is said of a way to move a domain: records without arithmetic, for those who decide and those who act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["LIVE_PAUSE_S", "RATE_MIB_S", "USUAL_PERMITS", "Cost", "Option", "Permits", "Way"]

RATE_MIB_S = 1e9 / 2**20
"""1 GB/s: what one process gets done that copies through a pipe. An assumption, the simulator's too."""

LIVE_PAUSE_S = 1.0
"""A pause that a guest's network connections and its users take for a hiccup: TCP's first retransmissions wait 0.2 to 1
s (RFC 6298), and Clark et al. (NSDI 2005) count pauses below a second as live. An assumption."""


class Way(StrEnum):
    """How a domain gets to other nodes of its host."""

    LIVE = "live"
    """Live migration to the host itself: all memory moves while the domain runs, needs it twice meanwhile, and pauses
    it shortly at the end. PVH and HVM. The domain has a new id afterwards, and its name and UUID."""
    SAVE = "save"
    """Save and restore: all memory moves, the guest stands still for all of it, disk space for its memory is needed.
    The domain has a new id afterwards, and its name and UUID."""
    BALLOON = "balloon"
    """A new node-affinity, then ballooned down and up again: what the guest can free moves, without a pause."""
    VCPUS = "vcpus"
    """Memory stays where it is; soft affinity brings the vCPUs to it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a move comes to when nothing changes meanwhile.

    `moved_mib`: memory that is elsewhere afterwards; `copied_mib`: what is copied for it, rounds and files included.
    `time_s` from beginning to end, `pause_s` of it the guest stands still. `twice_mib`: by node, what has to be free
    there when it begins, beside what the domain has there; `disk_mib`: for the file of a saved domain. `slowdown_s`:
    time that the guest and all others lose by it together, in domain-seconds, the unit of a gain in slowdown times
    seconds.
    """

    moved_mib: float = 0.0
    time_s: float = 0.0
    pause_s: float = 0.0
    twice_mib: Mapping[int, int] = field(default_factory=dict, hash=False)
    slowdown_s: float = 0.0
    copied_mib: float = 0.0
    disk_mib: float = 0.0
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Option:
    """One way to these nodes. `memory_mib`: by node, what the domain has there afterwards; `cost` is None where it
    cannot be told. `refused`: "" where it can be gone, else the reason, in one line."""

    way: Way
    nodes: tuple[int, ...]
    memory_mib: Mapping[int, int] = field(hash=False)
    cost: Cost | None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Permits:
    """What the administrator's intent lets be done to a domain, and what is known of it beside the snapshot.

    `pause_s`: for how long it may stand still. `live_pause_s`: the same for the end of a live migration, if that is
    longer. `rate_mib_s`: no more is copied in a second. `may_move`: it is not one that is to be left alone; `why` says
    who said so. `dirty_mib_s`: memory that it writes in a second, page by page; None where nobody knows, then it is
    worked out from `busy_vcpus`, how many of its vCPUs want to run at once (None: all that are online). `minimum_mib`:
    it may be ballooned down to this; None: not at all. `disk_mib`: room for the file of a saved domain; None: not
    known, and for the one who acts to find out. `counts`: what its slowdown counts, that of others being
    1 on average.
    """

    pause_s: float = 0.0
    rate_mib_s: float = RATE_MIB_S
    may_move: bool = True
    dirty_mib_s: float | None = None
    minimum_mib: int | None = None
    live_pause_s: float = LIVE_PAUSE_S
    busy_vcpus: float | None = None
    disk_mib: float | None = None
    counts: float = 1.0
    why: str = "domicile.toml says that it is left alone"

    def __post_init__(self) -> None:
        if not self.rate_mib_s > 0.0:
            raise ValueError(f"a copy at {self.rate_mib_s} MiB/s never ends")


USUAL_PERMITS = Permits()
"""What may be done to a domain that the intent says nothing of."""
