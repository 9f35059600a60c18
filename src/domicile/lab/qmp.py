"""QEMU's monitor: one command, one answer (QEMU 7.2, `docs/interop/qmp-spec.txt`).

A connection is made for each call and closed after it, because QEMU serves one client at a time and several processes
(a test, `lab status`) talk to one lab.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from domicile.errors import HostFailed

__all__ = ["Answer", "connect", "execute", "monitor_command"]

Answer = Mapping[str, object]


class _Message(msgspec.Struct):
    """Anything QEMU says: its greeting, an answer, an error, an event."""

    answer: msgspec.Raw = msgspec.field(name="return", default=msgspec.Raw())
    error: dict[str, str] | None = None
    event: str | None = None


def connect(path: Path, timeout_s: float) -> socket.socket:
    """Connect to a socket by way of its folder's descriptor: its path may be 107 bytes long, a user's folder longer."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_s)
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
        except BaseException:
            connection.close()
            raise
    finally:
        os.close(folder)
    return connection


def execute(path: Path, command: str, arguments: Answer | None = None, *, timeout_s: float = 20) -> msgspec.Raw:
    """Run one command on the QEMU whose monitor is the socket at `path`; returns its answer, still JSON.

    Raises `HostFailed` if QEMU is gone, does not answer or refuses.
    """
    try:
        with connect(path, timeout_s) as connection, connection.makefile("rb") as lines:
            lines.readline()  # the greeting
            _ask(connection, lines, "qmp_capabilities", None)
            return _ask(connection, lines, command, arguments)
    except TimeoutError as error:
        raise HostFailed(f"QEMU did not answer {command} within {timeout_s:.0f} s") from error
    except (OSError, msgspec.DecodeError) as error:
        raise HostFailed(f"QEMU's monitor failed at {command}: {error}") from error


def _ask(connection: socket.socket, lines: Iterable[bytes], command: str, arguments: Answer | None) -> msgspec.Raw:
    request: dict[str, object] = {"execute": command}
    if arguments is not None:
        request["arguments"] = arguments
    connection.sendall(msgspec.json.encode(request) + b"\r\n")
    for line in lines:
        message = msgspec.json.decode(line, type=_Message)
        if message.error is not None:
            raise HostFailed(f"QEMU refused {command}: {message.error.get('desc', message.error)}")
        if bytes(message.answer):
            return message.answer
    raise HostFailed(f"QEMU went away at {command}")


def monitor_command(path: Path, line: str, *, cpu: int = 0) -> str:
    """A command of the human monitor, for the little that QMP does not have, as seen by a CPU; returns its output."""
    answer = execute(path, "human-monitor-command", {"command-line": line, "cpu-index": cpu})
    return msgspec.json.decode(answer, type=str)
