"""The way into Dom0: OpenSSH's own client with the lab's key and host key, and nothing of the user's configuration."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from domicile.errors import HostFailed

__all__ = [
    "CONNECT_TIMEOUT_S",
    "SSH_FAILED",
    "NoConnection",
    "close_connection",
    "forget_connection",
    "run_in_dom0",
    "ssh_argv",
]

CONNECT_TIMEOUT_S = 90
SSH_FAILED = 255
SOCKET = "ssh.sock"
SOCKET_PATH_LIMIT = 85
"""A socket's path has 107 bytes, and ssh adds 17 to it while it makes one."""
IDLE_S = 60
NOT_CONNECTED = "timed out during banner exchange"
"""What ssh says where QEMU answers at the port, as it always does, and Dom0 does not: nothing was begun."""


class NoConnection(HostFailed):
    """Dom0 did not answer, and does not know of the command."""


def ssh_argv(folder: Path, port: int) -> list[str]:
    """Arguments up to and with the host, for the lab in `folder`: a command to run in Dom0 can follow."""
    options = {
        "BatchMode": "yes",
        "CheckHostIP": "no",
        "ConnectTimeout": str(CONNECT_TIMEOUT_S),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": "lab",
        "IdentitiesOnly": "yes",
        "IdentityFile": _quoted(folder / "user_key"),
        # the quickest where every instruction is emulated; both ends have all of them
        "Ciphers": "chacha20-poly1305@openssh.com,aes128-ctr",
        "KexAlgorithms": "curve25519-sha256",
        "LogLevel": "ERROR",
        # a Dom0 that was reset, or whose cable was pulled, says nothing any more; a busy one only takes its time
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "5",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": _quoted(folder / "known_hosts"),
    }
    argv = ["ssh", "-F", "/dev/null", "-p", str(port)]
    for option, value in options.items():
        argv += ["-o", f"{option}={value}"]
    # after `--` nothing is an option of ssh's, a command with a dash in front neither
    return [*argv, "--", "root@127.0.0.1"]


def run_in_dom0(
    folder: Path, port: int, command: Sequence[str] | str, *, given: bytes, timeout_s: float | None, name: str
) -> subprocess.CompletedProcess[str]:
    """Run a program and its arguments, or a script for Dom0's shell; see `Lab.run`.

    The connection is kept open for the next one: to make it is most of what a command costs in an emulated Dom0. Raises
    `HostFailed`, `NoConnection` where the command did certainly not begin.
    """
    # with the space in front, the far side's shell takes a program called `-n` for none of its own options
    script = command if isinstance(command, str) else " " + shlex.join(command)
    argv = ssh_argv(folder, port)
    argv[1:1] = _sharing(folder)
    try:
        done = subprocess.run([*argv, script], input=given, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        short = script if len(script) <= 60 else script[:57] + "..."
        raise HostFailed(f"lab {name}: {short.strip()!r} took more than {timeout_s:.0f} s in Dom0") from error
    out, said = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if done.returncode == SSH_FAILED:
        forget_connection(folder)
        failed = NoConnection if NOT_CONNECTED in said else HostFailed
        raise failed(f"lab {name}: Dom0 cannot be reached: {said.strip() or 'the connection broke'}")
    return subprocess.CompletedProcess(script, done.returncode, out, said)


def close_connection(folder: Path) -> None:
    """End the connection that is kept open, and with it what Dom0 runs for it."""
    if (folder / SOCKET).exists():
        argv = ["ssh", "-F", "/dev/null", "-S", str(folder / SOCKET), "-O", "exit", "lab"]
        subprocess.run(argv, capture_output=True, timeout=CONNECT_TIMEOUT_S, check=False)


def forget_connection(folder: Path) -> None:
    """Let the next command make a connection of its own: the one that is open leads nowhere any more."""
    (folder / SOCKET).unlink(missing_ok=True)


def _sharing(folder: Path) -> list[str]:
    socket = folder / SOCKET
    if len(str(socket)) > SOCKET_PATH_LIMIT:
        return []
    options = {
        "ControlMaster": "auto",
        "ControlPath": _quoted(socket),
        "ControlPersist": str(IDLE_S),
    }
    return [word for option, value in options.items() for word in ("-o", f"{option}={value}")]


def _quoted(path: Path) -> str:
    """A path as an option's value: ssh splits at spaces and replaces what follows a %."""
    return '"' + str(path).replace("%", "%%") + '"'
