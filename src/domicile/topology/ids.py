"""Sets of ids as people write them: `0-3,8`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

__all__ = ["format_ids"]


def format_ids(ids: Iterable[int]) -> str:
    """The shortest form with ranges, ascending; the empty set is "none"."""
    runs = []
    # in a run of consecutive ids, id - position is the same for all
    for _, run in groupby(enumerate(sorted(set(ids))), key=lambda pair: pair[1] - pair[0]):
        members = [member for _, member in run]
        runs.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ",".join(runs) or "none"
