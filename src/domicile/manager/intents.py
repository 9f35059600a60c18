"""What domicile wanted of a host and how far it came: the journal's records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from domicile.local.process import ProcessId
from domicile.state.model import Vnode
from domicile.state.moves import MoveOrder

__all__ = [
    "Act",
    "ActStatus",
    "DomainIntent",
    "Event",
    "IntentStatus",
    "MemoryAct",
    "MoveIntent",
    "MoveStatus",
    "Plan",
    "Seen",
    "Wanted",
]


class IntentStatus(StrEnum):
    """How far an intent came. What is planned or creating is pending: somebody works on it, or died over it."""

    PLANNED = "planned"
    CREATING = "creating"
    ACTIVE = "active"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    """The domain was started again by a later intent."""
    ACKNOWLEDGED = "gone-acknowledged"
    """The administrator knows that it is gone, or does not want it looked after any more."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a domain was to be when it was started.

    `uuid` is known before the start: who finds the domain later knows that it is this one. `soft_affinity` has a set
    for each vCPU, None where scheduling was left to Xen. `config_digest` is the SHA-256 of the configuration as given.
    `vnodes` is its virtual topology, `vnodes_are_ours` whether it was domicile that worked it out, and `video_mib` the
    part of virtual node 0 that is taken from its pnode or from another one's.
    """

    domain: str
    uuid: str
    nodes: tuple[int, ...]
    memory_mib: Mapping[int, int]
    soft_affinity: tuple[frozenset[int], ...] | None
    vcpus: int
    cpupool: str
    config_digest: str
    vnodes: tuple[Vnode, ...] = ()
    vnodes_are_ours: bool = False
    video_mib: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """How the domain was when it had been started, before it ran. `pages_by_node` is None without a memory map."""

    pages_by_node: Mapping[int, int] | None
    hard_affinity: Mapping[int, frozenset[int]]
    soft_affinity: Mapping[int, frozenset[int]]


@dataclass(frozen=True, slots=True)
class DomainIntent:
    """One domain's intent. `owner` is the process that works on it while it is pending."""

    id: int
    plan: int
    status: IntentStatus
    wanted: Wanted
    seen: Seen | None
    owner: ProcessId
    made_at: float
    changed_at: float
    reason: str = ""

    @property
    def pending(self) -> bool:
        """Whether it is not yet known what became of it."""
        return self.status in {IntentStatus.PLANNED, IntentStatus.CREATING}


class ActStatus(StrEnum):
    """How far a change of a vCPU's soft affinity came. What is planned was begun, or died before it was."""

    PLANNED = "planned"
    DONE = "done"
    FAILED = "failed"
    UNDOING = "undoing"
    """Is about to be put back, or was when who did it died."""
    UNDONE = "undone"
    LEFT = "left"
    """Was to be undone, and somebody else had set it since."""


@dataclass(frozen=True, slots=True)
class Act:
    """A change of one vCPU's soft affinity, and why. `id` and `plan` are 0 until it is written down."""

    domain: str
    uuid: str
    vcpu: int
    before: frozenset[int]
    wanted: frozenset[int]
    reason: str
    id: int = 0
    plan: int = 0
    status: ActStatus = ActStatus.PLANNED
    changed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryAct:
    """A change of what a domain's balloon driver is to bring it to, and why. `id` and `plan` are 0 until it is written
    down. What the guest makes of it is another matter.
    """

    domain: str
    uuid: str
    before_mib: int
    wanted_mib: int
    reason: str
    id: int = 0
    plan: int = 0
    status: ActStatus = ActStatus.PLANNED
    changed_at: float = 0.0


class MoveStatus(StrEnum):
    """How far a move of a domain's memory came. What is planned or begun is pending."""

    PLANNED = "planned"
    BEGUN = "begun"
    """The host has it, and goes on with it by itself."""
    MOVED = "moved"
    PARTLY = "partly moved"
    """It ended well, and not all of its memory is where it was to be: Xen takes other nodes without a word."""
    FAILED = "failed"
    """The domain runs, most often as it was."""
    LOST = "lost"
    """The domain does not run any more."""
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class MoveIntent:
    """A move of a domain's memory: what was ordered, why, and how the domain was. `id` and `plan` are 0 until it is
    written down.

    `before` has its pages by node, None where no memory map told; `soft` the soft affinity that its vCPUs had, and
    `seen` where its pages were afterwards. `gain` is the predicted gain in slowdown, over all domains. `undoes` is the
    id of the move that this one puts back, 0 for none.
    """

    order: MoveOrder
    before: Mapping[int, int] | None
    soft: tuple[frozenset[int], ...]
    reason: str
    gain: float = 0.0
    undoes: int = 0
    seen: Mapping[int, int] | None = None
    status: MoveStatus = MoveStatus.PLANNED
    why: str = ""
    id: int = 0
    plan: int = 0
    changed_at: float = 0.0

    @property
    def pending(self) -> bool:
        """Whether it is not yet known what became of it."""
        return self.status in {MoveStatus.PLANNED, MoveStatus.BEGUN}


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided together. `kind` is create, balance, migrate or undo."""

    id: int
    kind: str
    policy: str
    made_at: float
    owner: ProcessId


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the journal: never changed, never removed."""

    id: int
    at: float
    plan: int | None
    intent: int | None
    kind: str
    detail: Mapping[str, Any]
