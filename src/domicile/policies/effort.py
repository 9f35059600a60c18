"""How long a search may take, and what it may depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["PROOF", "SEARCH", "Effort"]

PROOF_S = 60.0
SEARCH, PROOF = "search", "proof"


def _no_more() -> bool:
    return False


def _nobody_waits(_: str, __: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Effort:
    """`starts` are made, and further ones while `more` says so, which may look at a clock. The same seed, starts and
    rounds give the same layout. `starts`, and `rounds` of each; 0: as many as suit the number of guests.

    `strict`: once `more` says no, the search ends with the best so far, however many starts there were. `stop`: whether
    to end at once, proofs too. `tell` is told what is going on (`SEARCH`, `PROOF`), and what part of it is done.
    `proof_s`: how long HiGHS may take.
    """

    seed: int = 0
    starts: int = 0
    rounds: int = 0
    more: Callable[[], bool] = _no_more
    proof_s: float = PROOF_S
    strict: bool = False
    stop: Callable[[], bool] = _no_more
    tell: Callable[[str, float], None] = _nobody_waits

    @property
    def usual(self) -> bool:
        """Whether nothing is asked for that a search for few guests, without starts and seeds, could not do."""
        return not (self.seed or self.starts or self.rounds) and self.more is _no_more

    def going_on(self, part: float) -> bool:
        """Say what part of the search is done; whether to go on."""
        self.tell(SEARCH, part)
        return not self.stop() and (not self.strict or self.more())

    def proving_on(self, part: float) -> bool:
        """The same of the proof."""
        self.tell(PROOF, part)
        return not self.stop()
