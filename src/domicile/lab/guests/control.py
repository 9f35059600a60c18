"""Start, command and watch tiny guests from a Dom0 that can be told to run programs.

A guest publishes under `data/domicile` of its xenstore folder; see init.sh for the words.
"""

from __future__ import annotations

import logging
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from domicile.errors import BadInput, HostFailed
from domicile.hosts.xen.xl_vcpu_list import parse_vcpu_table
from domicile.lab.guests.config import Load

__all__ = ["Dom0", "GuestEnded", "TinyGuest", "output", "running_guest", "start_carrying", "start_guest"]

_log = logging.getLogger(__name__)

CONFIG_FOLDER = "/run/domicile-guests"
READY_TIMEOUT_S = 300
POLL_S = 1.0
HEAL_AFTER_S = 60
"""A guest that has said nothing for so long is slow, or something keeps it from getting on (`TinyGuest._help`)."""
ERROR = "error:"
"""How the state of a guest begins that cannot do, or no longer does, what it was told."""
STARTS = 3
"""How often a guest is started that ends before it does what it was told (`start_carrying`)."""
LAST_WORDS = (
    "cd /var/log/xen && tail -q -n 3 console/guest-{0}.log xl-{0}.log xl-{0}--incoming.log; xl dmesg | tail -n 3"
)
"""What tells, of a guest that has ended, why: the last lines of its console, of xl (the reason of its shutdown, also
after a migration) and of Xen."""


class GuestEnded(HostFailed):
    """A guest is not there any more, though nobody stopped it."""


