"""What a service tells the supervisor that started it: systemd's notification protocol.

Datagrams of lines `NAME=VALUE` to the Unix socket that `NOTIFY_SOCKET` names, and signs of life within `WATCHDOG_USEC`.
Source: sd_notify(3) and sd_watchdog_enabled(3) of systemd 252, and 253 for what is said around a reload.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from domicile.errors import BadInput

__all__ = ["SOCKET_VARIABLE", "Supervisor"]

SOCKET_VARIABLE = "NOTIFY_SOCKET"
BEATS_PER_WATCHDOG = 3.0


class Supervisor:
    """Whoever started this process, if they want to be told; without an address nobody does, and nothing is sent."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self._watchdog_s = watchdog_s
        self._beaten_at = -1e9
        self._status = ""
        # an address without a file begins with a zero byte, which is written "@"
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Supervisor:
        """The one that the environment names. Raises `BadInput` where it names none, or in a way not known."""
        address = environment.get(SOCKET_VARIABLE, "")
        if not address.startswith(("/", "@")):
            problem = f"names no Unix socket ({address!a})" if address else "is not set: systemd does for Type=notify"
            raise BadInput(SOCKET_VARIABLE, problem)
        try:
            microseconds = int(environment.get("WATCHDOG_USEC", "0"))
            ours = int(environment.get("WATCHDOG_PID", "0")) in (0, os.getpid())
        except ValueError as error:
            raise BadInput("WATCHDOG_USEC", "is no number, or WATCHDOG_PID is none") from error
        return cls(address, microseconds / 1e6 if microseconds > 0 and ours else None)

    def ready(self) -> None:
        """Started, or done with a reload."""
        self._say("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends it."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")

    def stopping(self) -> None:
        """About to end."""
        self._say("STOPPING=1")

    def status(self, line: str) -> None:
        """A line for people (`systemctl status`)."""
        if line != self._status:
            self._status = line
            self._say(f"STATUS={line}")

    def alive(self) -> None:
        """A sign of life, if one is due: to be called more often than it is."""
        now = time.monotonic()
        if self._watchdog_s is not None and now - self._beaten_at >= self._watchdog_s / BEATS_PER_WATCHDOG:
            self._beaten_at = now
            self._say("WATCHDOG=1")

    def _say(self, lines: str) -> None:
        if self._address:
            # one that is being replaced hears nothing for a moment; who misses signs of life acts without being told
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.sendto(lines.encode(), self._address)
