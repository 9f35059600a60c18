"""What is to be done about a guest's virtual topology: nothing, keep one, work one out, or the next best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from domicile.errors import Refused
from domicile.policies.vnuma.design import obstacle, width_of
from domicile.policies.vnuma.keep import unfit
from domicile.state.model import DomainType, Snapshot, Vnode
from domicile.state.request import GuestRequest, Intent, VnumaMode

__all__ = ["Kind", "Task", "task_of"]


class Kind(Enum):
    """What is to be done."""

    NONE = auto()
    KEEP = auto()
    DESIGN = auto()
    LISTS = auto()
    """No virtual nodes can be had: a soft affinity for each vCPU instead."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done for a guest: `why` for a person; `count` virtual nodes, 0 for as many as are best, at least
    `least`; `vnodes` to be kept."""

    kind: Kind
    why: str = ""
    count: int = 0
    least: int = 2
    vnodes: tuple[Vnode, ...] = ()


def task_of(snapshot: Snapshot, request: GuestRequest, intent: Intent, *, unasked: bool) -> Task:
    """What is to be done for a guest; with `unasked` also where only its width asks for it. Raises `Refused` where what
    is asked for cannot be."""
    if request.vnodes:
        return _configured(request)
    wish = intent.vnuma_of(request.name)
    if wish is VnumaMode.OFF:
        return Task(Kind.NONE)
    count = 0 if isinstance(wish, VnumaMode) else wish
    note = ""
    if request.recorded and count in (0, len(request.recorded)) and not obstacle(request):
        problem = unfit(request.recorded, request)
        if not problem:
            loose = tuple(replace(vnode, pnode=None) for vnode in request.recorded)
            return Task(Kind.KEEP, "keeps the virtual nodes that it had", vnodes=loose)
        note = f"not the virtual nodes that it had ({problem}); "
    if count:
        return _asked(request, count, note)
    if unasked and request.soft_affinity is None:
        return _by_width(snapshot, request, note)
    return Task(Kind.NONE)


def _configured(request: GuestRequest) -> Task:
    """The configuration itself sets virtual nodes."""
    if request.type is not DomainType.HVM:
        raise Refused(f"{request.name}: {obstacle(request)}; leave vnuma= out")
    if all(vnode.pnode is not None for vnode in request.vnodes):
        return Task(Kind.NONE, "virtual nodes are where the configuration says")
    return Task(Kind.KEEP, "the configuration's virtual nodes", vnodes=request.vnodes)


def _asked(request: GuestRequest, count: int, note: str) -> Task:
    """So many virtual nodes are wanted."""
    problem = obstacle(request)
    if problem and request.type is DomainType.HVM:
        raise Refused(f"{request.name}: cannot have {count} virtual nodes: {problem}")
    if problem:
        return Task(Kind.LISTS, problem, count=count)
    return Task(Kind.DESIGN, f"{note}asked for", count=count)


def _by_width(snapshot: Snapshot, request: GuestRequest, note: str) -> Task:
    """Nobody asked: its width decides."""
    width = width_of(snapshot, request)
    if not width.reason or request.max_vcpus < 2:
        return Task(Kind.NONE)
    problem = obstacle(request)
    if problem:
        return Task(Kind.LISTS, f"wider than a node ({width.reason}), but {problem}")
    return Task(Kind.DESIGN, f"{note}wider than a node ({width.reason})", least=max(width.least_nodes, 2))
