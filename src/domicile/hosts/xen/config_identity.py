"""Which domain an `xl.cfg` text makes: its name and its UUID.

Source: tools/libs/util/libxlu_cfg_l.l and libxlu_cfg_y.y (Xen 4.17): statements end with a newline or ";", strings do
not cross lines, a "#" outside a string starts a comment, lists may span lines, the last of several assignments counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

__all__ = ["ConfigIdentity", "config_identity"]

TOKEN = re.compile(
    r"""(?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""
    r"""|(?P<comment>\#[^\n]*)|(?P<end>[\n;])|(?P<open>\[)|(?P<close>\])"""
    r"""|(?P<word>[a-z][._0-9a-z]*)|(?P<assign>=)|(?P<blank>[ \t\r]+)|(?P<other>.)"""
)

ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class ConfigIdentity:
    """The name, and the UUID in lower case; None where the text does not set it (or not to a UUID)."""

    name: str | None
    uuid: str | None


def config_identity(text: str) -> ConfigIdentity:
    """The identity that the text sets. Never fails: what `xl` would not understand, `xl` shall complain of."""
    found: dict[str, str] = {}
    depth = 0
    statement: list[tuple[str, str]] = []
    for match in TOKEN.finditer(text + "\n"):
        kind, token = match.lastgroup or "", match.group()
        if kind in ("blank", "comment"):
            continue
        if kind == "end" and depth == 0:
            if [part for part, _ in statement] == ["word", "assign", "string"]:
                found[statement[0][1]] = ESCAPE.sub(r"\1", statement[2][1][1:-1])
            statement = []
            continue
        depth += {"open": 1, "close": -1 if depth else 0}.get(kind, 0)
        statement.append((kind, token))
    return ConfigIdentity(found.get("name"), _canonical(found.get("uuid", "")))


def _canonical(uuid: str) -> str | None:
    """A UUID as Xen prints it; None for what is none (libxl reads the dashed and the bare form)."""
    if not re.fullmatch(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", uuid, re.IGNORECASE | re.ASCII):
        return None
    return str(UUID(uuid))
