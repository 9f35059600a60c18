"""`domicile run --unit`: the systemd unit for this installation and this host."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from domicile.errors import BadInput

__all__ = ["exec_line", "unit"]

FOLDERS_OF_PEOPLE = ("/home", "/root", "/run/user")

THIS_DOM0 = """\
# what agents on this host share; it outlives the service
RuntimeDirectory=domicile
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
# Xen's devices, and xenstored's socket (/run/xenstored/socket)
DevicePolicy=closed
DeviceAllow=/dev/xen/privcmd rw
DeviceAllow=/dev/xen/hypercall rw
DeviceAllow=/dev/xen/evtchn rw
DeviceAllow=/dev/xen/xenbus rw
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
ReadWritePaths=-/var/lib/xen -/run/lock -/run/xen
# libxenctrl locks the pages that Xen writes to
CapabilityBoundingSet=CAP_IPC_LOCK
LimitMEMLOCK=infinity
"""

BY_SSH = """\
PrivateDevices=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
CapabilityBoundingSet=
"""


def unit(uri: str, intent_path: Path | None, program: Sequence[str] = ()) -> str:
    """The unit's text. `program` is what starts domicile, as a rule this Python.

    Raises `BadInput` for a host that has no need of a service: one that is simulated or a lab.
    """
    scheme = uri.partition(":")[0]
    if scheme not in ("xen", "xen+ssh"):
        raise BadInput(uri, "a service manages xen:/// or xen+ssh://...; a simulated host or a lab has no use for one")
    local = scheme == "xen"
    program = program or (sys.executable, "-P", "-m", "domicile")
    command = [*program, "run", "--notify", "--connect", uri]
    command += ["--config", str(intent_path.absolute())] if intent_path else []
    # keys and known hosts of ssh are in a home; so is an installation at times
    at_home = not local or any(_is_at_home(path) for path in (*map(Path, program[:1]), *filter(None, [intent_path])))
    order = (
        "After=xenstored.service xendomains.service"
        if local
        else "After=network-online.target\nWants=network-online.target"
    )
    words = {
        "HOST": uri,
        "ORDER": order + ("\nConditionPathExists=/proc/xen/capabilities" if local else ""),
        "EXEC": exec_line(command),
        "PLACE": (THIS_DOM0 if local else BY_SSH).rstrip(),
        "HOME": "read-only" if at_home else "yes",
    }
    text = (files("domicile") / "data" / "domicile.service").read_text("utf-8")
    for name, word in words.items():
        text = text.replace(f"@{name}@", word if name in ("EXEC", "ORDER", "PLACE") else word.replace("%", "%%"))
    return text


def exec_line(command: Sequence[str]) -> str:
    """A command as `ExecStart=` reads it: quoted, with "%" and "$" doubled (systemd.service(5), "Command lines")."""
    return " ".join(map(_word, command))


def _word(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    if not escaped.isprintable():
        raise BadInput("--unit", f"{word!a} cannot be in a unit's command line")
    return f'"{escaped}"' if not escaped or any(character in " ;'\"\\" for character in escaped) else escaped


def _is_at_home(path: Path) -> bool:
    return path.absolute().as_posix().startswith(tuple(f"{folder}/" for folder in FOLDERS_OF_PEOPLE))
