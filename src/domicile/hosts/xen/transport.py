"""Ways to a Dom0: what to start so that a shell command's input and output are ours, and what its complaints mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from domicile.hosts.xen.address import SshAddress

__all__ = ["LocalTransport", "SshTransport", "Transport", "ssh_argv"]

CONNECT_TIMEOUT_S = 15
ALIVE_INTERVAL_S = 5
ALIVE_COUNT = 4


class Transport(Protocol):
    """A way to a Dom0."""

    @property
    def where(self) -> str:
        """Where it leads, for a message."""
        ...

    def argv(self, command: str) -> list[str]:
        """The program to start so that this constant `sh` command runs there."""
        ...

    def explain(self, complaint: str) -> str:
        """Why it broke and what to do, out of what it printed to stderr."""
        ...


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """This machine is the Dom0."""

    where: str = "this machine"

    def argv(self, command: str) -> list[str]:
        """A shell here."""
        return ["/bin/sh", "-c", command]

    def explain(self, complaint: str) -> str:
        """The last line of it."""
        return f"this machine: {_last_line(complaint) or 'the agent ended without a word'}"


@dataclass(frozen=True, slots=True)
class SshTransport:
    """A Dom0 over OpenSSH's client. `arguments` is everything up to the remote command."""

    where: str
    arguments: tuple[str, ...]

    def argv(self, command: str) -> list[str]:
        """ssh with the command as one argument: the far login shell reads it, and it is constant."""
        return [*self.arguments, command]

    def explain(self, complaint: str) -> str:
        """One line for a person: what ssh says, and what helps."""
        for pattern, advice in COMPLAINTS:
            if re.search(pattern, complaint, re.IGNORECASE):
                return f"{self.where}: {advice}"
        return f"{self.where}: the connection ended: {_last_line(complaint) or 'ssh gave no reason'}"


KEY_CHANGED = (
    "its host key is not the one known for it: is somebody in between, or was it installed anew? If that is sure, "
    "remove the old key with `ssh-keygen -R` and connect once with `ssh` by hand"
)
KEY_UNKNOWN = "its host key is not known here; connect once with `ssh` by hand and compare the fingerprint"

COMPLAINTS = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed", KEY_CHANGED),
    (r"Host key verification failed|No .* host key is known|authenticity of host", KEY_UNKNOWN),
    (r"Could not resolve hostname|Name or service not known", "there is no host of this name"),
    (r"Permission denied", "it does not let us in; ssh needs a key for this user that works without a password"),
    (r"Connection refused", "nothing answers there: is sshd running, and is it the right port?"),
    (
        r"Connection timed out|Operation timed out|timed out during banner",
        "it does not answer; is it up and reachable?",
    ),
    (r"No route to host|Network is unreachable", "there is no way to it on the network"),
    (
        r"Too many authentication failures",
        "it refuses after too many keys; name the right one (IdentityFile) in ssh's config",
    ),
    (r"Timeout, server .* not responding", "it stopped answering, and the connection was given up"),
    (r"Connection (?:to .* )?closed by remote host|Broken pipe|Connection reset|client_loop", "the connection broke"),
    (
        r"Bad owner or permissions on",
        "ssh does not trust its own configuration file; see the permissions of ~/.ssh/config",
    ),
)


def ssh_argv(address: SshAddress) -> tuple[str, ...]:
    """OpenSSH's client to this address: the user's configuration, but no prompt, and no unknown host key.

    `StrictHostKeyChecking=ask` in batch mode is a refusal, whatever weaker setting the user's configuration has.
    """
    options: Sequence[str] = (
        "BatchMode=yes",
        "StrictHostKeyChecking=ask",
        f"ConnectTimeout={CONNECT_TIMEOUT_S}",
        f"ServerAliveInterval={ALIVE_INTERVAL_S}",
        f"ServerAliveCountMax={ALIVE_COUNT}",
        "RemoteCommand=none",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
    )
    argv = ["ssh", "-T", "-x", *(word for option in options for word in ("-o", option))]
    if address.port is not None:
        argv += ["-p", str(address.port)]
    if address.user is not None:
        argv += ["-l", address.user]
    return (*argv, "--", address.host)


def _last_line(text: str) -> str:
    """The last line with something in it, without what a terminal would take for a command."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return "".join(char for char in lines[-1] if char.isprintable()) if lines else ""
