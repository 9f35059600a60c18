"""A machine that hangs while it boots is reset, against a console and a monitor that a test plays."""

from __future__ import annotations

from pathlib import Path

import pytest

from domicile.errors import HostFailed
from domicile.lab import booting, qmp
from domicile.lab.booting import RESETS, wait_for_boot
from domicile.lab.progress import silent


class Machine:
    """Says something at each boot: `boots` holds what, one text for each."""

    def __init__(self, place: Path, *boots: str) -> None:
        self.log = place / "console.log"
        self.boots = list(boots)
        self.resets = 0
        self._boot()

    def _boot(self) -> None:
        with self.log.open("a") as log:
            log.write(self.boots.pop(0))

    def execute(self, path: Path, command: str) -> None:
        assert (path.name, command) == ("qmp.sock", "system_reset")
        self.resets += 1
        self._boot()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booting, "SILENT_S", 0.5)
    monkeypatch.setattr(booting, "HANGS_S", 0.2)
    monkeypatch.setattr(booting, "heal", lambda place: {})
    monkeypatch.setattr(booting, "require_alive", lambda place: None)


@pytest.mark.parametrize(
    "said", ["sched_clock: Marking", "watchdog: BUG: soft lockup - CPU#1 stuck for 30s! [x]\nCPU: 1"]
)
def test_a_machine_that_hangs_is_healed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    machine = Machine(tmp_path, f"(XEN) Xen version\n{said}\n", "never")
    monkeypatch.setattr(qmp, "execute", machine.execute)

    def heal(place: Path) -> dict[int, int]:
        with (place / "console.log").open("a") as log:
            log.write("domicile: up\n")
        return {0: 4096}

    monkeypatch.setattr(booting, "heal", heal)
    wait_for_boot(tmp_path, 0, silent)
    assert not machine.resets


def test_complaints_are_no_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, "(XEN) Xen version\n", "domicile: up\n")
    monkeypatch.setattr(qmp, "execute", machine.execute)

    def complain(place: Path) -> None:
        with (place / "console.log").open("a") as log:
            log.write("watchdog: BUG: soft lockup - CPU#1 stuck for 30s! [x]\n")

    monkeypatch.setattr(booting, "require_alive", complain)
    wait_for_boot(tmp_path, 0, silent)
    assert machine.resets == 1


def test_a_machine_that_hangs_is_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, "(XEN) Xen version\nsched_clock: Marking", "(XEN) Xen version\ndomicile: up\n")
    monkeypatch.setattr(qmp, "execute", machine.execute)
    wait_for_boot(tmp_path, 0, silent)
    assert machine.resets == 1


def test_what_was_said_before_a_reset_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, "domicile: up\n(XEN) again\n", "(XEN) later\n", "domicile: up\n")
    monkeypatch.setattr(qmp, "execute", machine.execute)
    wait_for_boot(tmp_path, len("domicile: up\n"), silent)
    assert machine.resets == 2


def test_one_that_always_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, *["(XEN) Xen version\n"] * 5)
    monkeypatch.setattr(qmp, "execute", machine.execute)
    with pytest.raises(HostFailed, match=r"hung 3 times .* \(XEN\) Xen version"):
        wait_for_boot(tmp_path, 0, silent)
    assert machine.resets == RESETS


def test_a_panic_is_not_mistaken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, "Kernel panic - not syncing: no init\n")
    monkeypatch.setattr(qmp, "execute", machine.execute)
    with pytest.raises(HostFailed, match="no init"):
        wait_for_boot(tmp_path, 0, silent)
    assert not machine.resets
