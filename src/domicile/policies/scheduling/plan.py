"""What a round of scheduling wants changed, and why. Plans are data; nothing here acts."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Holding", "LettingGo", "SchedulingPlan", "SoftChange"]


@dataclass(frozen=True, slots=True)
class SoftChange:
    """Give all vCPUs of a domain this soft affinity. `before` has what each has now, `gain` is what the prediction for
    all domains together gets better by, in slowdown.
    """

    domain: str
    uuid: str
    nodes: tuple[int, ...]
    cpus: frozenset[int]
    before: tuple[tuple[int, frozenset[int]], ...]
    gain: float
    reason: str


@dataclass(frozen=True, slots=True)
class Holding:
    """Keep a vCPU that the scheduler took away on these CPUs: as long as the manager is there and they have room.

    `away` is the share of its time that it ran elsewhere.
    """

    domain: str
    uuid: str
    vcpu: int
    cpus: frozenset[int]
    before: frozenset[int]
    away: float
    reason: str


@dataclass(frozen=True, slots=True)
class LettingGo:
    """End a hold."""

    domain: str
    uuid: str
    vcpu: int
    reason: str


@dataclass(frozen=True, slots=True)
class SchedulingPlan:
    """In the order in which it is to be done: what is let go, then soft affinity, then holds. `left` says which domains
    are left alone and why."""

    let_go: tuple[LettingGo, ...] = ()
    soft: tuple[SoftChange, ...] = ()
    hold: tuple[Holding, ...] = ()
    left: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.let_go or self.soft or self.hold)
