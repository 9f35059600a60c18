"""The channel to what runs in Dom0: one request, one answer. `open_channel` finds out which of the two kinds it gets.

The command that starts it is constant: nothing that anybody can name is in it. It greets with a line, so that whatever
a login shell prints before is passed over, and then takes what is sent as a program: `dom0_program` where there is
Python 3.6 or later, else the shell commands of `sh_channel`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Protocol

from domicile.errors import Halted, HostFailed, Refused, ReservationConflict
from domicile.hosts.xen.boot_log import BootLog
from domicile.hosts.xen.process import Conversation
from domicile.hosts.xen.xl_errors import telling_lines

__all__ = ["QUICK_S", "Channel", "Runtime", "error_for", "greet", "start_command"]

QUICK_S = 90.0
"""Time limit of what takes a moment; the far side's own limits are shorter, so that it can say what hangs."""

NOISE_LINES = 200

PYTHON_START = (
    "import os,sys;v=sys.version_info;"
    'v<(3,6) and (os.write(1,b\\"domicile-sh\\\\n\\"),os.execv(\\"/bin/sh\\",[\\"sh\\",\\"-s\\"]));'
    'print(\\"domicile-python %d.%d\\"%v[:2],flush=True);'
    'i=sys.stdin.buffer;exec(compile(i.read(int(i.readline())),\\"domicile-agent\\",\\"exec\\"))'
)
SHELL_START = "echo domicile-sh; exec /bin/sh -s"
NO_DOM0 = r"privileged command interface|cannot open libxc handle|Hypervisor is not xen|hypervisor information"
GREETING = re.compile(r"domicile-(?:(?P<python>python) (?P<version>[0-9.]+)|(?P<sh>sh))")


class Runtime(StrEnum):
    """What carries requests out in Dom0."""

    PYTHON = "python"
    SHELL = "sh"


class Channel(Protocol):
    """One connection to one Dom0. A call is one request; all raise `HostFailed`, or what it is refused by."""

    @property
    def via(self) -> str:
        """The way the host is seen, for a person."""
        ...

    @property
    def measures(self) -> bool:
        """Whether snapshots have what only Xen's Python binding tells: idle times of pCPUs, times in ns."""
        ...

    def snapshot(self, memory_map: str) -> Any:
        """The fields of `raw.RawSnapshot`, undecoded."""
        ...

    def boot_log(self) -> BootLog:
        """What is left of the boot."""
        ...

    def reserve(self, token: str, expected_generation: str, reservation: dict[str, Any]) -> None: ...

    def release(self, token: str) -> None: ...

    def create(self, name: str, uuid: str, config: str, limit_s: float) -> None: ...

    def unpause(self, name: str) -> None: ...

    def destroy(self, name: str, uuid: str) -> None: ...

    def set_affinity(self, name: str, vcpu: int, hard: str, soft: str) -> None: ...

    def hold(self, name: str, uuid: str, vcpu: int, before: str, held: str) -> None: ...

    def let_go(self, uuid: str, vcpu: int) -> None: ...

    def manage(self, who: str) -> None: ...

    def set_memory(self, name: str, uuid: str, target_mib: int) -> None: ...

    def move(self, order: dict[str, Any]) -> None: ...

    def end_move(self, token: str) -> None: ...

    def halt(self, why: str | None) -> None: ...

    def beat(self) -> None:
        """Tell the far side that we live."""
        ...

    def close(self) -> None:
        """End the connection, and wait until the far side has cleaned up."""
        ...


def start_command(runtime: Runtime | None) -> str:
    """The command to start in Dom0: constant, in words that any login shell reads alike. None takes what is there."""
    script = SHELL_START
    if runtime is not Runtime.SHELL:
        python = f'exec python3 -ISu -c "{PYTHON_START}"'
        script = f"command -v python3 >/dev/null 2>&1 && {python}; {SHELL_START}"
    return f"exec /bin/sh -c '{script}'"


def greet(conversation: Conversation, limit_s: float) -> tuple[Runtime, str]:
    """Wait for the greeting; which runtime it is, and its version."""
    for _ in range(NOISE_LINES):
        if match := GREETING.fullmatch(conversation.receive(limit_s).strip()):
            return (Runtime.PYTHON, match["version"]) if match["python"] else (Runtime.SHELL, "")
    raise conversation.fail("the login shell prints without end and starts nothing")


def error_for(where: str, kind: str, message: str, output: str) -> HostFailed | Refused:
    """The error for what the far side reports."""
    if kind == "refused":
        return Refused(f"{where}: {message}")
    if kind == "halted":
        return Halted(f"{where}: {message}; `domicile stop --off` lets them start again")
    if kind == "conflict":
        return ReservationConflict(f"{where}: {message}; look again and decide again")
    if re.search(NO_DOM0, output):
        return HostFailed(f"{where} is not a Xen Dom0, or this user is not root there")
    if "Permission denied" in message:
        return HostFailed(f"{where}: only root can do this in a Dom0 ({message})")
    why = telling_lines(output)
    return HostFailed(f"{where}: {message}: {why}" if why else f"{where}: {message}")
