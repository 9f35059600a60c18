"""Commanding guests, with a Dom0 that is played: what is asked for, and what failures become."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from domicile.errors import BadInput, HostFailed
from domicile.lab.guests import Load, control
from domicile.lab.guests.control import GuestEnded, TinyGuest, output, start_carrying, start_guest


@dataclass
class PlayedDom0:
    """A Dom0 with a xenstore and an xl that knows one domain, called `there`."""

    store: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    asked: list[Sequence[str]] = field(default_factory=list)
    answers: dict[str, tuple[str, str]] = field(default_factory=dict)
    there: str = "g"
    unblocks: bool = False
    forgotten: dict[str, str] = field(default_factory=dict)
    """What a guest publishes as soon as its vCPU is scheduled anew."""

    def heal(self) -> None:
        if self.unblocks:
            self.store[STATE] = "busy=0 touch_mib=0 pattern=0"

    def run(
        self,
        command: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002
        timeout_s: float | None = 300,
    ) -> subprocess.CompletedProcess[str]:
        self.asked.append(command)
        status, out, said = self._do(list(command), input)
        return subprocess.CompletedProcess(command, status, out, said)

    def _do(self, command: list[str], given: str | None) -> tuple[int, str, str]:
        done = (0, "", "")
        match command:
            case ["tee", path]:
                self.files[path] = given or ""
            case ["xl", "domid", name]:
                done = (0, "7\n", "") if name == self.there else (1, "", f"{name} is an invalid domain identifier")
            case ["xl", "vcpu-list", "g"]:
                done = (0, VCPUS, "")
            case ["xl", "vcpu-pin", "g", "0", "-", "4-5"]:
                self.store.update(self.forgotten)
            case ["xl", "create", "-q", path] if "broken" in self.files[path]:
                done = (3, "", "Parsing\nxc: error: no memory\nlibxl: error: cleaning up")
            case ["xenstore-read", "-R", path]:
                done = (0, self.store[path] + "\n", "") if path in self.store else (1, "", "couldn't read path")
            case ["xenstore-rm", path]:
                self.store.pop(path, None)
            case ["xenstore-write", path, value] if value in self.answers:
                key, answer = self.answers[value]
                self.store[path.replace("command", key)] = answer
        return done


@dataclass
class EndingDom0(PlayedDom0):
    """One whose guest boots, and ends `ends` times when it is told something."""

    ends: int = 0
    destroyed: int = 0

    def _do(self, command: list[str], given: str | None) -> tuple[int, str, str]:
        match command:
            case ["xl", "create", "-q", _]:
                self.there = "g"
                self.store[STATE] = "busy=0 touch_mib=0 pattern=0"
            case ["xl", "destroy", _]:
                self.destroyed += 1
            case ["sh", "-c", words] if "guest-g.log" in words:
                return 0, "int3: 0000 [#1]\nKernel panic\n\n(XEN) Domain 7 crashed\n", ""
            case ["xenstore-write", _, _] if self.ends:
                self.there, self.ends = "", self.ends - 1
                return 0, "", ""
        return super()._do(command, given)


STATE = "/local/domain/7/data/domicile/state"
SWEEPS = STATE.replace("state", "sweeps")
VCPUS = """\
Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)
g                                    7     0    1   ---     170.8  all / 4-5
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "POLL_S", 0.001)


def test_a_guest_is_started_from_its_config() -> None:
    dom0 = PlayedDom0()
    guest = start_guest(dom0, "g", "memory = 64\n")
    assert (guest.id, guest.name) == (7, "g")
    assert list(dom0.files.values()) == ["memory = 64\n"]


def test_xl_s_reason_is_passed_on() -> None:
    with pytest.raises(HostFailed, match=r"xl create failed in Dom0 \(3\): xc: error: no memory"):
        start_guest(PlayedDom0(), "g", "broken")


def test_a_program_that_fails_without_a_word() -> None:
    dom0 = PlayedDom0(there="other")
    with pytest.raises(HostFailed, match="invalid domain"):
        output(dom0, ["xl", "domid", "g"])


def test_ready_gives_the_report() -> None:
    dom0 = PlayedDom0(store={STATE: "busy=0 touch_mib=0 pattern=0", STATE.replace("state", "report"): "node 0"})
    assert TinyGuest(dom0, "g", 7).wait_until_ready() == "node 0"


def test_a_guest_that_ends_or_says_nothing() -> None:
    with pytest.raises(HostFailed, match="has ended"):
        TinyGuest(PlayedDom0(there="other"), "g", 7).wait_until_ready()
    with pytest.raises(HostFailed, match="not ready within"):
        TinyGuest(PlayedDom0(), "g", 7).wait_until_ready(timeout_s=0.01)


def test_a_guest_that_ends_before_it_carries_is_started_again() -> None:
    load = Load(1)
    dom0 = EndingDom0(answers={load.text: ("state", load.text)}, ends=1)
    assert start_carrying(dom0, "g", "memory = 64\n", load).id == 7
    assert dom0.destroyed == 1


def test_a_guest_that_always_ends_is_given_up_with_its_last_words() -> None:
    dom0 = EndingDom0(ends=99)
    with pytest.raises(GuestEnded, match=r"has ended.*int3: 0000 \[#1\] / Kernel panic / \(XEN\) Domain 7 crashed"):
        start_carrying(dom0, "g", "memory = 64\n", Load(1))


def test_a_guest_that_hangs_is_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "HEAL_AFTER_S", 0.01)
    TinyGuest(PlayedDom0(unblocks=True), "g", 7).wait_until_ready(timeout_s=20)


def test_a_vcpu_that_the_scheduler_forgot_is_scheduled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "HEAL_AFTER_S", 0.01)
    dom0 = PlayedDom0(forgotten={SWEEPS: "12"})
    assert TinyGuest(dom0, "g", 7).sweeps(timeout_s=20) == 12
    assert [command for command in dom0.asked if "vcpu-pin" in command] == [["xl", "vcpu-pin", "g", "0", "-", "4-5"]]


def test_a_load_is_commanded_and_its_beginning_awaited() -> None:
    load = Load(2, 16)
    dom0 = PlayedDom0(store={STATE: "before"}, answers={load.text: ("state", load.text)})
    TinyGuest(dom0, "g", 7).carry(load)
    assert dom0.store[STATE] == load.text


def test_a_load_that_the_guest_refuses() -> None:
    load = Load(9)
    dom0 = PlayedDom0(answers={load.text: ("state", "error: only 2 vCPUs here, 9 asked for")})
    with pytest.raises(BadInput, match="g: load: only 2 vCPUs here"):
        TinyGuest(dom0, "g", 7).carry(load)


def test_sweeps_are_asked_for_anew() -> None:
    dom0 = PlayedDom0(store={SWEEPS: "3"}, answers={"sweeps": ("sweeps", "12")})
    assert TinyGuest(dom0, "g", 7).sweeps() == 12
    with pytest.raises(HostFailed, match="no answer"):
        TinyGuest(PlayedDom0(), "g", 7).sweeps(timeout_s=0.01)


def test_a_load_that_has_ended_meanwhile_is_noticed() -> None:
    TinyGuest(PlayedDom0(store={STATE: "busy=1 touch_mib=9 pattern=0"}), "g", 7).require_load()
    with pytest.raises(HostFailed, match="g: the load on CPU 1 ended"):
        TinyGuest(PlayedDom0(store={STATE: "error: the load on CPU 1 ended: too little memory"}), "g", 7).require_load()
    with pytest.raises(HostFailed, match="g: the guest has ended"):
        TinyGuest(PlayedDom0(), "g", 7).require_load()
