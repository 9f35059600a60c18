"""`domicile topology`: the machine."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command()
def command() -> None:
    """Show the machine."""
    raise click.ClickException("not there yet")
