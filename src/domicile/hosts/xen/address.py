"""`xen:///` and `xen+ssh://[user@]host[:port]/`: which Dom0 a URI names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from domicile.errors import BadInput

__all__ = ["SshAddress", "parse_ssh_uri", "require_local_uri"]

FORM = "xen+ssh://[user@]host[:port]/"
AUTHORITY = re.compile(r"(?:(?P<user>[^@/]*)@)?(?P<host>\[[^\]/@]*\]|[^:/@\[\]]*)(?::(?P<port>[^/@]*))?(?P<path>/.*)?")
USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+@\\-]*\$?")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?")


@dataclass(frozen=True, slots=True)
class SshAddress:
    """A host to reach over SSH; None leaves user and port to the user's ssh configuration."""

    host: str
    user: str | None = None
    port: int | None = None

    @property
    def shown(self) -> str:
        """The host for a message."""
        return self.host if self.port is None else f"{self.host} port {self.port}"


def require_local_uri(uri: str) -> None:
    """Raise `BadInput` unless this is `xen:///`."""
    if uri.partition(":")[2] not in ("///", "//", "/"):
        raise BadInput(uri, f"this Dom0 is xen:///; another one is {FORM}")


def parse_ssh_uri(uri: str) -> SshAddress:
    """The address in a `xen+ssh` URI. Raises `BadInput` for what is none, or what OpenSSH could take for an option."""
    match = AUTHORITY.fullmatch(uri.partition("://")[2])
    if match is None or (match["path"] or "/") != "/":
        raise BadInput(uri, f"not of the form {FORM}")
    user = None
    if match["user"] is not None:
        if ":" in match["user"]:
            raise BadInput(uri.replace(match["user"], "…"), "a password has no place in a URI; use a key")
        user = _decoded(uri, match["user"])
        if not USER.fullmatch(user):
            raise BadInput(uri, f"{user!r} is no user name for ssh")
    host = _decoded(uri, match["host"])
    if host.startswith("["):
        host = host[1:-1]
        if not IPV6.fullmatch(host):
            raise BadInput(uri, f"[{host}] is no IPv6 address")
    elif not NAME.fullmatch(host):
        raise BadInput(uri, f"{host!r} is no host name; give {FORM}")
    return SshAddress(host, user, _port(uri, match["port"]))


def _decoded(uri: str, part: str) -> str:
    """Percent-encoding undone."""
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError as error:
        raise BadInput(uri, f"{part!r} is not UTF-8 in percent-encoding") from error


def _port(uri: str, text: str | None) -> int | None:
    """The port; an empty one (`host:/`) is none."""
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) or not 0 < int(text) < 65536:
        raise BadInput(uri, f"{text!r} is no port")
    return int(text)