class Dom0(Protocol):
    """Where programs can be run in a Dom0: `domicile.lab.lab.Lab`, for one."""

    def run(
        self,
        command: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002 - subprocess's name for it
        timeout_s: float | None = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program; its exit status and what it printed."""
        ...

    def heal(self) -> None:
        """Do what can be done for CPUs that do not get on."""
        ...


def output(dom0: Dom0, argv: Sequence[str], *, given: str | None = None, timeout_s: float = 300) -> str:
    """What a program in Dom0 prints. Raises `HostFailed` with its reason if it fails."""
    done = dom0.run(argv, input=given, timeout_s=timeout_s)
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        # of xl's many lines the first error is the cause, and the last says that cleaning up failed too
        reason = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise HostFailed(f"{' '.join(argv[:2])} failed in Dom0 ({done.returncode}): {reason}")
    return done.stdout


def start_guest(dom0: Dom0, name: str, config: str) -> TinyGuest:
    """Write the `xl.cfg` into Dom0, start it, and give the guest, which is then still booting.

    Raises `HostFailed` with xl's reason if it does not start.
    """
    path = f"{CONFIG_FOLDER}/{name}.cfg"
    output(dom0, ["mkdir", "-p", CONFIG_FOLDER])
    output(dom0, ["tee", path], given=config)
    output(dom0, ["xl", "create", "-q", path])
    return running_guest(dom0, name)


def running_guest(dom0: Dom0, name: str) -> TinyGuest:
    """The guest of this name as it is now, whoever started it. Raises `GuestEnded` where there is none."""
    done = dom0.run(["xl", "domid", name])
    if done.returncode != 0:
        raise _ended(dom0, name)
    return TinyGuest(dom0, name, int(done.stdout))


def start_carrying(dom0: Dom0, name: str, config: str, load: Load) -> TinyGuest:
    """Start a guest, wait until it has booted, and have it carry a load.

    QEMU can run code of a guest's kernel that is not there any more (`lab.stale_code`); where that is a breakpoint
    which nobody set, the kernel gives up. A guest that ends before it carries its load is started again, twice at most.
    It is gone if this fails. Raises what `start_guest` and `TinyGuest.carry` do.
    """
    for _ in range(STARTS - 1):
        try:
            return _start_and_carry(dom0, name, config, load)
        except GuestEnded as error:
            _log.warning("%s; it is started again", error)
    return _start_and_carry(dom0, name, config, load)


def _start_and_carry(dom0: Dom0, name: str, config: str, load: Load) -> TinyGuest:
    guest = start_guest(dom0, name, config)
    try:
        guest.wait_until_ready()
        guest.carry(load)
    except BaseException:
        dom0.run(["xl", "destroy", name])
        raise
    return guest


def _ended(dom0: Dom0, name: str) -> GuestEnded:
    """What to raise for a guest that is not there any more, with what was said of it last."""
    # a log that is not there is no news
    told = dom0.run(["sh", "-c", LAST_WORDS.format(shlex.quote(name))]).stdout
    said = " / ".join(filter(None, map(str.strip, told.splitlines())))
    return GuestEnded(f"{name}: the guest has ended; see /var/log/xen in Dom0; last was said: {said or 'nothing'}")


@dataclass(frozen=True, slots=True)
class TinyGuest:
    """A running tiny guest."""

    dom0: Dom0
    name: str
    id: int

    def published(self, key: str) -> str | None:
        """What the guest has published under this name (report, state, sweeps); None if nothing."""
        done = self.dom0.run(["xenstore-read", "-R", self._path(key)])
        return done.stdout.rstrip("\n") if done.returncode == 0 else None

    def wait_until_ready(self, timeout_s: float = READY_TIMEOUT_S) -> str:
        """Wait until it has booted and does what it was told; gives its report of CPUs, memory and nodes.

        Raises `HostFailed` if it ends or takes longer, `BadInput` if it cannot do what its configuration tells.
        """
        self._wait_for_state(timeout_s)
        return self.published("report") or ""

    def require_load(self) -> None:
        """Raise `HostFailed` if it has ended, or a load that it had begun has."""
        state = self.published("state")
        if state is None:
            raise _ended(self.dom0, self.name)
        if state.startswith(ERROR):
            raise HostFailed(f"{self.name}: {state.removeprefix(ERROR).strip()}")

    def carry(self, load: Load, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Command a load, and wait until it has begun. Raises `BadInput` if the guest says that it cannot."""
        output(self.dom0, ["xenstore-rm", self._path("state")])
        output(self.dom0, ["xenstore-write", self._path("command"), load.text])
        self._wait_for_state(timeout_s)

    def sweeps(self, timeout_s: float = READY_TIMEOUT_S) -> int:
        """How often its busy vCPUs have gone over their memory since the load began, all together."""
        return int(self._ask("sweeps", timeout_s))

    def clock(self, timeout_s: float = READY_TIMEOUT_S) -> tuple[float, float]:
        """What the guest takes the time to be: seconds since it booted, and since 1970."""
        up_s, now_s = self._ask("clock", timeout_s).split()
        return float(up_s), float(now_s)

    def _ask(self, command: str, timeout_s: float) -> str:
        """What it publishes when it is told to."""
        self.dom0.run(["xenstore-rm", self._path(command)])
        output(self.dom0, ["xenstore-write", self._path("command"), command])
        return self._await(command, timeout_s, "no answer from the guest")

    def console(self) -> str:
        """What it has written to its console (Dom0's xenconsoled keeps a log)."""
        return output(self.dom0, ["cat", f"/var/log/xen/console/guest-{self.name}.log"])

    def _path(self, key: str) -> str:
        return f"/local/domain/{self.id}/data/domicile/{key}"

    def _wait_for_state(self, timeout_s: float) -> None:
        state = self._await("state", timeout_s, "the guest was not ready")
        if state.startswith(ERROR):
            raise BadInput(self.name, state.removeprefix(ERROR).strip(), "load")

    def _await(self, key: str, timeout_s: float, late: str) -> str:
        """What it publishes under this name, once it does."""
        helped = time.monotonic()
        deadline = helped + timeout_s
        while (value := self.published(key)) is None:
            running_guest(self.dom0, self.name)
            if time.monotonic() > deadline:
                raise HostFailed(f"{self.name}: {late} within {timeout_s:.0f} s")
            if time.monotonic() - helped > HEAL_AFTER_S:
                self._help()
                helped = time.monotonic()
            time.sleep(POLL_S)
        return value

    def _help(self) -> None:
        """Do what can be done for a guest that does not get on.

        An emulated CPU can hang (`lab.stale_code`). And credit2 can forget a vCPU: Xen 4.17 was seen to leave one that
        was ready to run on a run queue whose pCPUs were both idle, for three minutes and more. A change of its
        affinity, if only to what it is, has it scheduled anew.
        """
        self.dom0.heal()
        listed = self.dom0.run(["xl", "vcpu-list", self.name])
        for row in parse_vcpu_table(listed.stdout) if listed.returncode == 0 else ():
            self.dom0.run(["xl", "vcpu-pin", self.name, str(row.vcpu), "-", row.soft])
