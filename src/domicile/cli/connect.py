"""`-c/--connect URI`, and the host that a command means when it is not given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["XEN_CAPABILITIES", "connect_option", "default_uri", "is_dom0", "named_uri"]

XEN_CAPABILITIES = Path("/proc/xen/capabilities")

Command = TypeVar("Command", bound=Callable[..., Any])


def connect_option(command: Command) -> Command:
    """Give a command `-c/--connect URI`, as its parameter `connect`: None where it is not given (see `default_uri`)."""
    return click.option(
        "-c",
        "--connect",
        metavar="URI",
        help="The host: xen:///, xen+ssh://[user@]host[:port]/, lab:///NAME or sim:///NAME. "
        "Else $DOMICILE_URI, this Dom0, or sim:///default.",
    )(command)


def is_dom0() -> bool:
    """Whether this is the control domain of a Xen host: xenfs says `control_d`."""
    try:
        return "control_d" in XEN_CAPABILITIES.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def named_uri(connect: str | None) -> str | None:
    """The URI that the user gave, with the option or in `DOMICILE_URI`; None if neither (an empty one is none)."""
    return connect or os.environ.get("DOMICILE_URI") or None


def default_uri(connect: str | None = None) -> str:
    """The host to open: the one given, else `DOMICILE_URI`, else this Dom0, else the simulated default."""
    return named_uri(connect) or ("xen:///" if is_dom0() else "sim:///default")
