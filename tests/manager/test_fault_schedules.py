"""Random schedules of faults: nothing is lost, doubled or overcommitted, and all that was begun is brought to an end.

To see what happens in one of them: `python -c "from fault_schedules import *; print(*run_schedule(SEED), sep='\\n')"`
with `tests/support` on PYTHONPATH.
"""

from __future__ import annotations

import pytest
from fault_schedules import run_schedule

SAMPLE = 150
SCHEDULES = 10_000
AT_ONCE = 100


@pytest.mark.parametrize("first", range(0, SAMPLE, 50))
def test_a_sample(first: int) -> None:
    for seed in range(first, first + 50):
        run_schedule(seed)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(SAMPLE, SAMPLE + SCHEDULES, AT_ONCE))
def test_ten_thousand(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        run_schedule(seed)


def test_a_seed_is_a_schedule() -> None:
    for seed in (2, 35):
        assert run_schedule(seed) == run_schedule(seed)


def test_schedules_are_not_all_alike_nor_harmless() -> None:
    """What is drawn reaches what it is for: domains start and move, and every fault comes up."""
    told = "\n".join(line for seed in range(40) for line in run_schedule(seed))
    for what in ("started", "StartMove", "SetAffinity", "EndMove", "killed", "no answer", "hangs", "late", "cut"):
        assert what in told, what
