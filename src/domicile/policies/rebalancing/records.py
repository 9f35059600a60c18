"""What rebalancing goes by, what it remembers between rounds, and what it wants. Plans are data; nothing here acts.

Times are the host's clock (`Snapshot.taken_at`). A gain is in slowdown, over all domains, which count 1 on
average (`policies.counting`): domain-seconds a second, so that a gain times a while can be compared with the
domain-seconds that a move costs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from domicile.policies.migration.records import USUAL_PERMITS, Option, Permits
from domicile.state.request import Character

__all__ = ["Considered", "History", "Move", "Moved", "RebalancePlan", "Rules", "Swap", "Waiting"]


AGES_S = 30.0
"""Long enough since a domain was weighed for it to be weighed again, and not so long that it is forgotten."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When to move.

    `start`: the gain from which on a move is waited for, and made; one that falls below `stop` is forgotten. A move is
    made when its gain is not falling (load is seen with a decay, and what is left of a burst looks like load); when
    what was lost by waiting has come to what it costs, so that at worst twice as much is lost as by whoever knew how
    long the load lasts; when it has waited for `settle_s` and for as long as the move itself takes; and when its gain
    pays for its cost, `margin` times over, within `horizon_s`.

    `hold_off_s`: a domain that was moved stays for so long, and twice as long for each further move within `forget_s`.
    `per_minute`: moves begun in a minute. `per_pair`: moves at once between two nodes.

    `ready`: on a host that is hardly used a domain counts as wanting this share of its vCPUs at least, as far as all
    together leave three quarters of the pCPUs idle: what is light now need not stay so. `keep_free`: a node with less
    of its memory free is short of it, and costs up to `memory_weight` in slowdown. `seen_s`: nothing is decided on
    less.

    `looks`: domains that are weighed closely in a round, the others wait for `look_again_s`. `swaps`: whether two
    domains may change places. `leave`: domains (names) that are left alone. `permits`: what may be done to each, by
    name, `usual` to the others. `characters`: what the administrator knows of their use of memory. `unknown_gbs`: what
    a busy vCPU draws from memory if nobody states or counts it: twice what placement assumes. Most draw less and a few
    eight times as much, and a node with too much of it loses more than one with too little gains (docs/gain.md).
    """

    start: float = 0.05
    stop: float = 0.02
    horizon_s: float = 300.0
    margin: float = 2.0
    settle_s: float = 40.0
    hold_off_s: float = 300.0
    forget_s: float = 3600.0
    per_minute: int = 2
    per_pair: int = 1
    ready: float = 0.5
    keep_free: float = 0.05
    memory_weight: float = 0.5
    seen_s: float = 30.0
    looks: int = 4
    look_again_s: float = 30.0
    swaps: bool = True
    leave: Collection[str] = ()
    permits: Mapping[str, Permits] = field(default_factory=dict)
    usual: Permits = USUAL_PERMITS
    characters: tuple[Character, ...] = ()
    unknown_gbs: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 < self.stop <= self.start:
            raise ValueError(
                "a move is waited for from a gain on that is no less than the one at which it is forgotten"
            )

    def permits_of(self, domain: str) -> Permits:
        """What may be done to this domain."""
        found = self.permits.get(domain, self.usual)
        return replace(found, may_move=False) if domain in self.leave else found


@dataclass(frozen=True, slots=True)
class Moved:
    """A move that was begun. `ended_s` is None while it is under way. `memory_mib`: where its memory is afterwards."""

    uuid: str
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    memory_mib: Mapping[int, int] = field(hash=False)
    began_s: float
    ended_s: float | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A gain that is waited for. `key`: a domain's UUID, or both of a swap. `lost_s`: what was lost since, in
    domain-seconds. `gain` is the last, `level` the average since, in which older ones count less."""

    key: tuple[str, ...]
    since_s: float
    last_s: float
    lost_s: float
    level: float = 0.0
    gain: float = 0.0


@dataclass(frozen=True, slots=True)
class History:
    """What rounds know of those before. `looked`: when a domain (UUID) was weighed closely last, and to no avail.

    The caller keeps what a plan hands back, and adds what it did: `began` and `ended`.
    """

    moves: tuple[Moved, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    looked: Mapping[str, float] = field(default_factory=dict, hash=False)
    swaps_looked_s: float = float("-inf")

    def began(self, move: Move, now_s: float) -> History:
        """With a move that was begun now."""
        begun = Moved(move.uuid, move.sources, move.option.nodes, move.option.memory_mib, now_s)
        return replace(self, moves=(*self.moves, begun))

    def ended(self, uuid: str, now_s: float) -> History:
        """With the end of the move of this domain, however it ended."""
        moves = (
            replace(each, ended_s=now_s) if each.uuid == uuid and each.ended_s is None else each for each in self.moves
        )
        return replace(self, moves=tuple(moves))

    def waited(self) -> History:
        """As if what is waited for had been waited for long enough, and nobody had looked for a while: for a person who
        asks for a round now."""
        waiting = tuple(
            replace(each, since_s=float("-inf"), last_s=each.last_s - AGES_S, lost_s=float("inf"), level=0.0)
            for each in self.waiting
        )
        return replace(self, waiting=waiting, looked={}, swaps_looked_s=float("-inf"))

    @property
    def under_way(self) -> tuple[Moved, ...]:
        """Moves that have not ended."""
        return tuple(each for each in self.moves if each.ended_s is None)


@dataclass(frozen=True, slots=True)
class Move:
    """Move a domain in this way. `gain`: what all domains together gain by it, in slowdown; `pays_after_s`: when that
    has made up for its cost; `sources`: the nodes where its memory is now."""

    domain: str
    uuid: str
    option: Option
    gain: float
    pays_after_s: float
    reason: str
    sources: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Swap:
    """Two domains change places: `first` is to be done before `second`, whose way was weighed with `first` done."""

    first: Move
    second: Move
    gain: float
    reason: str


@dataclass(frozen=True, slots=True)
class Considered:
    """What was weighed, and not done. `short_mib`: by node, the memory that was missing for it."""

    domain: str
    uuid: str
    nodes: tuple[int, ...]
    gain: float
    reason: str
    short_mib: Mapping[int, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class RebalancePlan:
    """What to move now. `history` is what the next round is to be given, with what is begun of this plan added to it.
    `weighed`: how many domains were looked at closely; 0 in a round that found nothing to do.
    """

    moves: tuple[Move, ...] = ()
    swaps: tuple[Swap, ...] = ()
    considered: tuple[Considered, ...] = ()
    history: History = History()
    weighed: int = 0

    def __bool__(self) -> bool:
        return bool(self.moves or self.swaps)
