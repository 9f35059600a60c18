"""Measuring guests that a manager may be moving: a window begins once nobody is on its way."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from domicile.errors import HostFailed
from domicile.lab.measure import run

HEADING = "Name                                        ID   Mem VCPUs\tState\tTime(s)\n"


class PlayedDom0:
    """Says one list of domains after the other, the last one for ever."""

    def __init__(self, *lists: dict[str, int]) -> None:
        self.lists = list(lists)

    def run(self, command: Sequence[str] | str, **how: Any) -> subprocess.CompletedProcess[str]:
        assert list(command) == ["xl", "list"]
        now = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        rows = "".join(f"{name:40} {number:5}   160     2     -b----      12.3\n" for name, number in now.items())
        return subprocess.CompletedProcess(command, 0, HEADING + rows, "")


def settled(dom0: PlayedDom0, *names: str) -> list[int]:
    return run._settled_ids(dom0, names, lambda doing, done: None)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LOOK_S", 0.0)


def test_who_is_moved_is_waited_for_and_has_another_id_then() -> None:
    dom0 = PlayedDom0(
        {"Domain-0": 0, "busy1": 1, "busy2": 2, "busy1--incoming": 3},
        {"Domain-0": 0, "busy1--migratedaway": 1, "busy2": 2, "busy1--incoming": 3},
        {"Domain-0": 0, "busy2": 2, "busy1": 3},
    )
    assert settled(dom0, "busy1", "busy2") == [3, 2]


def test_who_does_not_come_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MOVING_S", 0.05)
    with pytest.raises(HostFailed, match="there are the domains Domain-0, busy2, not busy1, busy2 alone"):
        settled(PlayedDom0({"Domain-0": 0, "busy2": 2}), "busy1", "busy2")
