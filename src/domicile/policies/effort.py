"""How long a search may take, and what it may depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Effort"]

PROOF_S = 60.0


def _no_more() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Effort:
    """`starts` are made in any case, further ones while `more` says so, which may look at a clock: it decides how many
    starts there are and nothing else. The same seed, starts and rounds give the same layout. `starts`, and `rounds` of
    each; 0: as many as suit the number of guests. `proof_s`: how long HiGHS may take for a proof."""

    seed: int = 0
    starts: int = 0
    rounds: int = 0
    more: Callable[[], bool] = _no_more
    proof_s: float = PROOF_S
