"""What the manager may do to a host of its own accord: the part of `domicile.toml` that is about itself.

One record for all that decides between a host's rounds: scheduling, moves, ballooning. Each figure has the value that
holds where nobody says anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

__all__ = ["DomainMandate", "Mandate"]


@dataclass(frozen=True, slots=True)
class DomainMandate:
    """What may be done to one domain.

    `may_move`: whether its memory may be moved at all. `pause_s`: the longest pause that a move may cost it; 0 allows
    only ways that do not stop it for longer than a live migration's last step. `min_mib`: it is ballooned down to no
    less than this; None: it is not ballooned down.
    """

    domain: str
    may_move: bool = True
    pause_s: float = 0.0
    min_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Mandate:
    """What may be done to a host, and how hard the manager tries.

    `interval_s`: from one round to the next. `read_only`: decide and tell, change nothing. `allow` and `deny`: names of
    domains, or patterns of them (`*`, `?`, `[a-c]`): one is touched if it is in `allow` and not in `deny`.
    `memory_map_every_s`: debug key `u` is asked for at most once in this time; the host rations it besides.
    `start`: a change has to gain this much, in slowdown over all domains; `stop`: what was begun goes on until less
    than this is to be gained. `horizon_s`: within this time a move has to earn what it costs. `hold_off_s`: a domain
    that was moved is left where it is for so long. `moves_per_minute`: on the whole host; None: as many as it has nodes
    with CPUs, two at least. `rate_mib_s`: how fast one move may copy memory. `domains`: those of which something is
    said.
    """

    interval_s: float = 5.0
    read_only: bool = False
    allow: Sequence[str] = ("*",)
    deny: Sequence[str] = ()
    memory_map_every_s: float = 10.0
    start: float = 0.05
    stop: float = 0.02
    horizon_s: float = 600.0
    hold_off_s: float = 60.0
    moves_per_minute: float | None = None
    rate_mib_s: float = 954.0
    domains: tuple[DomainMandate, ...] = ()

    def of(self, domain: str) -> DomainMandate:
        """What may be done to this domain."""
        return next((each for each in self.domains if each.domain == domain), DomainMandate(domain))

    def may_touch(self, domain: str) -> bool:
        """Whether this domain may be touched at all."""
        return _is_among(domain, self.allow) and not _is_among(domain, self.deny)


def _is_among(domain: str, patterns: Sequence[str]) -> bool:
    # asked of every domain at every look, and nearly always answered by "*" or by no pattern at all
    return "*" in patterns or domain in patterns or any(fnmatchcase(domain, pattern) for pattern in patterns)
