"""`--config FILE`: the administrator's intent, for commands that decide of their own accord."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["intent_option"]

Command = TypeVar("Command", bound=Callable[..., Any])


def intent_option(command: Command) -> Command:
    """Give a command `--config FILE`, as its parameter `intent_path`: None where it is not given."""
    return click.option(
        "--config",
        "intent_path",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="What may be done to which domain (TOML); else /etc/domicile/domicile.toml, where it is there.",
    )(command)
