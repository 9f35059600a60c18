"""`domicile lab`: a real Xen on an emulated NUMA machine."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command()
def command() -> None:
    """A real Xen on an emulated NUMA machine."""
    raise click.ClickException("not there yet")
